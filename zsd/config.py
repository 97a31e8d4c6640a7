"""What a job is told: frozen dataclasses, filled from a TOML file and from command-line flags, checked when made.

A TOML file has one table a job (``[label]``, ``[distill]``, ``[evaluate]``, ``[predict]``, ``[benchmark]``), a table
``[training]`` of transformers `TrainingArguments`, and ``output`` at the top. A flag given on the command line wins.
An unknown table or key is an error that names the nearest valid one.
"""

from __future__ import annotations

import difflib
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from zsd.assets import BUNDLED_TEACHER
from zsd.errors import ConfigError
from zsd.labels import DEFAULT_TEMPLATE, LabelSet, read_label_file

T = TypeVar("T")
TRAINING = "training"


def option(help_text: str, default: Any = MISSING, **metadata: Any) -> Any:
    """A dataclass field that is also a command-line flag and a TOML key."""
    return field(default=default, metadata={"help": help_text, **metadata})


@dataclass(frozen=True, kw_only=True)
class CorpusConfig:
    """Which rows a job reads, and on how many actors."""

    data: tuple[str, ...] = option("corpus: files, folders, globs or URIs (txt csv tsv jsonl parquet, datasets folder)")
    output: str = option("output directory (new, or of this same job to resume it)")
    text_column: str = option("column that holds the text", "text")
    id_column: str | None = option("column of unique ids (default: a hash of the text)", None)
    limit: int | None = option("use only the first N rows", None)
    cpu_actors: int | None = option("CPU actors (default: what the cluster has; none where it has GPUs)", None)
    gpu_actors: int | None = option("GPU actors (default: one a GPU of the cluster)", None)
    cpus_per_actor: int | None = option("processor threads of a CPU actor (default: up to 4)", None)
    unit_rows: int | None = option("rows done and committed at a time (default: some ten seconds of work)", None)
    ray_address: str | None = option("Ray cluster to use (default: $RAY_ADDRESS, else one started here)", None)

    def __post_init__(self) -> None:
        if not self.data:
            raise ConfigError("no corpus: give --data FILE, FOLDER, GLOB or URI")
        for name in ("limit", "cpus_per_actor", "unit_rows"):
            check(getattr(self, name) is None or getattr(self, name) >= 1, name, getattr(self, name), "1 or more")
        for name in ("cpu_actors", "gpu_actors"):
            check(getattr(self, name) is None or getattr(self, name) >= 0, name, getattr(self, name), "0 or more")
        if self.cpu_actors == 0 and self.gpu_actors == 0:
            raise ConfigError("--cpu-actors 0 and --gpu-actors 0 leave nobody to do the work: raise one of them")


@dataclass(frozen=True, kw_only=True)
class LabelConfig(CorpusConfig):
    """`zsd label`: a corpus and class names to soft labels."""

    labels: str | None = option("text file with one class name a line", None)
    label: tuple[str, ...] = option("a class name; repeat the flag for each, instead of --labels", (), repeat=True)
    template: str = option("hypothesis template; {} is where the class name goes", DEFAULT_TEMPLATE)
    multi_label: bool = option("several classes may be true of one text", False)
    temperature: float = option("softens (above 1) or sharpens the soft labels", 1.0)
    teacher: str = option("NLI checkpoint: bundled, a directory, or a hub name", BUNDLED_TEACHER)
    nli_classes: str | None = option("ENTAILMENT,CONTRADICTION class names of a teacher whose names are unclear", None)
    max_length: int | None = option("most tokens of a premise/hypothesis pair (default: the teacher's limit)", None)
    engine: str = option("what runs the teacher", "auto", choices=("auto", "torch", "deepsparse"))
    precision: str | None = option(
        "fp32 or bf16 (default: fp32; with --engine auto, whichever agrees and is fastest)",
        None,
        choices=("fp32", "bf16"),
    )
    min_agreement: float = option("--engine auto admits an engine only at this top-1 agreement with fp32 torch", 0.99)

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.temperature > 0, "temperature", self.temperature, "above 0")
        check(0 <= self.min_agreement <= 1, "min_agreement", self.min_agreement, "from 0 to 1")
        if (self.labels is None) == (not self.label):
            raise ConfigError("give the class names once: --labels FILE, or --label NAME for each")

    def label_set(self) -> LabelSet:
        """The class names, read from the file where one was named.

        Raises:
            LabelSetError: see `LabelSet` and `read_label_file`.
        """
        names = self.label if self.labels is None else read_label_file(self.labels)
        return LabelSet(names=names, template=self.template, multi_label=self.multi_label)


