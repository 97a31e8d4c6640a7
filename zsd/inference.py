"""Token ids through a classifier that is being trained: sorted by length, batched, order restored.

Legend: N rows, K labels, L tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from zsd.planning import plan_batches

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]
TOKENIZE_ROWS = 2048


def encode(tokenizer: Any, texts: Sequence[str], *, max_length: int) -> list[list[int]]:
    """Token ids of each text, special tokens included, cut at ``max_length`` tokens and not padded."""
    if not len(texts):
        return []
    encoded = tokenizer(
        list(texts), truncation=True, max_length=max_length, return_attention_mask=False, return_token_type_ids=False
    )
    ids: list[list[int]] = encoded["input_ids"]
    return ids


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


def token_logits(model: Any, tokenizer: Any, ids: Sequence[npt.ArrayLike], *, token_budget: int = 2048) -> FloatArray:
    """[N, K] logits of a sequence classifier for N lists of token ids, in their order, on the model's device."""
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
    return logits_NK


def probabilities(logits_NK: FloatArray, *, multi_label: bool) -> FloatArray:
    """Softmax over the labels, or a sigmoid for each label."""
    logits = torch.from_numpy(logits_NK)
    probs = torch.sigmoid(logits) if multi_label else torch.softmax(logits, dim=-1)
    result: FloatArray = probs.numpy()
    return result
