from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.families import FAMILIES
from zsd.compile import probes
from zsd.compile.probes import stored_probes
from zsd.engines import load_engine
from zsd.engines.base import Placement
from zsd.errors import EngineError
from zsd.teachers.nli import NLITeacher, load_teacher


@pytest.fixture
def teacher(teacher_of: Callable[..., str], shared_cache: Path) -> NLITeacher:
    return load_teacher(teacher_of("bert"))


@pytest.mark.parametrize("family", FAMILIES)
def test_probes_reach_from_the_shortest_pair_to_the_longest(
    family: str, teacher_of: Callable[..., str], shared_cache: Path
) -> None:
    teacher = load_teacher(teacher_of(family))
    found = stored_probes(teacher)
    assert list(found.lengths) == sorted(found.lengths) and found.lengths[-1] == teacher.max_length
    assert found.lengths[0] < 16 and set(found.inputs) <= set(teacher.tokenizer.model_input_names)


@pytest.mark.parametrize(("rows", "length"), [(1, 64), (1, 20), (3, 24), (40, 64)])
def test_a_batch_of_probes_has_the_shape_and_torchs_logits(teacher: NLITeacher, rows: int, length: int) -> None:
    inputs, expected = stored_probes(teacher).filling(rows, length)
    assert {array.shape for array in inputs.values()} == {(rows, length)}
    np.testing.assert_allclose(load_engine("torch", teacher, Placement()).logits(inputs), expected, atol=1e-5)
    assert inputs["attention_mask"][0].sum() >= length * 2 / 3  # the longest first


def test_a_length_shorter_than_any_probe_has_no_rows(teacher: NLITeacher) -> None:
    found = stored_probes(teacher)
    inputs, expected = found.filling(4, int(found.lengths[0]) - 1)
    assert len(expected) == 0 and all(len(array) == 0 for array in inputs.values())


@pytest.mark.parametrize("wrong", [0.5, np.nan])
def test_one_wrong_row_is_refused(teacher: NLITeacher, wrong: float) -> None:
    engine, found = load_engine("torch", teacher, Placement()), stored_probes(teacher)
    found.check("torch", "fp32", engine.logits, rows=9, length=64)

    def spoiled(inputs: Any) -> Any:
        logits = engine.logits(inputs).copy()
        logits[5, 1] += wrong
        return logits

    with pytest.raises(EngineError, match=r"torch engine in fp32 gives logits that are off by .* 9 x 64 tokens"):
        found.check("torch", "fp32", spoiled, rows=9, length=64)


def test_probes_are_made_once_a_checkpoint(
    teacher: NLITeacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZSD_CACHE", str(tmp_path))
    first = stored_probes(teacher)
    monkeypatch.setattr(probes, "make_probes", lambda _: pytest.fail("made twice"))
    np.testing.assert_array_equal(stored_probes(teacher).logits, first.logits)
