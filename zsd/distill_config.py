"""How a student is to be trained: the options that `zsd distill` and `zsd run` share."""

from __future__ import annotations

from dataclasses import dataclass

from zsd.errors import ConfigError
from zsd.options import Options, option

CALIBRATIONS = ("auto", "none", "information", "batch", "contextual")
WEIGHTINGS = ("none", "confidence", "margin")


@dataclass(frozen=True, kw_only=True)
class TrainingChoices(Options):
    """What a student is, what it learns from, and how."""

    student: str | None = option(
        "layers:N (a number, half, all) of the teacher, joint:N (the same, but it reads the class names before the "
        "text; joint: all layers), static, linear, or a checkpoint directory, URI or hub name; an earlier student's: "
        "it is trained on "
        "(default: layers:half with a bundled teacher, else distilbert/distilbert-base-uncased)",
        None,
        metavar="NAME_OR_PATH",
    )
    students: tuple[str, ...] = option(
        "train several: the first goes to student/, each other to student-NAME/", (), metavar="NAME_OR_PATH"
    )
    num_workers: int | None = option(
        "training workers; a cluster that has too few CPUs for as many as are asked for is waited for (default: 1)",
        None,
    )
    min_workers: int | None = option(
        "go on with as few workers as this when some are lost and no place is found for new ones (default: wait)", None
    )
    calibrate: str = option(
        "take the teacher's preference for some classes off its labels: auto (where the rows themselves support it), "
        "information, batch, contextual, none",
        "auto",
        choices=CALIBRATIONS,
    )
    weight: str = option(
        "weigh a row in the loss by the teacher's confidence, or by its margin over the second class",
        "none",
        choices=WEIGHTINGS,
    )
    balance: float = option("0: every row once an epoch; 1: rows drawn so that each class comes equally often", 0.0)
    hard_labels: float = option("share of the loss on the teacher's best class instead of its soft label", 0.0)
    rounds: int = option("rounds of self-training after the training on the teacher's labels", 0)
    patience: int | None = option(
        "stop after this many evaluations without a better held-out agreement (default: train all epochs)", None
    )
    gold: tuple[str, ...] = option(
        "rows with reviewed labels: they join the training, override the teacher, and calibrate", (), metavar="PATH"
    )
    gold_text_column: str = option("column of --gold that holds the text", "text", metavar="COLUMN")
    gold_label_column: str = option("column of --gold that holds the label", "label", metavar="COLUMN")
    gold_weight: float = option("how often a reviewed row is seen for each time that another is", 5.0)
    freeze_embeddings: bool | None = option(
        "do not train the token embeddings (default: only for layers: and joint: students)", None
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self._at_least(1, "num_workers", "min_workers", "patience")
        self._at_least(0, "rounds")
        if self.min_workers is not None and self.min_workers > self.workers:
            raise ConfigError(f"--min-workers {self.min_workers} is more than --num-workers {self.workers}: lower it")
        for name in ("balance", "hard_labels"):
            share = getattr(self, name)
            self._check(0 <= share <= 1, name, f"{share}: it must be from 0 to 1")
        self._check(self.gold_weight > 0, "gold_weight", f"{self.gold_weight}: it must be above 0")
        if self.student is not None and self.students:
            raise ConfigError("--student and --students are both given: name all students with --students")
        if len(set(self.students)) < len(self.students):
            raise ConfigError(f"--students {' '.join(self.students)}: one is named twice: name each once")

    @property
    def workers(self) -> int:
        """Training workers: as many as were asked for, or one."""
        return 1 if self.num_workers is None else self.num_workers
