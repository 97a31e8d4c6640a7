"""What `zsd ablation` is told."""

from __future__ import annotations

from dataclasses import dataclass

from zsd.options import Options, option


@dataclass(frozen=True, kw_only=True)
class AblationConfig(Options):
    """`zsd ablation`: what each step of the training brings, measured on gold labels that no training sees."""

    soft_labels: str = option("output directory of zsd label", metavar="DIR")
    ensemble: str | None = option(
        "the same rows labelled with several templates: one more step, the template ensemble", None, metavar="DIR"
    )
    test: tuple[str, ...] = option("rows with gold labels to score on", metavar="PATH")
    test_rows: int | None = option("score on the first N of them only", None)
    teacher_labels: str | None = option(
        "output directory of zsd label of the --test texts: the teacher itself is the first line", None, metavar="DIR"
    )
    text_column: str = option("column of --test and --gold that holds the text", "text", metavar="COLUMN")
    label_column: str = option("column of --test and --gold with the gold label", "label", metavar="COLUMN")
    output: str = option("output directory; every cell of the table is a job in it, done once", metavar="DIR")
    student: str | None = option("as for zsd distill", None, metavar="NAME_OR_PATH")
    seeds: int = option("trainings of each step", 3)
    rows: int | None = option("train on the first N rows of the store only", None)
    epochs: float | None = option("epochs of each training (default: as zsd distill chooses)", None)
    rounds: int = option("rounds of the step that trains on the student's own answers", 1)
    gold_curve: bool = option("measure what reviewed rows bring instead: 0, 50, 200 and 1,000 of --gold", False)
    gold: tuple[str, ...] = option("rows with gold labels to take reviewed rows from", (), metavar="PATH")
    ray_address: str | None = option(
        "Ray cluster to use (default: $RAY_ADDRESS, else one started here)", None, metavar="ADDRESS"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self._at_least(1, "seeds", "rows", "rounds", "test_rows")
        self._check(len(self.test) > 0, "test", "empty: name the rows with gold labels")
        self._check(self.epochs is None or self.epochs > 0, "epochs", f"{self.epochs}: it must be above 0")
        self._check(
            not self.gold_curve or self.teacher_labels is None, "teacher_labels", "not with --gold-curve: leave it away"
        )
        self._check(not self.gold_curve or len(self.gold) > 0, "gold_curve", "given without --gold: name reviewed rows")
