"""What each job is told: frozen dataclasses, checked when made.

Every field is a flag (`zsd.cli`) and a key of a job file (`zsd.job_file`).
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from zsd.assets import BUNDLED_TEACHER
from zsd.distill_config import TrainingChoices
from zsd.engines.registry import ENGINE_NAMES, PRECISIONS, STUDENT_PRECISIONS, default_precision, refusal
from zsd.errors import ConfigError
from zsd.labels import DEFAULT_TEMPLATE, LabelSet, read_label_file
from zsd.options import Options, option

MODEL_HELP = "student: a checkpoint directory, or the output directory of zsd distill; also a URI"
OUTPUT_HELP = "output directory (new, or of this same job to resume it)"
RAY_HELP = "Ray cluster to use (default: $RAY_ADDRESS, else one started here)"
STUDENT_PRECISION_HELP = "numbers it computes with (default: fp32, of native bf16)"
NLI_HELP = "ENTAILMENT,CONTRADICTION class names of a teacher whose names are unclear"


@dataclass(frozen=True, kw_only=True)
class CorpusConfig(Options):
    """Which rows a job reads, and on how many actors."""

    data: tuple[str, ...] = option(
        "corpus: files, folders, globs or URIs (txt csv tsv jsonl parquet, datasets folder)", metavar="PATH"
    )
    output: str = option(OUTPUT_HELP, metavar="DIR")
    text_column: str = option("column that holds the text", "text", metavar="COLUMN")
    id_column: str | None = option("column of unique ids (default: a hash of the text)", None, metavar="COLUMN")
    limit: int | None = option("use only the first N rows", None)
    cpu_actors: int | None = option("CPU actors (default: what the cluster has; none where it has GPUs)", None)
    gpu_actors: int | None = option("GPU actors (default: one a GPU of the cluster)", None)
    cpus_per_actor: int | None = option("processor threads of a CPU actor (default: up to 4)", None)
    unit_rows: int | None = option(
        "rows of the smallest piece of work (default: 1,024 pairs of zsd label, fewer of a teacher larger than "
        "the bundled one, 64 at least; 4,096 rows of zsd predict)",
        None,
    )
    max_rejected: float | None = option(
        "stop when more than this share of the rows is rejected (default: no limit on unusable rows of the corpus; 0.1 "
        "of the rows may make the model fail)",
        None,
    )
    target_file_rows: int = option("rows of a file of the finished store", 200_000)
    ray_address: str | None = option(RAY_HELP, None, metavar="ADDRESS")

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_corpus()
        self._at_least(1, "limit", "cpus_per_actor", "unit_rows", "target_file_rows")
        share = self.max_rejected
        self._check(share is None or 0 <= share <= 1, "max_rejected", f"{share}: it must be from 0 to 1")
        self._at_least(0, "cpu_actors", "gpu_actors")
        if self.cpu_actors == 0 and self.gpu_actors == 0:
            raise ConfigError("--cpu-actors 0 and --gpu-actors 0 leave nobody to do the work: raise one of them")

    def _check_corpus(self) -> None:
        if not self.data:
            raise ConfigError("no corpus: give --data FILE, FOLDER, GLOB or URI")


@dataclass(frozen=True, kw_only=True)
class LabelConfig(CorpusConfig):
    """`zsd label`: a corpus and class names to soft labels."""

    labels: str | None = option("text file with one class name a line", None, metavar="FILE")
    label: tuple[str, ...] = option("a class name; repeat the flag for each, instead of --labels", (), repeat=True)
    template: tuple[str, ...] = option(
        "hypothesis template; {} is where the class name goes; repeat the flag to average the logits of several: each "
        "is one more pass of the teacher, so rows/s fall by as many",
        (DEFAULT_TEMPLATE,),
        metavar="TEXT",
        repeat=True,
    )
    multi_label: bool = option("several classes may be true of one text", False)
    temperature: float = option("softens (above 1) or sharpens the soft labels", 1.0)
    teacher: str = option(
        "NLI checkpoint: bundled, bundled-sparse, a directory, or a hub name",
        BUNDLED_TEACHER,
        metavar="NAME_OR_PATH",
    )
    nli_classes: str | None = option(NLI_HELP, None, metavar="NAME,NAME")
    max_length: int | None = option("most tokens of a premise/hypothesis pair (default: the teacher's limit)", None)
    long_text: str = option(
        "a text longer than that: cut it, or score it in overlapping windows",
        "truncate",
        choices=("truncate", "window"),
    )
    engine: str = option("what runs the teacher", "auto", choices=("auto", *ENGINE_NAMES))
    precision: str | None = option(
        "numbers it computes with (default: fp32, of native bf16; with --engine auto, what agrees and is fastest)",
        None,
        choices=PRECISIONS,
    )
    min_agreement: float = option("--engine auto admits an engine only at this top-1 agreement with fp32 torch", 0.99)

    content_free: bool = option("also score some texts of random words, for zsd distill --calibrate contextual", False)
    reuse: tuple[str, ...] = option(
        "finished zsd label directories whose logits are taken for texts and classes that they know", (), metavar="DIR"
    )
    reuse_other: str = option(
        "what to do with a --reuse directory of another teacher, template or normalization",
        "refuse",
        choices=("refuse", "recompute"),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self._at_least(1, "max_length")
        self._check(len(self.template) > 0, "template", "an empty list: give a template, or leave it away")
        self._check(self.temperature > 0, "temperature", f"{self.temperature}: it must be above 0")
        self._check(0 <= self.min_agreement <= 1, "min_agreement", f"{self.min_agreement}: it must be from 0 to 1")
        if self.engine != "auto" and self.precision is not None:
            self._refuse("precision", refusal(self.engine, self.precision))

    def _check_corpus(self) -> None:
        super()._check_corpus()
        if (self.labels is None) == (not self.label):
            raise ConfigError("give the class names once: --labels FILE, or --label NAME for each")

    def label_set(self) -> LabelSet:
        """The class names, read from the file where one was named.

        Raises:
            LabelSetError: see `LabelSet` and `read_label_file`.
        """
        names = self.label if self.labels is None else read_label_file(self.labels)
        return LabelSet(
            names=names, template=self.template[0], multi_label=self.multi_label, more_templates=self.template[1:]
        )


@dataclass(frozen=True, kw_only=True)
class DistillConfig(TrainingChoices):
    """`zsd distill`: soft labels to a student."""

    soft_labels: str = option("output directory of zsd label", metavar="DIR")
    output: str = option(OUTPUT_HELP, metavar="DIR")
    heldout_fraction: float = option("share of the rows kept out of training to measure agreement", 0.1)
    limit: int | None = option("use only the first N rows of the store", None)
    test: tuple[str, ...] = option(
        "test rows: a text that is among them is never trained on, nor used to calibrate", (), metavar="PATH"
    )
    test_text_column: str = option("column of --test that holds the text", "text", metavar="COLUMN")
    ray_address: str | None = option(RAY_HELP, None, metavar="ADDRESS")

    def __post_init__(self) -> None:
        super().__post_init__()
        self._at_least(1, "limit")
        fraction = self.heldout_fraction
        self._check(0 < fraction < 1, "heldout_fraction", f"{fraction}: it must be between 0 and 1")


@dataclass(frozen=True, kw_only=True)
class StudentConfig(Options):
    """Which student a job uses, and what runs it."""

    model: str = option(MODEL_HELP, metavar="DIR")
    engine: str = option("what runs an encoder student", "torch", choices=ENGINE_NAMES)
    precision: str | None = option(STUDENT_PRECISION_HELP, None, choices=STUDENT_PRECISIONS)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._refuse("precision", refusal(self.engine, self.chosen_precision, STUDENT_PRECISIONS))

    @property
    def chosen_precision(self) -> str:
        """What was asked for, or what the engine computes with by itself."""
        return self.precision or default_precision(self.engine)


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(StudentConfig):
    """`zsd evaluate`: a student against gold labels, and against its teacher on held-out rows."""

    data: tuple[str, ...] = option("rows with gold labels: files, folders, globs or URIs", (), metavar="PATH")
    soft_labels: str | None = option(
        "output of zsd label: also compare with the teacher on its held-out rows, and choose the thresholds of a "
        "multi-label student there",
        None,
        metavar="DIR",
    )
    output: str | None = option("also write evaluation.json, evaluation.html and plots here", None, metavar="DIR")
    label_column: str = option("column with the gold label (a list for multi-label)", "label", metavar="COLUMN")
    text_column: str = option("column that holds the text", "text", metavar="COLUMN")
    limit: int | None = option("use only the first N rows", None)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.data and self.soft_labels is None:
            raise ConfigError("nothing to evaluate on: give --data (rows with gold labels), --soft-labels, or both")
        self._at_least(1, "limit")


@dataclass(frozen=True, kw_only=True)
class PredictConfig(StudentConfig, CorpusConfig):
    """`zsd predict`: a corpus through a student, and through its teacher where the student is not sure."""

    defer_to: str | None = option("who answers the rows that the student is not sure of", None, choices=("teacher",))
    min_agreement: float = option(
        "--defer-to: least share of the rows on which student and teacher together answer as the teacher alone", 0.97
    )
    alpha: float = option("--defer-to: probability that this promise is broken, over the held-out rows", 0.1)
    soft_labels: str | None = option(
        "--defer-to: output of zsd label whose held-out rows set the threshold; the teacher is not asked again what is "
        "in it (default: --model, where that is one)",
        None,
        metavar="DIR",
    )
    shortlist: int | None = option(
        "--defer-to: ask the teacher about a row's N best classes only, by the student (default: about all; not where "
        "reviewed rows mix the logits)",
        None,
    )
    teacher_engine: str = option("--defer-to: what runs the teacher", "auto", choices=("auto", *ENGINE_NAMES))

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check(
            0 < self.min_agreement <= 1, "min_agreement", f"{self.min_agreement}: it must be above 0, at most 1"
        )
        self._check(0 < self.alpha < 1, "alpha", f"{self.alpha}: it must be between 0 and 1")
        self._at_least(2, "shortlist")
        for name in ("soft_labels", "shortlist"):
            alone = self.defer_to is None and getattr(self, name) is not None
            self._check(not alone, name, "given without --defer-to teacher: add it")


@dataclass(frozen=True, kw_only=True)
class RunConfig(LabelConfig, TrainingChoices):
    """`zsd run`: label, distill and benchmark in one go; without a corpus, the bundled example."""

    data: tuple[str, ...] = option(
        "corpus: files, folders, globs or URIs (default: the bundled example)", (), metavar="PATH"
    )
    output: str = option(OUTPUT_HELP, "zsd-run", metavar="DIR")
    test: tuple[str, ...] = option(
        "rows with gold labels to benchmark on (default: rows of the corpus)", (), metavar="PATH"
    )
    label_column: str = option("column of --test with the gold label", "label", metavar="COLUMN")

    def _check_corpus(self) -> None:
        if self.data:
            super()._check_corpus()
            return
        for one in fields(self):
            if one.name in ABOUT_OWN_CORPUS and getattr(self, one.name) != one.default:
                name = one.name.replace("_", "-")
                raise ConfigError(f"--{name} without a corpus: give --data too, or leave --{name} away for the example")


ABOUT_OWN_CORPUS = ("labels", "label", "multi_label", "text_column", "id_column", "test", "label_column", "gold")
"""What `zsd run` takes only together with ``--data``: the bundled example has its own."""
