"""Texts through a sequence classifier: each tokenized once, sorted by length, batched, order restored.

Legend: N rows, K labels, L tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from zsd.planning import Batch, padding_waste, plan_batches

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]
TOKENIZE_ROWS = 2048


def encode(tokenizer: Any, texts: Sequence[str], *, max_length: int) -> list[list[int]]:
    """Token ids of each text, special tokens included, cut at ``max_length`` tokens and not padded."""
    return _encode(tokenizer, texts, max_length=max_length)[0]


def _encode(tokenizer: Any, texts: Sequence[str], *, max_length: int) -> tuple[list[list[int]], int]:
    """The token ids of each text, and how many texts were cut."""
    if not len(texts):
        return [], 0
    encoded = tokenizer(
        list(texts), truncation=True, max_length=max_length, return_attention_mask=False, return_token_type_ids=False
    )
    return encoded["input_ids"], sum(bool(one.overflowing) for one in encoded.encodings)


def pad(rows: Sequence[npt.ArrayLike], tokenizer: Any, *, multiple: int = 8) -> dict[str, torch.Tensor]:
    """``input_ids`` and ``attention_mask``, each [N, L] int64.

    L is the longest row rounded up to ``multiple``, but not past what the model takes.
    """
    arrays = [np.asarray(row, dtype=np.int64) for row in rows]
    longest = max(len(row) for row in arrays)
    length = max(longest, min(-(-longest // multiple) * multiple, tokenizer.model_max_length))
    ids_NL = np.full((len(arrays), length), tokenizer.pad_token_id, dtype=np.int64)
    mask_NL = np.zeros((len(arrays), length), dtype=np.int64)
    for n, row in enumerate(arrays):
        place = slice(length - len(row), length) if tokenizer.padding_side == "left" else slice(0, len(row))
        ids_NL[n, place] = row
        mask_NL[n, place] = 1
    return {"input_ids": torch.from_numpy(ids_NL), "attention_mask": torch.from_numpy(mask_NL)}


@dataclass(frozen=True, kw_only=True)
class Predicted:
    """Class probabilities of some texts, and what they cost.

    Attributes:
        probs: probs_NK, in the order of the texts.
        logits: logits_NK that they were made of.
        tokens: real tokens run, padding not counted.
        truncated: texts that were cut.
        padding_waste: share of the computed tokens that was padding.
    """

    probs: FloatArray
    logits: FloatArray
    tokens: int
    truncated: int
    padding_waste: float


def predict(
    model: Any, tokenizer: Any, texts: Sequence[str], *, max_length: int | None = None, token_budget: int = 2048
) -> Predicted:
    """Run a sequence classifier over texts, on the device the model is on.

    Softmax over the labels, or a sigmoid for each where the model's ``problem_type`` is multi-label.

    Args:
        model: a sequence classifier; put into evaluation mode for the call.
        tokenizer: its tokenizer.
        texts: N texts; may be empty.
        max_length: tokens a text is cut at; the tokenizer's own limit where None.
        token_budget: most padded tokens of a batch.
    """
    limit = max_length or tokenizer.model_max_length
    ids: list[list[int]] = []
    truncated = 0
    for start in range(0, len(texts), TOKENIZE_ROWS):
        chunk, cut = _encode(tokenizer, texts[start : start + TOKENIZE_ROWS], max_length=limit)
        ids += chunk
        truncated += cut
    logits_NK, lengths_N, batches = token_logits(model, tokenizer, ids, token_budget=token_budget)
    return Predicted(
        probs=probabilities(logits_NK, multi_label=model.config.problem_type == "multi_label_classification"),
        logits=logits_NK,
        tokens=int(lengths_N.sum()),
        truncated=truncated,
        padding_waste=padding_waste(lengths_N, batches),
    )


def token_logits(
    model: Any, tokenizer: Any, ids: Sequence[npt.ArrayLike], *, token_budget: int = 2048
) -> tuple[FloatArray, IntArray, list[Batch]]:
    """Run a sequence classifier over N lists of token ids, on the device the model is on.

    Returns:
        logits_NK, in the order of the lists; the N lengths; the batches that were run.
    """
    lengths_N: IntArray = np.array([len(row) for row in ids], dtype=np.int64)  # type: ignore[arg-type]
    batches = plan_batches(lengths_N, token_budget=token_budget, max_length=tokenizer.model_max_length)
    logits_NK = np.zeros((len(ids), model.config.num_labels), dtype=np.float32)
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        for batch in batches:
            inputs = pad([ids[n] for n in batch.pairs], tokenizer)
            output = model(**{name: tensor.to(model.device) for name, tensor in inputs.items()})
            logits_NK[batch.pairs] = output.logits.float().cpu().numpy()
    model.train(was_training)
    return logits_NK, lengths_N, batches


def probabilities(logits_NK: FloatArray, *, multi_label: bool) -> FloatArray:
    """Softmax over the labels, or a sigmoid for each label."""
    logits = torch.from_numpy(logits_NK)
    probs = torch.sigmoid(logits) if multi_label else torch.softmax(logits, dim=-1)
    result: FloatArray = probs.numpy()
    return result