@dataclass(frozen=True, kw_only=True)
class DistillConfig:
    """`zsd distill`: soft labels to a student."""

    soft_labels: str = option("output directory of zsd label")
    output: str = option("output directory (new, or of this same job to resume it)")
    student: str | None = option(
        "layers:half or layers:N of the teacher, or a checkpoint directory or hub name "
        "(default: layers:half with the bundled teacher, else distilbert/distilbert-base-uncased)",
        None,
    )
    num_workers: int = option("training workers", 1)
    heldout_fraction: float = option("share of the rows kept out of training to measure agreement", 0.1)
    freeze_embeddings: bool | None = option(
        "do not train the token embeddings (default: only for layers: students)", None
    )
    ray_address: str | None = option("Ray cluster to use (default: $RAY_ADDRESS, else one started here)", None)

    def __post_init__(self) -> None:
        check(self.num_workers >= 1, "num_workers", self.num_workers, "1 or more")
        check(0 < self.heldout_fraction < 1, "heldout_fraction", self.heldout_fraction, "between 0 and 1")


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """`zsd evaluate`: a student against gold labels."""

    model: str = option("student: a checkpoint directory, or the output directory of zsd distill")
    data: tuple[str, ...] = option("rows with gold labels: files, folders, globs or URIs")
    label_column: str = option("column with the gold label (a list for multi-label)", "label")
    text_column: str = option("column that holds the text", "text")
    limit: int | None = option("use only the first N rows", None)
    json: str | None = option("also write the figures to this file (- for standard output)", None)


@dataclass(frozen=True, kw_only=True)
class PredictConfig(CorpusConfig):
    """`zsd predict`: a corpus through a student."""

    model: str = option("student: a checkpoint directory, or the output directory of zsd distill")
    precision: str = option("fp32, or bf16 where the processor computes it fast", "fp32", choices=("fp32", "bf16"))


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig:
    """`zsd benchmark`: what was gained, in speed and in quality."""

    model: str = option("student: a checkpoint directory, or the output directory of zsd distill")
    data: tuple[str, ...] = option("rows to measure on, with gold labels where there are any")
    output: str = option("output directory; the report goes to its benchmark/ folder")
    teacher: str | None = option("NLI checkpoint (default: the one the student was distilled from)", None)
    template: str | None = option("hypothesis template (default: the one the student was distilled with)", None)
    nli_classes: str | None = option("ENTAILMENT,CONTRADICTION class names of a teacher whose names are unclear", None)
    text_column: str = option("column that holds the text", "text")
    label_column: str = option("column with the gold label; without such a column quality is agreement only", "label")
    limit: int | None = option("use only the first N rows for quality", 1000)
    speed_rows: int = option("rows of one speed measurement", 200)
    rounds: int = option("speed measurements of each contestant, in turn; the median counts", 3)
    engines: tuple[str, ...] = option(
        "teacher engines to time, as engine:precision", ("torch:fp32", "torch:bf16", "deepsparse:fp32")
    )
    ray_overhead: bool = option("also time zsd label with one actor against the bare engine", True)

    def __post_init__(self) -> None:
        for name in ("limit", "speed_rows", "rounds"):
            check(getattr(self, name) is None or getattr(self, name) >= 1, name, getattr(self, name), "1 or more")


