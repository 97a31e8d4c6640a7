"""FLOP of a sequence: the published formula where there is one, torch's own count of whole batches for every family."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForSequenceClassification

from tests.families import FAMILIES
from zsd.benchmark.flops import SequenceCost, graph_cost, row_flops, sequence_cost
from zsd.engines.model_file import narrow_file
from zsd.errors import EngineError
from zsd.teachers.nli import load_teacher
from zsd.teachers.weights import load_weights


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize(("hidden", "inner", "layers", "classes"), [(16, 24, 2, 3), (32, 80, 3, 2)])
def test_bert_costs_what_its_formula_says(attention: str, hidden: int, inner: int, layers: int, classes: int) -> None:
    config = AutoConfig.for_model(
        "bert",
        vocab_size=50,
        hidden_size=hidden,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_labels=classes,
    )
    model = AutoModelForSequenceClassification.from_config(config, attn_implementation=attention).eval()
    assert sequence_cost(model) == SequenceCost(
        square=4 * layers * hidden,
        linear=layers * (8 * hidden**2 + 4 * hidden * inner),
        constant=2 * hidden**2 + 2 * hidden * classes,
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_costs_what_torch_counts_at_lengths_it_was_not_fitted_at(
    family: str, teacher_of: Callable[..., str]
) -> None:
    model = load_weights(load_teacher(teacher_of(family)), dtype=torch.float32, attn_implementation="eager")
    cost = sequence_cost(model)
    assert cost.square > 0
    for length in (11, 40, 64):
        counted = []
        for sequences in (1, 4):
            with torch.no_grad(), FlopCounterMode(display=False) as counter:
                model(input_ids=torch.ones((sequences, length), dtype=torch.int64))
            counted.append(counter.get_total_flops())
        assert cost.of(np.array([length]))[0] == pytest.approx((counted[1] - counted[0]) / 3, rel=1e-9)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_export_costs_what_its_model_does_but_for_tokens_that_nobody_reads(
    family: str, teacher_of: Callable[..., str]
) -> None:
    teacher = load_teacher(teacher_of(family))
    whole = sequence_cost(load_weights(teacher, dtype=torch.float32, attn_implementation="eager"))
    cost = graph_cost(onnx.load(str(narrow_file(teacher))))
    if family in ("deberta-v2", "modernbert"):  # their last layer is done whole; DeBERTa's has a convolution
        assert cost == whole
        return
    config = teacher.config
    hidden = config.hidden_size
    inner = config.hidden_dim if family == "distilbert" else config.intermediate_size
    unread = 4 * hidden**2 + 4 * hidden * inner
    assert cost.square == pytest.approx(whole.square - 4 * hidden)
    assert cost.linear == pytest.approx(whole.linear - unread + 4 * hidden)
    assert cost.constant == pytest.approx(whole.constant + unread)


def test_a_convolution_of_groups_costs_its_kernel_and_what_is_not_known_is_not_guessed() -> None:
    graph = """
        <ir_version: 8, opset_import: ["" : 14]>
        g (int64[rows, length] input_ids) => (float[rows, 6, length] logits)
        <int64[1] one = {1}> {
            x = Cast <to: int = 1> (input_ids)
            y = Unsqueeze (x, one)
            z = Concat <axis: int = 1> (y, y, y, y)
            logits = Conv <group: int = 2, pads: ints = [1, 1]> (z, weight)
        }
    """
    model = onnx.parser.parse_model(graph)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((6, 2, 3), dtype=np.float32), "weight"))
    assert graph_cost(model) == SequenceCost(square=0, linear=2 * 6 * 2 * 3, constant=0)
    model.graph.node.append(onnx.helper.make_node("Einsum", ["x", "x"], ["more"], equation="bi,bj->bij"))
    with pytest.raises(EngineError, match="the arithmetic of Einsum is not known"):
        graph_cost(model)


def test_a_row_costs_the_sum_of_its_pairs() -> None:
    cost = SequenceCost(square=1.0, linear=10.0, constant=100.0)
    lengths_NK = np.array([[1, 2], [3, 4]])
    assert row_flops(cost, lengths_NK) == ((1 + 10 + 100) + (4 + 20 + 100) + (9 + 30 + 100) + (16 + 40 + 100)) / 2
