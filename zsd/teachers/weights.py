"""The weights of a teacher, all of them or an error: a layer that the files do not hold is never filled at random."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModelForSequenceClassification

from zsd.errors import TeacherError
from zsd.pickled import pickled_only, refusal
from zsd.quiet import quiet_transformers
from zsd.teachers.nli import NLITeacher, one_line


def load_weights(teacher: NLITeacher, *, dtype: torch.dtype, **options: Any) -> torch.nn.Module:
    """The teacher as a transformers sequence classifier in evaluation mode, on the CPU.

    Args:
        teacher: what to load.
        dtype: of all weights.
        **options: passed to ``from_pretrained``.

    Raises:
        TeacherError: the weights are missing, pickled, damaged, of another shape than config.json says, or lack a
            layer: a checkpoint that was never trained for NLI has no output layer.
    """
    if pickled := pickled_only(teacher.path):
        raise TeacherError(f"teacher {teacher.name!r} {refusal(pickled)}")
    safe = {"trust_remote_code": False, "use_safetensors": True}
    try:
        with quiet_transformers():
            model, found = AutoModelForSequenceClassification.from_pretrained(
                teacher.path, dtype=dtype, output_loading_info=True, **safe, **options
            )
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
        raise TeacherError(
            f"teacher {teacher.name!r}: its weights are missing, damaged or do not fit config.json: {one_line(error)}"
        ) from None
    missing = sorted(found["missing_keys"])
    if missing:
        raise TeacherError(
            f"teacher {teacher.name!r} has no weights for {missing[0]} ({len(missing)} missing): it is not an NLI "
            "classifier; give a checkpoint trained on NLI"
        )
    classifier: torch.nn.Module = model.eval()
    return classifier


def input_names(model: torch.nn.Module, offered: tuple[str, ...]) -> list[str]:
    """Those of the tokenizer's outputs that the model takes, in the tokenizer's order.

    A DistilBERT checkpoint may come with a BERT tokenizer, which offers token types that the model refuses.
    """
    taken = inspect.signature(model.forward).parameters
    return [name for name in offered if name in taken]
