from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.families import LINES
from zsd.compile.nli_pairs import TokenizedPairs
from zsd.compile.oneshot import METHODS, prune_model, prune_weight
from zsd.compile.prune import encoder_linears, layer_sparsities, sparsity_of
from zsd.teachers.nli import load_teacher
from zsd.teachers.weights import input_names, load_weights

OUTPUTS, INPUTS = 48, 192


def layer(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A random weight [O, I], and inputs [T, I] that are correlated and of very different sizes."""
    generator = torch.Generator().manual_seed(seed)
    weight_OI = torch.randn(OUTPUTS, INPUTS, generator=generator)
    mixing = torch.randn(INPUTS, INPUTS, generator=generator) / INPUTS**0.5 + torch.eye(INPUTS)
    sizes = torch.exp(torch.randn(INPUTS, generator=generator))
    return weight_OI, (torch.randn(2000, INPUTS, generator=generator) @ mixing) * sizes


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([0.5, 0.75]))
def test_the_better_method_reconstructs_the_layer_better(seed: int, sparsity: float) -> None:
    weight_OI, inputs_TI = layer(seed)
    gram_II = (inputs_TI.T @ inputs_TI).double()
    errors = {}
    for method in METHODS:
        pruned_OI = prune_weight(method, weight_OI, gram_II, sparsity)
        assert int((pruned_OI == 0).sum()) == sparsity * weight_OI.numel()
        errors[method] = float((inputs_TI @ (pruned_OI - weight_OI).T).square().mean())
    assert errors["sparsegpt"] < errors["wanda"] < errors["magnitude"]


@pytest.mark.parametrize("method", METHODS)
def test_nothing_cut_is_the_same_weight(method: str) -> None:
    weight_OI, inputs_TI = layer(0)
    assert torch.equal(prune_weight(method, weight_OI, (inputs_TI.T @ inputs_TI).double(), 0.0), weight_OI)


def test_an_input_that_is_never_on_loses_its_weights_first() -> None:
    weight_OI, inputs_TI = layer(1)
    inputs_TI[:, 7] = 0.0
    for method in ("wanda", "sparsegpt"):
        pruned_OI = prune_weight(method, weight_OI, (inputs_TI.T @ inputs_TI).double(), 0.5)
        assert torch.isfinite(pruned_OI).all()
        assert not pruned_OI[:, 7].any()


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown method 'best'"):
        prune_weight("best", torch.ones(2, 2), torch.eye(2).double(), 0.5)


@pytest.mark.parametrize("family", ["bert", "deberta-v2", "modernbert"])
@pytest.mark.parametrize("method", METHODS)
def test_a_whole_model_reaches_the_sparsity(family: str, method: str, teacher_of: Callable[..., str]) -> None:
    teacher = load_teacher(teacher_of(family))
    model = load_weights(teacher, dtype=torch.float32, attn_implementation="eager")
    pairs = TokenizedPairs.build(teacher.tokenizer, [(line, "It is so.") for line in LINES], max_length=32)
    names = input_names(model, tuple(teacher.tokenizer.model_input_names))
    prune_model(model, pairs, names, method=method, sparsity=0.75, max_length=32)
    layers = encoder_linears(model)
    assert sparsity_of(layers) == pytest.approx(0.75, abs=0.02)
    for name, share in layer_sparsities(layers, 0.75).items():
        zeros = float((layers[name].weight == 0).float().mean())
        assert zeros == pytest.approx(share, abs=0.04)  # wanda rounds within each row of 16 or 24


def test_padding_does_not_count_as_input(teacher_of: Callable[..., str]) -> None:
    teacher = load_teacher(teacher_of("bert"))
    lines = [("Goal!", "It is so."), (LINES[4], "It is so.")]  # of different lengths: the first is padded

    def pruned(groups: list[list[tuple[str, str]]]) -> torch.Tensor:
        model = load_weights(teacher, dtype=torch.float32, attn_implementation="eager")
        names = input_names(model, tuple(teacher.tokenizer.model_input_names))
        built = [TokenizedPairs.build(teacher.tokenizer, group, max_length=32) for group in groups]
        sums = [_first_gram(model, pairs, names) for pairs in built]
        return torch.stack(sums).sum(dim=0)

    torch.testing.assert_close(pruned([lines]), pruned([lines[:1], lines[1:]]), rtol=1e-5, atol=1e-5)


def _first_gram(model: torch.nn.Module, pairs: TokenizedPairs, names: list[str]) -> torch.Tensor:
    import numpy as np

    from zsd.compile.oneshot import _grams

    name, first = next(iter(encoder_linears(model).items()))
    everything = [np.arange(len(pairs.lengths))]
    return _grams(model, {name: first}, pairs, names, everything, 32)[name]
