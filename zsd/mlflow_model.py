"""A student as an MLflow model, in MLflow's "models from code" form: this file is logged, and nothing is pickled.

MLflow runs it where the model is loaded; zsd has to be installed there. Nothing in zsd imports it.
"""

from __future__ import annotations

from typing import Any

import mlflow.models
import mlflow.pyfunc
import pandas as pd

from zsd.students import load_student

STUDENT = "student"
"""Name of the artefact that is the student's folder."""


class StudentModel(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """Texts in the column ``text`` to columns ``label`` and ``score``."""

    def load_context(self, context: Any) -> None:
        """Load the student, of whatever kind it is."""
        self.student = load_student(context.artifacts[STUDENT])

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """One row for each text: its most probable class, and how probable that is."""
        probs_NK = self.student.predict(model_input["text"].tolist())
        labels = [self.student.names[k] for k in probs_NK.argmax(axis=1)]
        return pd.DataFrame({"label": labels, "score": probs_NK.max(axis=1).astype(float)})


mlflow.models.set_model(StudentModel())
