"""Encoder students on disk: plain transformers checkpoints, saved and loaded, every failure one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoTokenizer

from zsd.checkpoint import Checkpoint
from zsd.errors import StudentError
from zsd.joint_encoder import classifier_for, put_prompt
from zsd.pickled import pickled_only, refusal
from zsd.quiet import quiet_transformers
from zsd.teachers.nli import checkpoint_fingerprint, model_max_length, one_line

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def save_student(model: Any, tokenizer: Any, directory: str | Path) -> None:
    """Write a plain transformers checkpoint: safetensors weights, config and tokenizer.

    The truncation and padding that training used are taken off the tokenizer first: `save_pretrained` would store
    them in tokenizer.json.
    """
    if tokenizer.is_fast:
        tokenizer.backend_tokenizer.no_truncation()
        tokenizer.backend_tokenizer.no_padding()
    with quiet_transformers():
        model.save_pretrained(directory)
        tokenizer.save_pretrained(directory)


def load_checkpoint(directory: str | Path, precision: str = "fp32") -> tuple[Any, Any]:
    """A trained student, in evaluation mode and in fp32 or bf16, and its tokenizer.

    Raises:
        StudentError: there is no classifier checkpoint in the directory.
    """
    with quiet_transformers():
        config = from_pretrained(AutoConfig, str(directory))
        model = from_pretrained(classifier_for(config), str(directory), dtype=DTYPES[precision])
        return model.eval(), put_prompt(load_tokenizer(str(directory)), config)


def class_names(config: Any) -> tuple[list[str], bool]:
    """Class names in order, and whether they are independent of each other, as a configuration says."""
    return [config.id2label[k] for k in range(config.num_labels)], config.problem_type == "multi_label_classification"


def read_checkpoint(directory: str | Path) -> Checkpoint:
    """A student's configuration and tokenizer, for an engine to run.

    Raises:
        StudentError: there is no checkpoint, or its tokenizer cannot pad.
    """
    path = str(directory)
    with quiet_transformers():
        config = from_pretrained(AutoConfig, path)
        tokenizer = put_prompt(load_tokenizer(path), config)
    if tokenizer.pad_token_id is None:
        raise StudentError(f"student {path!r}: its tokenizer has no padding token, so that it cannot be run in batches")
    return Checkpoint(
        name=path,
        path=path,
        max_length=model_max_length(tokenizer, config),
        fingerprint=checkpoint_fingerprint(Path(path)),
        tokenizer=tokenizer,
        config=config,
    )


def from_pretrained(auto: Any, source: str, **options: Any) -> Any:
    """``auto.from_pretrained`` with its many errors as one line; no code or pickle that a checkpoint brings runs."""
    is_directory = Path(source).is_dir()
    if not is_directory and (source.startswith((".", "/", "~")) or source.count("/") > 1 or Path(source).exists()):
        raise StudentError(f"student {source!r} is not a directory: give a checkpoint directory, or a hub name")
    if is_directory and (pickled := pickled_only(source)):
        raise StudentError(f"student {source!r} {refusal(pickled)}")
    if auto not in (AutoConfig, AutoTokenizer):  # a model, of whatever kind
        options["use_safetensors"] = True
    try:
        return auto.from_pretrained(source, trust_remote_code=False, **options)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        reason = one_line(error).split(". ")[0]
        if is_directory:
            raise StudentError(f"student {source!r} cannot be loaded as a text classifier: {reason}") from None
        raise StudentError(
            f"student {source!r} is neither a local directory nor can it be downloaded: give the path of a checkpoint "
            f"directory, or check the name and the network ({reason})"
        ) from None


def load_tokenizer(source: str) -> Any:
    """The fast tokenizer of a checkpoint.

    Raises:
        StudentError: there is none.
    """
    tokenizer = from_pretrained(AutoTokenizer, source)
    if not tokenizer.is_fast:
        raise StudentError(f"student {source!r} has no fast tokenizer (tokenizer.json): zsd needs one")
    return tokenizer
