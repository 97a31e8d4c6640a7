"""What `zsd benchmark` is told: flags, keys of a job file's ``[benchmark]`` table, checked when made."""

from __future__ import annotations

from dataclasses import dataclass

from zsd.config import NLI_HELP
from zsd.engines.registry import ENGINE_NAMES, PRECISIONS, STUDENT_PRECISIONS, precisions_of
from zsd.options import Options, option


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig(Options):
    """`zsd benchmark`: what was gained, in speed and in quality."""

    model: tuple[str, ...] = option(
        "student directory, or output of zsd distill with all its students, also a URI; repeated for several",
        metavar="DIR",
        repeat=True,
    )
    data: tuple[str, ...] = option("rows to measure on, with gold labels where there are any", metavar="PATH")
    output: str = option("output directory; the report goes to its benchmark/ folder", metavar="DIR")
    teacher: str | None = option(
        "NLI checkpoint (default: the one the student was distilled from)", None, metavar="NAME_OR_PATH"
    )
    template: tuple[str, ...] = option(
        "hypothesis template, repeated for several (default: those the student was distilled with)",
        (),
        metavar="TEXT",
        repeat=True,
    )
    nli_classes: str | None = option(NLI_HELP, None, metavar="NAME,NAME")
    text_column: str = option("column that holds the text", "text", metavar="COLUMN")
    label_column: str = option(
        "column with the gold label; without such a column quality is agreement only", "label", metavar="COLUMN"
    )
    limit: int | None = option("use only the first N rows for quality", 1000)
    speed_rows: int = option("rows of one speed measurement", 200)
    rounds: int = option("speed measurements of each contestant, in turn; the median counts", 3)
    round_seconds: float = option("most seconds of one of them; who needs longer is timed on the rows it did", 30.0)
    engines: tuple[str, ...] = option(
        "teacher engines to time (default: all that this machine and the teacher admit)",
        (),
        metavar="ENGINE:PRECISION",
    )
    student_engines: tuple[str, ...] = option(
        "engines to time encoder students on (default: torch:fp32 torch:bf16, and native:bf16 where it runs them)",
        (),
        metavar="ENGINE:PRECISION",
    )
    compiled: tuple[str, ...] = option(
        "compiled forms of the teacher to time beside it: directories made by zsd compile, or bundled-sparse",
        (),
        metavar="DIR_OR_NAME",
    )
    min_agreement: float = option("top-1 agreement with fp32 torch from which an engine counts as admitted", 0.99)
    ray_address: str | None = option("Ray cluster to use (default: $RAY_ADDRESS, else one started here)", None)
    old_recipe: bool = option("also time the loop of the old DeepSparse zero-shot recipe", True)
    ray_overhead: bool = option("also time zsd label with one actor against the bare engine", True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check(len(self.model) > 0, "model", "empty: name a student")
        self._check(len(self.data) > 0, "data", "empty: name the rows to measure on")
        self._at_least(1, "limit", "speed_rows", "rounds")
        self._check(self.round_seconds > 0, "round_seconds", f"{self.round_seconds}: it must be above 0")
        self._check(0 <= self.min_agreement <= 1, "min_agreement", f"{self.min_agreement}: it must be from 0 to 1")
        self._check_engines("engines", PRECISIONS)
        self._check_engines("student_engines", STUDENT_PRECISIONS)

    def _check_engines(self, name: str, precisions: tuple[str, ...]) -> None:
        for one in getattr(self, name):
            engine, _, precision = one.partition(":")
            told = f"{one!r}: write ENGINE:PRECISION, of {', '.join(ENGINE_NAMES)} and {', '.join(precisions)}"
            self._check(engine in ENGINE_NAMES and precision in precisions, name, told)
            known = precisions_of(engine, "cpu")
            self._check(precision in known, name, f"{one!r}: on a CPU the {engine} engine has {', '.join(known)}")
