"""What `zsd nightly` and `zsd rollback` are told."""

from __future__ import annotations

import re
from dataclasses import dataclass

from zsd.config import OUTPUT_HELP, LabelConfig
from zsd.distill_config import TrainingChoices
from zsd.errors import ConfigError
from zsd.gate import Bounds
from zsd.options import Options, option

NIGHT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
REGISTRY_HELP = "model registry: directory or URI (default: registry below --output)"
EXPIRY_HELP = "seconds of silence after which the lock of a run that died may be taken over"
TRACKING_FILE = "sqlite:///mlflow.db"
"""Where MLflow itself logs if it is told nothing: a file in the current folder."""


@dataclass(frozen=True, kw_only=True)
class NightlyConfig(LabelConfig, TrainingChoices):
    """`zsd nightly`: label what is new, distill, judge, and put the student into production if it passes the gate."""

    output: str = option(f"where the nights work, each in a folder of its own: {OUTPUT_HELP}", metavar="DIR")
    registry: str | None = option(REGISTRY_HELP, None, metavar="DIR")
    night: str | None = option(
        "name of this run, as a date; a run of the same name goes on where that one stopped (default: a name made of "
        "the inputs and options)",
        None,
        metavar="NAME",
    )
    test: tuple[str, ...] = option(
        "fixed rows with gold labels that the gate judges on (default: held-out rows of the first night, with the "
        "teacher's labels)",
        (),
        metavar="PATH",
    )
    label_column: str = option("column of --test with the gold label", "label", metavar="COLUMN")
    heldout_fraction: float = option("share of the rows kept out of training to measure agreement", 0.1)
    from_scratch: bool = option("do not start from the student in production", False)
    max_regression: float = option("gate: most that accuracy (multi-label: micro F1) may lie below production's", 0.01)
    min_score: float | None = option("gate: least accuracy (multi-label: micro F1), also of the first night", None)
    class_floor: float = option("gate: least F1 of every class", 0.05)
    max_class_drop: float = option("gate: most that the F1 of a class may lie below production's", 0.1)
    class_rows: int = option("gate: a class with fewer rows in the test is not judged by itself", 20)
    max_ece: float | None = option("gate: most expected calibration error", None)
    max_ece_rise: float = option("gate: most that the calibration error may lie above production's", 0.05)
    max_balance_drift: float = option(
        "gate: most population stability index between the classes of production's rows and of rows it has not seen",
        0.25,
    )
    keep: int = option(
        "versions and nights that are kept; what is in production, what was before it, and what an unfinished night "
        "of this output builds on always stay",
        5,
    )
    lock_expiry: float = option(EXPIRY_HELP, 900.0, metavar="SECONDS")
    mlflow: str | None = option(
        "also log parameters, figures, reports and a promoted student to MLflow: to this tracking URI, or, where none "
        "is given, to the file mlflow.db here (needs the extra: tracking)",
        None,
        metavar="URI",
        bare=TRACKING_FILE,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.students:
            raise ConfigError("--students: zsd nightly puts one student into production: name it with --student")
        if self.night is not None:
            told = f"{self.night!r}: use up to 64 letters, digits and . _ -"
            self._check(NIGHT_NAME.fullmatch(self.night) is not None, "night", told)
        fraction = self.heldout_fraction
        self._check(0 < fraction < 1, "heldout_fraction", f"{fraction}: it must be between 0 and 1")
        for name in ("max_regression", "class_floor", "max_class_drop", "max_ece_rise", "min_score", "max_ece"):
            share = getattr(self, name)
            self._check(share is None or 0 <= share <= 1, name, f"{share}: it must be from 0 to 1")
        self._check(self.max_balance_drift >= 0, "max_balance_drift", f"{self.max_balance_drift}: it is never negative")
        self._at_least(1, "keep", "class_rows")
        _check_expiry(self.lock_expiry)

    @property
    def bounds(self) -> Bounds:
        """What the gate asks."""
        return Bounds(**{name: getattr(self, name) for name in Bounds.__dataclass_fields__})


@dataclass(frozen=True, kw_only=True)
class RollbackConfig(Options):
    """`zsd rollback`: put an earlier student back into production."""

    registry: str = option("model registry: directory or URI", metavar="DIR")
    to: str | None = option(
        "version, its number, or its night (default: what was in production before)", None, metavar="VERSION"
    )
    lock_expiry: float = option(EXPIRY_HELP, 900.0, metavar="SECONDS")

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_expiry(self.lock_expiry)


def _check_expiry(expiry: float) -> None:
    if expiry < 2:
        raise ConfigError(f"--lock-expiry is {expiry:g}: it must be 2 seconds or more")
