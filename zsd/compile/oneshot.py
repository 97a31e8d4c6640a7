"""Cheap pruning without training: each linear layer so that it still answers calibration inputs as it did.

Three methods, of rising cost and quality: magnitude; Wanda (Sun et al. 2023: magnitude times the norm of the input,
compared within an output row); SparseGPT (Frantar & Alistarh 2023: the weights that stay make up for those that go).
Blocks are pruned one after the other, each on what the pruned blocks before it produce.

Legend: O outputs and I inputs of a linear layer, T tokens seen by it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from zsd.compile.nli_pairs import IntArray, TokenizedPairs, homogeneous_batches
from zsd.compile.prune import (
    apply_masks,
    encoder_blocks,
    encoder_linears,
    keep_largest,
    layer_sparsities,
    magnitude_masks,
)
from zsd.console import say

METHODS = ("magnitude", "wanda", "sparsegpt")
COLUMNS = 128
"""Input columns that SparseGPT chooses the cut weights of at a time."""
DAMPING = 0.01
"""Added to the diagonal of the Gram matrix, as a share of its mean, so that it can be inverted."""
BATCH = 32


def prune_weight(method: str, weight_OI: Tensor, gram_II: Tensor, sparsity: float) -> Tensor:
    """A pruned copy of a layer's weight.

    Args:
        method: one of `METHODS`.
        weight_OI: the weight.
        gram_II: sum over the calibration tokens of x x^T, x the layer's input; float64.
        sparsity: share of the weights to set to zero, in [0, 1); the method ``wanda`` rounds it within each row.

    Raises:
        ValueError: the method is unknown.
    """
    if method == "magnitude":
        return weight_OI * keep_largest(weight_OI.abs(), sparsity)
    if method == "wanda":
        scores_OI = weight_OI.abs() * gram_II.diagonal().sqrt().to(weight_OI.dtype)
        return weight_OI * torch.stack([keep_largest(scores_I, sparsity) for scores_I in scores_OI])
    if method == "sparsegpt":
        return _sparsegpt(weight_OI, gram_II, sparsity)
    raise ValueError(f"unknown method {method!r}")


def _sparsegpt(weight_OI: Tensor, gram_II: Tensor, sparsity: float) -> Tensor:
    if sparsity == 0:
        return weight_OI.clone()
    weight = weight_OI.double()
    outputs, inputs = weight.shape
    gram = gram_II.clone()
    silent = gram.diagonal() == 0
    weight[:, silent] = 0
    gram[silent, silent] = 1.0
    gram += DAMPING * gram.diagonal().mean() * torch.eye(inputs, dtype=gram.dtype)
    upper_II = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(gram)), upper=True)
    cut = 0
    for start in range(0, inputs, COLUMNS):
        end = min(start + COLUMNS, inputs)
        upper = upper_II[start:end, start:end]
        part, errors = weight[:, start:end].clone(), torch.zeros(outputs, end - start, dtype=weight.dtype)
        share = (round(sparsity * outputs * end) - cut) / part.numel()
        keep = keep_largest((part / upper.diagonal()).square(), share)
        cut += int((~keep).sum())
        for column in range(end - start):
            kept = part[:, column] * keep[:, column]
            errors[:, column] = (part[:, column] - kept) / upper[column, column]
            part[:, column:] -= errors[:, column : column + 1] * upper[column, column:]
            part[:, column] = kept
        weight[:, start:end] = part
        weight[:, end:] -= errors @ upper_II[start:end, end:]
    return weight.to(weight_OI.dtype)


def prune_model(
    model: nn.Module, pairs: TokenizedPairs, names: Sequence[str], *, method: str, sparsity: float, max_length: int
) -> None:
    """Prune the linear layers of the encoder in place, together to the sparsity.

    Args:
        model: in evaluation mode, float32.
        pairs: calibration pairs; a few hundred are enough.
        names: which inputs the model takes.
        method: one of `METHODS`.
        sparsity: in [0, 1).
        max_length: most tokens the model takes.

    Raises:
        TeacherError: the model has no encoder blocks with linear layers.
    """
    if method == "magnitude":
        layers = encoder_linears(model)
        apply_masks(layers, magnitude_masks(layers, sparsity))
        return
    count = -(-len(pairs.lengths) // BATCH)
    batches = homogeneous_batches(pairs.lengths, batch=BATCH, batches=count, seed=0)
    layers = encoder_linears(model)
    share = layer_sparsities(layers, sparsity)
    for block in encoder_blocks(model):
        inside = {name: layer for name, layer in layers.items() if name.startswith(f"{block}.")}
        say(f"sparsify: {method} on {block} ({len(inside)} layers)")
        grams = _grams(model, inside, pairs, names, batches, max_length)
        with torch.no_grad():
            for name, layer in inside.items():
                layer.weight.copy_(prune_weight(method, layer.weight, grams[name], share[name]))


def _grams(
    model: nn.Module,
    layers: dict[str, nn.Linear],
    pairs: TokenizedPairs,
    names: Sequence[str],
    batches: Sequence[IntArray],
    max_length: int,
) -> dict[str, Tensor]:
    """For each layer the sum of x x^T over its inputs, padding left out."""
    grams = {name: torch.zeros(layer.in_features, layer.in_features).double() for name, layer in layers.items()}
    mask_BL = torch.ones(0)

    def add(name: str, _: nn.Module, inputs: tuple[Any, ...]) -> None:
        x = inputs[0].detach()
        if x.shape[:-1] == mask_BL.shape:
            x = x[mask_BL]
        x_TI = x.reshape(-1, x.shape[-1])
        grams[name] += (x_TI.T @ x_TI).double()

    hooks = [layer.register_forward_pre_hook(partial(add, name)) for name, layer in layers.items()]
    try:
        with torch.inference_mode():
            for batch in batches:
                inputs = pairs.batch(batch, names, max_length=max_length)
                mask_BL = inputs["attention_mask"].bool()
                model(**inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return grams