@dataclass(frozen=True, kw_only=True)
class RunConfig(LabelConfig):
    """`zsd run`: label, distill and benchmark in one go; without a corpus, the bundled example."""

    data: tuple[str, ...] = option("corpus: files, folders, globs or URIs (default: the bundled example)", ())
    output: str = option("output directory (new, or of this same job to resume it)", "zsd-run")
    student: str | None = option("layers:half, layers:N, or a checkpoint directory or hub name", None)
    num_workers: int = option("training workers", 1)
    test: tuple[str, ...] = option("rows with gold labels to benchmark on (default: rows of the corpus)", ())
    label_column: str = option("column of --test with the gold label", "label")

    def __post_init__(self) -> None:
        if self.data:
            super().__post_init__()
        elif self.labels is not None or self.label or self.test:
            raise ConfigError("class names or --test without a corpus: give --data too, or no flags for the example")


TABLES: dict[str, type] = {
    "label": LabelConfig,
    "distill": DistillConfig,
    "evaluate": EvaluateConfig,
    "predict": PredictConfig,
    "benchmark": BenchmarkConfig,
}


def check(holds: bool, name: str, value: object, wanted: str) -> None:
    """Raise a `ConfigError` that names the flag unless `holds`."""
    if not holds:
        raise ConfigError(f"--{name.replace('_', '-')} is {value}: it must be {wanted}")


def nearest(word: str, known: Iterable[str]) -> str:
    """``: did you mean 'x'?`` or the list of what is known."""
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=1)
    return f": did you mean {close[0]!r}?" if close else f"; known: {', '.join(known)}"


def read_toml(path: str) -> dict[str, Any]:
    """A job file as nested dictionaries, its tables and keys checked.

    Raises:
        ConfigError: the file cannot be read, is not TOML, or has a table or key that does not exist.
    """
    try:
        with Path(path).open("rb") as file:
            content = tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the job file: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None
    for name, value in content.items():
        if name == "output":
            continue
        if name != TRAINING and name not in TABLES:
            raise ConfigError(f"{path}: unknown key {name!r}{nearest(name, ['output', TRAINING, *TABLES])}")
        if not isinstance(value, dict):
            raise ConfigError(f"{path}: {name} must be a table, written [{name}]")
        if name != TRAINING:
            known = {f.name for f in fields(TABLES[name])}
            for key in value:
                if key not in known:
                    raise ConfigError(f"{path}: unknown key {key!r} in [{name}]{nearest(key, known)}")
    return content


def make(cls: type[T], *sources: Mapping[str, Any]) -> T:
    """A configuration from several mappings; the later one wins.

    Raises:
        ConfigError: a value is missing or of the wrong type.
    """
    merged: dict[str, Any] = {}
    hints = typing.get_type_hints(cls)
    for source in sources:
        merged |= {name: _typed(name, value, hints[name]) for name, value in source.items() if name in hints}
    for one in fields(cls):  # type: ignore[arg-type]
        if one.name not in merged and _required(one):
            raise ConfigError(f"--{one.name.replace('_', '-')} is missing: {one.metadata['help']}")
        choices = one.metadata.get("choices")
        if choices and merged.get(one.name) not in (None, *choices):
            raise ConfigError(f"--{one.name.replace('_', '-')} is {merged[one.name]!r}: use {', '.join(choices)}")
    return cls(**merged)


def _required(one: Field[Any]) -> bool:
    return one.default is MISSING and one.default_factory is MISSING


def _typed(name: str, value: Any, hint: Any) -> Any:
    if isinstance(hint, types.UnionType):
        if value is None:
            return None
        hint = next(arg for arg in typing.get_args(hint) if arg is not type(None))
    if typing.get_origin(hint) is tuple:
        items = [value] if isinstance(value, str) else value
        if isinstance(items, list | tuple) and all(isinstance(item, str) for item in items):
            return tuple(items)
        raise ConfigError(f"{name} is {value!r}: it must be a list of strings")
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise ConfigError(f"{name} is {value!r}: it must be of type {hint.__name__}")
    return value
