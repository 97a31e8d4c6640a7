"""Which weights of an encoder are cut: its linear layers, found by structure; exact masks; the cubic schedule.

Legend: O outputs and I inputs of a linear layer (torch keeps its weight as [O, I]).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from zsd.errors import TeacherError


def encoder_blocks(model: nn.Module) -> dict[str, nn.Module]:
    """The repeated blocks of the encoder by their dotted names, in the order the model holds them.

    They are the entries of the outermost `ModuleList` with linear layers inside: ``bert.encoder.layer.0``,
    ``distilbert.transformer.layer.0``, ``model.layers.0``. No family is known by name.

    Raises:
        TeacherError: the model has no such blocks.
    """
    blocks: dict[str, nn.Module] = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and not any(name.startswith(f"{block}.") for block in blocks):
            blocks |= {f"{name}.{entry}": block for entry, block in module.named_children() if _linears(block)}
    if not blocks:
        raise TeacherError(
            f"cannot prune a {type(model).__name__}: it has no stack of blocks with linear layers in it; give an "
            "encoder such as BERT, DistilBERT, RoBERTa, DeBERTa or ModernBERT"
        )
    return blocks


def encoder_linears(model: nn.Module) -> dict[str, nn.Linear]:
    """The linear layers inside `encoder_blocks` by their dotted names: attention and feed-forward, not the head.

    Raises:
        TeacherError: the model has none.
    """
    return {
        f"{block}.{name}": layer
        for block, module in encoder_blocks(model).items()
        for name, layer in _linears(module).items()
    }


def _linears(module: nn.Module) -> dict[str, nn.Linear]:
    return {name: layer for name, layer in module.named_modules() if isinstance(layer, nn.Linear)}


def cubic_sparsity(progress: float, final: float, initial: float = 0.0) -> float:
    """Sparsity after a share of the ramp: fast at first, when little is lost, slow at the end.

    ``final - (final - initial) * (1 - progress)^3`` (Zhu & Gupta 2017, "To prune, or not to prune").

    Args:
        progress: share of the ramp that is done; 1 and more is the end.
        final: sparsity at the end, in [0, 1).
        initial: sparsity at the start.
    """
    return final - (final - initial) * (1.0 - min(1.0, progress)) ** 3


def keep_largest(scores: Tensor, sparsity: float) -> Tensor:
    """A mask, True where a weight is kept: exactly ``round(sparsity * size)`` entries of the lowest scores are cut.

    Args:
        scores: how much each weight matters, any shape.
        sparsity: share to cut, in [0, 1).
    """
    cut = round(sparsity * scores.numel())
    flat = scores.detach().float().flatten().numpy()
    keep = np.ones(len(flat), dtype=bool)
    if cut:
        keep[np.argpartition(flat, cut - 1)[:cut]] = False
    return torch.from_numpy(keep).reshape(scores.shape)


def layer_sparsities(layers: Mapping[str, nn.Linear], sparsity: float) -> dict[str, float]:
    """Sparsity of each layer, so that together they have `sparsity`: large layers are cut more than small ones.

    A layer's density is proportional to (O + I) / (O * I), the Erdos-Renyi rule (Mocanu et al. 2018; Evci et al. 2020,
    "Rigging the Lottery"); a layer that would be kept whole is, and the others share the rest. In BERT the two
    feed-forward layers, where most of the time goes, are cut to 90% where all together are cut to 88%.
    """
    size = {name: layer.weight.numel() for name, layer in layers.items()}
    raw = {name: (layer.in_features + layer.out_features) / size[name] for name, layer in layers.items()}
    left = (1.0 - sparsity) * sum(size.values())
    density: dict[str, float] = {}
    while len(density) < len(layers):
        rest = [name for name in layers if name not in density]
        factor = left / sum(raw[name] * size[name] for name in rest)
        whole = [name for name in rest if factor * raw[name] >= 1.0]
        density |= dict.fromkeys(whole, 1.0) or {name: factor * raw[name] for name in rest}
        left -= sum(size[name] for name in whole)
    return {name: 1.0 - density[name] for name in layers}


def magnitude_masks(layers: Mapping[str, nn.Linear], sparsity: float) -> dict[str, Tensor]:
    """Keep each layer's weights of largest magnitude: one [O, I] mask a layer, `layer_sparsities` apart.

    A weight that is zero stays cut.
    """
    share = layer_sparsities(layers, sparsity)
    return {name: keep_largest(layer.weight.abs(), share[name]) & (layer.weight != 0) for name, layer in layers.items()}


def apply_masks(layers: Mapping[str, nn.Linear], masks: Mapping[str, Tensor]) -> None:
    """Set the cut weights to zero, in place."""
    with torch.no_grad():
        for name, mask in masks.items():
            layers[name].weight.mul_(mask)


def sparsity_of(layers: Mapping[str, nn.Linear]) -> float:
    """Share of the layers' weights that are zero."""
    weights = [layer.weight for layer in layers.values()]
    return sum(int((weight == 0).sum()) for weight in weights) / sum(weight.numel() for weight in weights)
