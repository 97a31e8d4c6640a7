"""What a natural-language-inference checkpoint means: which logit is entailment, which is contradiction.

Zero-shot classification by NLI (Yin, Hay & Roth 2019): a text is the premise, every class name put into the
template is a hypothesis, and the entailment logit is the score of the class. Which output column is entailment is
read from the checkpoint's ``label2id``; it is never guessed.

Legend: C NLI classes (2 or 3).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from transformers import AutoConfig, AutoTokenizer

from zsd.assets import BUNDLED_SPARSE_TEACHER, BUNDLED_TEACHER, BUNDLED_TEACHERS, bundled_teacher_path
from zsd.assets.sparse_teacher import assembled_sparse_teacher
from zsd.batching import PairSet, pair_layout
from zsd.checkpoint import Checkpoint
from zsd.errors import InputError, TeacherError
from zsd.quiet import quiet_transformers

HYPOTHESIS = "No"
"""What texts are paired with where only the model matters, and not what it is asked."""


@dataclass(frozen=True, kw_only=True)
class NLIClasses:
    """The output columns of an NLI model that zsd uses.

    Args:
        entailment: column of the entailment logit.
        contradiction: column of the contradiction logit; of ``not_entailment`` for a 2-class model.
        count: C, the number of NLI classes.
    """

    entailment: int
    contradiction: int
    count: int


def find_nli_classes(label2id: Mapping[str, int], *, entailment: str | None = None) -> NLIClasses:
    """Entailment and contradiction columns, by name.

    Names are compared by prefix, in lower case and letters only (``entail*``, ``contradict*`` and, of 2 classes,
    ``notentail*`` or ``nonentail*``), never by substring: ``not_entailment`` contains ``entailment``.

    Args:
        label2id: the checkpoint's own mapping, C entries.
        entailment: for checkpoints with meaningless names (``LABEL_0``): the name of the entailment class and,
            after a comma, of the contradiction class, as in ``LABEL_2,LABEL_0``.

    Raises:
        TeacherError: the model has not 2 or 3 classes, or the names do not tell which is which.
    """
    shown = ", ".join(f"{name}={index}" for name, index in sorted(label2id.items(), key=lambda item: item[1]))
    if len(label2id) not in (2, 3) or sorted(label2id.values()) != list(range(len(label2id))):
        raise TeacherError(f"not an NLI model: its classes are {shown}; an NLI model has 2 or 3, one named entailment")
    if entailment is not None:
        names = [name.strip() for name in entailment.split(",")]
        if len(names) != 2 or names[0] == names[1] or any(name not in label2id for name in names):
            raise TeacherError(
                f"--nli-classes {entailment!r} must be two different names of the model's classes ({shown}), "
                "entailment first, then contradiction"
            )
        found, other = [label2id[names[0]]], [label2id[names[1]]]
    else:
        by_name = [(re.sub(r"[^a-z]", "", name.lower()), index) for name, index in label2id.items()]
        found = [index for name, index in by_name if name.startswith("entail")]
        against = ("contradict",) if len(label2id) == 3 else ("contradict", "notentail", "nonentail")
        other = [index for name, index in by_name if name.startswith(against)]
    if len(found) != 1 or len(other) != 1:
        raise TeacherError(
            f"cannot tell which class is entailment and which contradiction from the model's names ({shown}): "
            "name them with --nli-classes ENTAILMENT,CONTRADICTION"
        )
    return NLIClasses(entailment=found[0], contradiction=other[0], count=len(label2id))


@dataclass(frozen=True, kw_only=True)
class NLITeacher(Checkpoint):
    """An NLI checkpoint, read as far as needed to know what it means; its sequences are pairs.

    Args:
        classes: which columns are which.
    """

    role: ClassVar[str] = "teacher"
    error: ClassVar[type[InputError]] = TeacherError
    purpose: ClassVar[str] = "an NLI classifier; give a checkpoint trained on NLI"

    classes: NLIClasses

    def sequences(self, texts: Sequence[str], *, max_length: int) -> PairSet:
        """Texts as premises, each before one short hypothesis.

        Raises:
            TeacherError: the tokenizer cannot be batched pairwise.
        """
        layout = pair_layout(self.tokenizer)
        return PairSet.build(self.tokenizer, layout, texts, [HYPOTHESIS], max_length=max_length)


def load_teacher(name: str, *, max_length: int | None = None, nli_classes: str | None = None) -> NLITeacher:
    """Read an NLI checkpoint's configuration and tokenizer (not its weights).

    Args:
        name: ``bundled``, ``bundled-sparse``, a local directory, or a hub name.
        max_length: most tokens a pair; the model's own limit where None.
        nli_classes: see `find_nli_classes`.

    Raises:
        TeacherError: nothing is there, it is not an NLI model, it has no fast tokenizer, or max_length is too large.
    """
    path = teacher_checkpoint(name)
    if not Path(path).is_dir():
        path = _download(path)
    if not any((Path(path) / file).is_file() for file in TOKENIZER_FILES):
        # transformers would make a tokenizer without a vocabulary, to which every word is unknown.
        raise TeacherError(f"teacher {name!r} has no tokenizer: add tokenizer.json to the checkpoint's directory")
    try:
        with quiet_transformers():
            config = AutoConfig.from_pretrained(path, trust_remote_code=False)
            tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise TeacherError(f"teacher {name!r} cannot be loaded: {one_line(error)}") from None
    if not tokenizer.is_fast or tokenizer.pad_token_id is None:
        raise TeacherError(f"teacher {name!r} needs a fast tokenizer (tokenizer.json) with a padding token")
    limit = model_max_length(tokenizer, config)
    if max_length is not None and not 8 <= max_length <= limit:
        raise TeacherError(f"--max-length {max_length} is outside what teacher {name!r} takes: 8 to {limit} tokens")
    try:
        classes = find_nli_classes(class_columns(config), entailment=nli_classes)
    except TeacherError as error:
        raise TeacherError(f"teacher {name!r}: {error}") from None
    return NLITeacher(
        name=name,
        path=path,
        classes=classes,
        max_length=max_length or limit,
        fingerprint=checkpoint_fingerprint(Path(path)),
        tokenizer=tokenizer,
        config=config,
    )


def class_columns(config: Any) -> dict[str, int]:
    """The checkpoint's class names and their output columns.

    Raises:
        TeacherError: ``label2id`` and ``id2label`` of config.json contradict each other.
    """
    by_column = {int(column): str(name) for column, name in config.id2label.items()}
    by_name = {name: column for column, name in by_column.items()}
    if len(by_name) < len(by_column) or config.label2id not in (None, by_name):
        raise TeacherError(
            f"config.json contradicts itself (id2label {by_column}, label2id {config.label2id}), so no column can be "
            "trusted: correct the one that is wrong"
        )
    return by_name


def teacher_checkpoint(name: str) -> str:
    """Where ``bundled`` or ``bundled-sparse`` lies on this node; any other name as it is.

    ``bundled-sparse`` is put together in the cache of the node that asks first.
    """
    if name == BUNDLED_SPARSE_TEACHER:
        return str(assembled_sparse_teacher())
    return str(bundled_teacher_path()) if name == BUNDLED_TEACHER else name


def absolute_checkpoint(name: str) -> str:
    """A checkpoint as a process in another working directory must name it: directories absolute, other names as is."""
    local = name not in BUNDLED_TEACHERS and Path(name).is_dir()
    return str(Path(name).resolve()) if local else name


def model_max_length(tokenizer: Any, config: Any) -> int:
    """Most tokens a sequence may have: the tokenizer's limit and the position table's, whichever is smaller."""
    limits = [512]
    if tokenizer.model_max_length < 1_000_000:
        limits = [int(tokenizer.model_max_length)]
    positions = getattr(config, "max_position_embeddings", None)
    if positions is not None:
        # RoBERTa and its kin number positions from pad_token_id + 1.
        offset = config.pad_token_id + 1 if config.model_type in ROBERTA_LIKE else 0
        limits.append(int(positions) - offset)
    return min(limits)


TOKENIZER_FILES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "spm.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
)

ROBERTA_LIKE = frozenset({"roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "mpnet", "longformer"})


COMPILED = ("onnx", "openvino", "draft")
DESCRIPTIONS = ("compile.json",)


def checkpoint_fingerprint(path: Path) -> str:
    """128-bit digest of a checkpoint directory's model and tokenizer files, so that a swapped file is noticed.

    What `zsd compile` puts into its ``onnx``, ``openvino`` and ``draft`` folders counts; what describes a job or a
    checkpoint does not.
    """
    digest = hashlib.blake2b(digest_size=16)
    kinds = {".safetensors", ".json", ".txt", ".model", ".bin", ".onnx", ".xml"}
    folders = [path, *(path / name for name in COMPILED if (path / name).is_dir())]
    files = [file for folder in folders for file in folder.iterdir() if file.suffix in kinds and file.is_file()]
    for file in sorted(file for file in files if file.name not in DESCRIPTIONS):
        digest.update(file.relative_to(path).as_posix().encode() + b"\0")
        with file.open("rb") as handle:
            while block := handle.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def one_line(error: BaseException) -> str:
    """The first sentence of an error that spans lines."""
    return " ".join(str(error).split())[:300] or type(error).__name__


def _download(name: str) -> str:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    looks_local = name.startswith((".", "/", "~")) or name.count("/") > 1
    if looks_local:
        raise TeacherError(f"teacher {name!r} is not a directory: give a checkpoint directory, or a hub name")
    patterns = ["*.json", "*.safetensors", "*.txt", "*.model"]
    try:
        return str(snapshot_download(name, allow_patterns=patterns, ignore_patterns=["*/*"]))
    except (HfHubHTTPError, LocalEntryNotFoundError, HFValidationError, OSError) as error:
        raise TeacherError(
            f"teacher {name!r} is neither a local directory nor can it be downloaded ({type(error).__name__}): "
            "give a checkpoint directory, or check the name and the network"
        ) from None
