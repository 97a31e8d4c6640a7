"""MLflow, where it is asked for: parameters, figures, reports, and a promoted student with its signature.

The library is optional (``pip install '.[tracking]'``): it is imported here only, without its telemetry.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import zsd
from zsd import storage
from zsd.console import say
from zsd.errors import ConfigError, StoreError
from zsd.night import Night
from zsd.students.folder import STUDENT, local_student

EXPERIMENT = "zsd-nightly"
SQLITE = "sqlite:///"
NIGHT_TAG = "zsd_night"
"""Tag that tells a night from one of the same name elsewhere: several projects may share a tracking server."""

ARTEFACTS = ("gate.json", "drift.json", "drift.html", "profile.json")
NAME = re.compile(r"[^A-Za-z0-9_\-. /]")
"""What MLflow does not take in the name of a figure."""

LONGEST_PARAMETER = 6000
"""Characters of a parameter's value that MLflow keeps."""


def check_tracking(uri: str) -> None:
    """See that MLflow is there and takes the URI, before hours of work, and say where it logs.

    Raises:
        ConfigError: it is not installed, or does not know the URI.
    """
    mlflow = _mlflow(uri)
    try:
        mlflow.search_experiments(max_results=1)
    except _failures() as error:
        raise ConfigError(f"--mlflow {uri}: cannot be reached: {storage.first_line(error)}") from None
    say(f"tracking: {_absolute(uri)}")


def log_night(uri: str, result: dict[str, Any], night: Night) -> None:
    """Log a night as one run of the experiment ``zsd-nightly``; an earlier attempt's run is used again.

    Args:
        uri: tracking URI.
        result: of `zsd.distributed.nightly.nightly`.
        night: whose folder holds the reports and the student.

    Raises:
        StoreError: the tracking server failed; the decision stands, and the same command logs it again.
    """
    mlflow = _mlflow(uri)
    try:
        if mlflow.get_experiment_by_name(EXPERIMENT) is None:
            mlflow.create_experiment(EXPERIMENT, artifact_location=_artefact_folder(uri))
        mlflow.set_experiment(EXPERIMENT)
        same = f"run_name = '{night.name}' and tags.{NIGHT_TAG} = '{night.key}'"
        earlier = mlflow.search_runs(filter_string=same, output_format="list", max_results=1)
        with mlflow.start_run(run_id=earlier[0].info.run_id if earlier else None, run_name=night.name):
            mlflow.log_params({name: _shortened(value) for name, value in _flat(night.recipe)})
            told = {name: result[name] or "" for name in ("decision", "version", "reason")}
            mlflow.set_tags(told | {NIGHT_TAG: night.key})
            mlflow.log_metrics(dict(figures(result)))
            with tempfile.TemporaryDirectory(prefix="zsd-mlflow-") as scratch:
                for name in ARTEFACTS:
                    if storage.exists(night.path(name)):
                        (Path(scratch) / name).write_bytes(storage.read_bytes(night.path(name)))
                mlflow.log_artifacts(scratch)
            if result["version"] is not None:
                _log_student(mlflow, local_student(night.path(STUDENT)))
    except _failures() as error:
        raise StoreError(
            f"--mlflow {uri}: {storage.first_line(error)}: the night's decision ({result['decision']}) stands, run the "
            "same command again to log it"
        ) from None


def figures(result: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """Every number of a night's result under a name that MLflow takes."""
    kept = {key: result.get(key) for key in ("label", "metrics", "drift")}
    for name, value in _flat({key: value for key, value in kept.items() if value}):
        if isinstance(value, int | float) and not isinstance(value, bool) and np.isfinite(value):
            yield NAME.sub("_", name), float(value)


def _log_student(mlflow: Any, folder: Path) -> None:
    """The student as a model that takes texts and gives classes, whatever its kind; see `zsd.mlflow_model`."""
    from mlflow.models import ModelSignature
    from mlflow.types.schema import ColSpec, Schema

    signature = ModelSignature(
        inputs=Schema([ColSpec("string", name="text")]),
        outputs=Schema([ColSpec("string", name="label"), ColSpec("double", name="score")]),
    )
    mlflow.pyfunc.log_model(
        name=STUDENT,
        python_model=str(Path(__file__).with_name("mlflow_model.py")),
        artifacts={STUDENT: str(folder)},
        signature=signature,
        pip_requirements=[f"zsd=={zsd.__version__}"],
    )


def _mlflow(uri: str) -> Any:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("DO_NOT_TRACK", "true")
    try:
        import mlflow
        import mlflow.exceptions
        import mlflow.pyfunc
        import sqlalchemy  # noqa: F401  MLflow would miss it only when it opens a database
    except ImportError:
        raise ConfigError(f"--mlflow {uri}: MLflow is not installed: pip install 'zsd[tracking]'") from None
    mlflow.set_tracking_uri(_absolute(uri))
    return mlflow


def _failures() -> tuple[type[Exception], ...]:
    """What is raised where MLflow cannot log: its own error, its database's, that of a driver which is not there."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return MlflowException, SQLAlchemyError, OSError, ImportError


def _absolute(uri: str) -> str:
    """The same database for a process that works in another folder, as Ray's do."""
    return f"{SQLITE}{Path(uri.removeprefix(SQLITE)).resolve()}" if uri.startswith(SQLITE) else uri


def _artefact_folder(uri: str) -> str | None:
    """Beside a database that is a file; a server knows by itself where (None)."""
    if not uri.startswith(SQLITE):
        return None
    return (Path(uri.removeprefix(SQLITE)).resolve().parent / "mlartifacts").as_uri()


def _flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested dictionaries as ``outer.inner`` and value."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _shortened(value: Any) -> str:
    return str(value)[:LONGEST_PARAMETER]
