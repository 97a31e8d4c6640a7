"""What `zsd compile` is told: flags, keys of a job file's ``[compile]`` table, checked when made."""

from __future__ import annotations

from dataclasses import dataclass

from zsd.assets import BUNDLED_TEACHER, sample_path
from zsd.config import NLI_HELP
from zsd.engines.registry import DRAFT, ENGINE_NAMES, precisions_of
from zsd.errors import ConfigError
from zsd.labels import DEFAULT_TEMPLATE, LabelSet, read_label_file
from zsd.options import Options, option


@dataclass(frozen=True, kw_only=True)
class CompileConfig(Options):
    """`zsd compile`: an NLI checkpoint to a sparse or int8 form of it, or one with a draft, calibrated on a corpus."""

    output: str = option("directory to make (new); --teacher takes it afterwards", metavar="DIR")
    teacher: str = option(
        "NLI checkpoint: bundled, a directory, or a hub name", BUNDLED_TEACHER, metavar="NAME_OR_PATH"
    )
    student: str | None = option(
        "compile this encoder student (also a URI) instead of a teacher, with --data of its own", None, metavar="DIR"
    )
    data: tuple[str, ...] = option(
        "rows to calibrate and measure on: files, folders, globs or URIs (default: the bundled sample)",
        (),
        metavar="PATH",
    )
    text_column: str = option("column that holds the text", "text", metavar="COLUMN")
    labels: str | None = option("text file with one class name a line", None, metavar="FILE")
    label: tuple[str, ...] = option("a class name; repeat the flag for each, instead of --labels", (), repeat=True)
    template: str = option("hypothesis template; {} is where the class name goes", DEFAULT_TEMPLATE, metavar="TEXT")
    multi_label: bool = option("several classes may be true of one text", False)
    nli_classes: str | None = option(NLI_HELP, None, metavar="NAME,NAME")
    max_length: int | None = option("most tokens of a premise/hypothesis pair (default: the teacher's limit)", None)
    sparsity: float = option("share of the encoder's weights to set to zero, from 0 to below 1", 0.0)
    method: str = option(
        "how weights are chosen: gradual trains for many minutes, the others take a minute and lose more",
        "gradual",
        choices=("gradual", "sparsegpt", "wanda", "magnitude"),
    )
    steps: int | None = option(
        "training steps of 32 pairs, while weights go to zero or after it (default: 2000 for gradual, else none)",
        None,
    )
    pairs: str | None = option(
        "parquet file with columns premise and hypothesis to train on (default: the rows with the class names)",
        None,
        metavar="FILE",
    )
    start: str | None = option(
        "sparse form of the teacher to start from; what is zero in it stays zero", None, metavar="DIR"
    )
    int8: bool = option("write int8 forms", True)
    draft: int | None = option(
        "train a draft of so many layers (one, or two) on the rows: it looks first, the teacher where it is in doubt",
        None,
        metavar="LAYERS",
    )
    draft_steps: int | None = option("training steps of some 64 pairs of the draft, at most (default: 1500)", None)
    min_agreement: float = option("int8 and the draft must have this top-1 agreement with fp32 on held-out rows", 0.99)
    limit: int | None = option("use only the first N rows", None)
    calibration_rows: int = option(
        "rows to use: an eighth sets the ranges, three eighths decide what stays in fp32 or runs again, half measures",
        512,
    )
    engine: tuple[str, ...] = option(
        "engines to write and measure forms for (default: all that run here)", (), metavar="ENGINE"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self._at_least(1, "limit", "max_length")
        self._at_least(16, "calibration_rows")
        self._check(0 <= self.sparsity < 1, "sparsity", f"{self.sparsity}: it must be from 0 to below 1, such as 0.8")
        self._check(0 <= self.min_agreement <= 1, "min_agreement", f"{self.min_agreement}: it must be from 0 to 1")
        self._at_least(1 if self.method == "gradual" else 0, "steps")
        if self.sparsity == 0:
            for name in ("steps", "pairs", "start"):
                self._check(getattr(self, name) is None, name, "for pruning: give --sparsity above 0 too")
        for one in self.engine:
            known = ", ".join(ENGINE_NAMES)
            self._check(one in ENGINE_NAMES, "engine", f"{one!r}: use {known}")
        if self.int8 and not self._among_the_engines("int8"):
            told = "has no int8 form: add --no-int8, or name another engine"
            raise ConfigError(f"--engine {' '.join(self.engine)} {told}")
        self._at_least(1, "draft", "draft_steps")
        self._check(
            self.draft_steps is None or self.draft is not None, "draft_steps", "for a draft: give --draft 1 too"
        )
        if self.draft is not None and not self._among_the_engines(DRAFT):
            offered = " or ".join(name for name in ENGINE_NAMES if DRAFT in precisions_of(name))
            raise ConfigError(f"--engine {' '.join(self.engine)} has no draft: leave --draft away, or add {offered}")
        if self.sparsity == 0 and not self.int8 and self.draft is None:
            raise ConfigError("nothing to compile: give --sparsity above 0, --int8 or --draft 1")
        named = self.labels is not None or bool(self.label)
        if self.labels is not None and self.label:
            raise ConfigError("give the class names once: --labels FILE, or --label NAME for each")
        if self.student is not None:
            self._check_student(named)
        elif bool(self.data) != named:
            raise ConfigError("--data goes with --labels or --label: give both, or neither for the bundled sample")

    def _check_student(self, named: bool) -> None:
        self._check(bool(self.data), "student", "without rows of its kind: give --data too")
        told = "for teachers: leave --labels and --label away with --student"
        self._check(not named, "labels", told)
        self._check(
            self.sparsity == 0 and self.int8 and self.draft is None,
            "student",
            "compiled to int8 only: no --sparsity, no --draft, no --no-int8",
        )

    def label_set(self) -> LabelSet:
        """The class names; those of the bundled sample without a corpus.

        Raises:
            LabelSetError: see `LabelSet` and `read_label_file`.
        """
        file = self.labels if self.data else str(sample_path("labels.txt"))
        names = self.label or read_label_file(str(file))
        return LabelSet(names=names, template=self.template, multi_label=self.multi_label)

    def _among_the_engines(self, precision: str) -> bool:
        """Whether an engine that was named has a precision; all are where none was."""
        return not self.engine or any(precision in precisions_of(name) for name in self.engine)
