"""The weights of a checkpoint, all of them or an error: what the files do not hold is never filled in at random."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from safetensors import SafetensorError

from zsd.checkpoint import Checkpoint
from zsd.joint_encoder import classifier_for
from zsd.pickled import pickled_only, refusal
from zsd.quiet import quiet_transformers
from zsd.teachers.nli import one_line


def load_weights(checkpoint: Checkpoint, *, dtype: torch.dtype, **options: Any) -> torch.nn.Module:
    """The checkpoint as a transformers classifier in evaluation mode, on the CPU.

    Args:
        checkpoint: what to load.
        dtype: of all weights.
        **options: passed to ``from_pretrained``.

    Raises:
        InputError: the weights are missing, pickled, damaged, of another shape than config.json says, or lack a
            layer: a checkpoint that was never trained to classify has no output layer.
    """
    if pickled := pickled_only(checkpoint.path):
        raise checkpoint.error(f"{checkpoint} {refusal(pickled)}")
    try:
        with quiet_transformers():
            model, found = classifier_for(checkpoint.config).from_pretrained(
                checkpoint.path,
                dtype=dtype,
                output_loading_info=True,
                trust_remote_code=False,
                use_safetensors=True,
                **options,
            )
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
        raise checkpoint.error(
            f"{checkpoint}: its weights are missing, damaged or do not fit config.json: {one_line(error)}"
        ) from None
    missing = sorted(found["missing_keys"])
    if missing:
        raise checkpoint.error(
            f"{checkpoint} has no weights for {missing[0]} ({len(missing)} missing): it is not {checkpoint.purpose}"
        )
    classifier: torch.nn.Module = model.eval()
    return classifier


def input_names(model: torch.nn.Module, offered: tuple[str, ...]) -> list[str]:
    """Those of the tokenizer's outputs that the model takes, in the tokenizer's order.

    A DistilBERT checkpoint may come with a BERT tokenizer, which offers token types that the model refuses.
    """
    taken = inspect.signature(model.forward).parameters
    return [name for name in offered if name in taken]
