from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from transformers import AutoModelForSequenceClassification

from tests.families import FAMILIES
from zsd.compile.prune import (
    apply_masks,
    cubic_sparsity,
    encoder_blocks,
    encoder_linears,
    keep_largest,
    layer_sparsities,
    magnitude_masks,
    sparsity_of,
)
from zsd.errors import TeacherError

LINEARS_A_BLOCK = {"bert": 6, "roberta": 6, "electra": 6, "distilbert": 6, "deberta-v2": 6, "modernbert": 4}
"""Query, key, value, output and two of the feed-forward part; ModernBERT joins query, key and value in one."""


@pytest.mark.parametrize("family", FAMILIES)
def test_all_linear_layers_of_the_encoder_are_found_and_none_outside(
    family: str, teacher_of: Callable[..., str]
) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(teacher_of(family))
    blocks, layers = encoder_blocks(model), encoder_linears(model)
    assert len(blocks) == 2
    assert len(layers) == 2 * LINEARS_A_BLOCK[family]
    outside = {name for name, module in model.named_modules() if isinstance(module, nn.Linear)} - layers.keys()
    assert outside
    assert all(".layer" not in name for name in outside), outside


def test_a_model_without_blocks_is_refused() -> None:
    with pytest.raises(TeacherError, match="no stack of blocks"):
        encoder_linears(nn.Sequential(nn.Linear(4, 4)))


def test_a_stack_inside_a_block_belongs_to_the_block() -> None:
    block = nn.Module()
    block.inner = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
    model = nn.Module()
    model.layers = nn.ModuleList([block])
    assert list(encoder_blocks(model)) == ["layers.0"]
    assert list(encoder_linears(model)) == ["layers.0.inner.0", "layers.0.inner.1"]


@given(st.floats(0.0, 0.99), st.integers(1, 200), st.integers(0, 5))
def test_a_mask_cuts_exactly_the_share_and_the_lowest(sparsity: float, size: int, distinct: int) -> None:
    generator = torch.Generator().manual_seed(size)
    scores = torch.randint(0, distinct + 1, (size,), generator=generator).float()  # with many ties
    keep = keep_largest(scores, sparsity)
    assert int((~keep).sum()) == round(sparsity * size)
    if keep.any() and not keep.all():
        assert scores[keep].min() >= scores[~keep].max()


def test_the_schedule_rises_fast_then_slowly_from_none_to_all() -> None:
    at = [cubic_sparsity(k / 10, 0.8) for k in range(11)]
    steps = [after - before for before, after in itertools.pairwise(at)]
    assert at[0] == 0.0
    assert at[-1] == pytest.approx(0.8)
    assert cubic_sparsity(1.7, 0.8) == pytest.approx(0.8)
    assert cubic_sparsity(0.0, 0.8, 0.5) == pytest.approx(0.5)
    assert 0.5 < cubic_sparsity(0.1, 0.8, 0.5) < cubic_sparsity(1.0, 0.8, 0.5) == pytest.approx(0.8)
    assert all(step > 0 for step in steps)
    assert steps == sorted(steps, reverse=True)


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=8), st.floats(0.0, 0.99))
def test_layers_together_have_the_sparsity_and_large_ones_more(shapes: list[tuple[int, int]], sparsity: float) -> None:
    layers = {str(n): nn.Linear(*shape) for n, shape in enumerate(shapes)}
    share = layer_sparsities(layers, sparsity)
    sizes = {name: layer.weight.numel() for name, layer in layers.items()}
    assert sum(share[name] * sizes[name] for name in layers) == pytest.approx(sparsity * sum(sizes.values()), abs=1e-6)
    assert all(-1e-9 <= each <= 1.0 for each in share.values())
    square = {name: layer for name, layer in layers.items() if layer.in_features == layer.out_features}
    by_size = sorted(square, key=lambda name: sizes[name])
    assert all(share[small] <= share[large] + 1e-9 for small, large in itertools.pairwise(by_size))


def test_growing_masks_keep_what_was_cut_and_reach_the_share_of_every_layer(teacher_of: Callable[..., str]) -> None:
    layers = encoder_linears(AutoModelForSequenceClassification.from_pretrained(teacher_of("bert")))
    before: dict[str, torch.Tensor] = {}
    for sparsity in (0.3, 0.6, 0.75):
        masks, share = magnitude_masks(layers, sparsity), layer_sparsities(layers, sparsity)
        apply_masks(layers, masks)
        for name, layer in layers.items():
            assert int((layer.weight == 0).sum()) == round(share[name] * layer.weight.numel())
            assert name not in before or not (masks[name] & ~before[name]).any()
        before = masks
    assert sparsity_of(layers) == pytest.approx(0.75, abs=1e-3)
