"""What `zsd annotate` is told."""

from __future__ import annotations

from dataclasses import dataclass

from zsd.config import STUDENT_PRECISION_HELP, LabelConfig
from zsd.distill_config import TrainingChoices
from zsd.engines.registry import ENGINE_NAMES, STUDENT_PRECISIONS, default_precision, refusal
from zsd.errors import ConfigError
from zsd.options import option


@dataclass(frozen=True, kw_only=True)
class AnnotateConfig(LabelConfig, TrainingChoices):
    """`zsd annotate`: the teacher's labels for a whole corpus from a sample of its pairs, a student and deferral."""

    student: str | None = option(
        "see zsd distill (default: joint with a bundled teacher, if the class names fit into it, else as there)",
        None,
        metavar="NAME_OR_PATH",
    )
    min_agreement: float = option("least share of the rows whose answer is to be the teacher's", 0.97)
    alpha: float = option("probability that this promise is broken, over the choice of the judging rows", 0.1)
    judging_rows: int | None = option(
        "rows of the sample that only judge the student (default: as many as pay for themselves)", None
    )
    first_rows: int | None = option("rows that the first student is trained on (default: as many)", None)
    growth: float = option("how many times as many the next student is trained on, as long as that pays", 2.0)
    student_engine: str = option("what runs an encoder student", "torch", choices=ENGINE_NAMES)
    student_precision: str | None = option(STUDENT_PRECISION_HELP, None, choices=STUDENT_PRECISIONS)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._at_least(1, "judging_rows", "first_rows")
        self._check(0 < self.min_agreement < 1, "min_agreement", f"{self.min_agreement}: it must be between 0 and 1")
        self._check(0 < self.alpha < 1, "alpha", f"{self.alpha}: it must be between 0 and 1")
        self._check(self.growth > 1, "growth", f"{self.growth}: it must be above 1")
        self._refuse(
            "student_precision", refusal(self.student_engine, self.chosen_student_precision, STUDENT_PRECISIONS)
        )
        if self.students:
            raise ConfigError("--students: zsd annotate trains one kind of student: name it with --student")
        if self.patience is not None:
            raise ConfigError(
                "--patience: zsd annotate may not choose by the rows that prove its bound: use --num_train_epochs"
            )

    @property
    def chosen_student_precision(self) -> str:
        """What was asked for, or what the student's engine computes with by itself."""
        return self.student_precision or default_precision(self.student_engine)
