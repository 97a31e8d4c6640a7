"""What every engine must do, on every one of them."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from tests.families import FAMILIES, LINES, NLI_2, NLI_3, tiny_teacher
from zsd.assets import BUNDLED_TEACHER, sample_path
from zsd.batching import PairSet, pair_layout
from zsd.engines import load_engine
from zsd.engines.base import Engine, Placement
from zsd.engines.registry import ENGINE_NAMES, combinations
from zsd.errors import ConfigError, EngineError
from zsd.labels import LabelSet
from zsd.quiet import quiet_transformers
from zsd.soft_labels import soft_labels
from zsd.teachers.nli import NLITeacher, load_teacher
from zsd.teachers.scoring import Scorer

DENSE = [both for both in combinations("cpu") if both[1] not in ("int8", "draft")]
EXACT = [name for name, precision in DENSE if precision == "fp32"]
ONE, TWO = Placement(threads=1), Placement(threads=2)
LABELS = LabelSet(names=("sports", "business", "naïve café"), template="This text is about {}.")


@pytest.fixture
def teacher(teacher_of: Callable[..., str], shared_cache: Path) -> NLITeacher:
    return load_teacher(teacher_of("bert"))


def load(name: str, precision: str, teacher: NLITeacher, placement: Placement = ONE) -> Engine:
    return load_engine(name, teacher, placement, precision)


def probabilities(
    engine: Engine, teacher: NLITeacher, texts: Sequence[str], buckets: tuple[int, ...], labels: LabelSet = LABELS
) -> Any:
    scores = Scorer(teacher, engine, labels, buckets=buckets).score(texts)
    engine.close()
    return soft_labels(scores.entailment, scores.contradiction, multi_label=False)


@pytest.fixture(scope="module")
def reordered(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, ...], str]:
    """The same weights under every order of the classes, of 3 and of 2: the output layer's rows move with the names."""
    paths = {}
    for names in (NLI_3, NLI_2):
        original = tiny_teacher(tmp_path_factory.mktemp("original"), "bert", classes=names)
        for order in itertools.permutations(names):
            directory = tiny_teacher(tmp_path_factory.mktemp("order"), "bert", classes=order)
            with quiet_transformers():
                model = AutoModelForSequenceClassification.from_pretrained(original)
                rows = [names.index(name) for name in order]
                model.classifier.weight.data = model.classifier.weight.data[rows]
                model.classifier.bias.data = torch.arange(len(rows))[rows] * 0.1
                model.config.id2label = dict(enumerate(order))
                model.config.label2id = {name: column for column, name in enumerate(order)}
                model.save_pretrained(directory)
            paths[order] = str(directory)
    return paths


@pytest.mark.parametrize(("name", "precision"), DENSE)
def test_the_order_of_the_classes_changes_nothing(
    name: str, precision: str, reordered: dict[tuple[str, ...], str], shared_cache: Path
) -> None:
    found: dict[int, list[Any]] = {2: [], 3: []}
    for order, path in reordered.items():
        teacher = load_teacher(path)
        engine = load(name, precision, teacher)
        scores = Scorer(teacher, engine, LABELS, buckets=(64,)).score(LINES)
        engine.close()
        found[len(order)].append(np.stack([scores.entailment, scores.contradiction]))
    assert (len(found[2]), len(found[3])) == (2, 6)
    for same in found.values():
        assert np.ptp(same[0]) > 0.05  # the texts and classes do differ
        for logits in same[1:]:
            np.testing.assert_allclose(logits, same[0], atol=1e-6)


@pytest.fixture(scope="module")
def real() -> tuple[NLITeacher, list[str], LabelSet]:
    """The bundled teacher, cut to 40 tokens for the sake of time, 200 rows of the bundled corpus and two classes."""
    texts = sample_path("corpus.txt").read_text(encoding="utf-8").splitlines()[:200]
    return load_teacher(BUNDLED_TEACHER, max_length=40), texts, LabelSet(names=("sports", "technology"))


@pytest.fixture(scope="module")
def reference(real: tuple[NLITeacher, list[str], LabelSet]) -> Any:
    teacher, texts, labels = real
    return probabilities(load("torch", "fp32", teacher), teacher, texts, (24, 40), labels)


@pytest.mark.parametrize(("name", "precision"), [both for both in DENSE if both != ("torch", "fp32")])
def test_real_rows_get_torchs_probabilities(
    name: str, precision: str, real: tuple[NLITeacher, list[str], LabelSet], reference: Any, shared_cache: Path
) -> None:
    teacher, texts, labels = real
    probs_NK = probabilities(load(name, precision, teacher), teacher, texts, (24, 40), labels)
    if precision == "fp32":
        np.testing.assert_allclose(probs_NK, reference, atol=1e-4)
        return
    assert not np.array_equal(probs_NK, reference)  # it does compute in another precision
    clear_N = np.abs(reference[:, 0] - reference[:, 1]) > 0.02
    assert clear_N.mean() > 0.9
    np.testing.assert_array_equal(probs_NK.argmax(axis=1)[clear_N], reference.argmax(axis=1)[clear_N])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", [name for name in EXACT if name != "torch"])
def test_every_row_of_every_shape_is_what_torch_says(
    name: str, family: str, teacher_of: Callable[..., str], shared_cache: Path
) -> None:
    teacher = load_teacher(teacher_of(family))
    engine, torch_engine = load(name, "fp32", teacher), load("torch", "fp32", teacher)
    for rows, length in ((1, 64), (5, 40)):
        inputs = some_pairs(teacher, rows, length)
        np.testing.assert_allclose(engine.logits(inputs), torch_engine.logits(inputs), atol=1e-3)


@pytest.mark.parametrize(("name", "precision"), DENSE)
def test_a_row_does_not_depend_on_its_place_its_neighbours_or_its_padding(
    name: str, precision: str, teacher: NLITeacher
) -> None:
    engine = load(name, precision, teacher, TWO)
    inputs = some_pairs(teacher, 24, 28)
    together = engine.logits(inputs)
    atol = 1e-4 if precision == "fp32" else 0.05 * float(np.ptp(together))
    order = np.random.default_rng(0).permutation(24)
    np.testing.assert_allclose(engine.logits({k: v[order] for k, v in inputs.items()}), together[order], atol=atol)
    np.testing.assert_allclose(engine.logits({k: v[3:4] for k, v in inputs.items()}), together[3:4], atol=atol)
    np.testing.assert_allclose(engine.logits(some_pairs(teacher, 24, 64, longest=28)), together, atol=atol)


@pytest.mark.parametrize(("name", "precision"), DENSE)
def test_lanes_beside_each_other_give_what_one_gives(name: str, precision: str, teacher: NLITeacher) -> None:
    with closing(load(name, precision, teacher, TWO)) as engine:
        batches = [some_pairs(teacher, rows, length) for rows, length in ((8, 32), (5, 40), (3, 64))] * 4
        alone = [engine.logits(batch) for batch in batches[:3]] * 4
        together = (engine.lanes.pool.map if engine.lanes.pool else map)(engine.logits, batches)
        for found, expected in zip(together, alone, strict=True):
            np.testing.assert_allclose(found, expected, atol=1e-5 * float(np.ptp(expected)))


@pytest.mark.parametrize("name", EXACT)
def test_a_result_is_not_overwritten_by_the_next_call(name: str, teacher: NLITeacher) -> None:
    engine = load(name, "fp32", teacher, TWO)
    first = engine.logits(some_pairs(teacher, 4, 32))
    kept = first.copy()
    backwards = {key: array[::-1].copy() for key, array in some_pairs(teacher, 4, 32).items()}
    assert not np.array_equal(engine.logits(backwards), kept)
    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize(("name", "precision"), DENSE)
def test_an_engine_says_what_it_is_and_leaves_no_thread(name: str, precision: str, teacher: NLITeacher) -> None:
    before = set(threading.enumerate())
    engine = load(name, precision, teacher, TWO)
    list((engine.lanes.pool.map if engine.lanes.pool else map)(engine.logits, [some_pairs(teacher, 4, 32)] * 4))
    assert (engine.name, engine.precision, engine.threads) == (name, precision, 2)
    assert engine.fingerprint.startswith(f"{name} ")
    assert precision in engine.fingerprint and teacher.fingerprint in engine.fingerprint
    assert engine.lanes.count in (1, 2) and engine.most_buckets >= 3 and engine.token_budget >= teacher.max_length
    engine.close()
    assert not [thread for thread in set(threading.enumerate()) - before if thread.name.startswith("zsd-lane")]


@pytest.mark.parametrize("name", ENGINE_NAMES)
def test_a_precision_or_device_that_is_not_there_is_refused(name: str, teacher: NLITeacher) -> None:
    with pytest.raises(EngineError, match=f"the {name} engine has no precision 'int3' on cpu"):
        load_engine(name, teacher, Placement(), "int3")
    if name != "torch" or not torch.cuda.is_available():
        with pytest.raises(EngineError, match="GPU"):
            load_engine(name, teacher, Placement(device="cuda"))


def test_an_unknown_engine_is_refused(teacher: NLITeacher) -> None:
    with pytest.raises(ConfigError, match="no engine 'warp': use one of auto, torch, deepsparse, openvino"):
        load_engine("warp", teacher, Placement())


@pytest.mark.parametrize("name", [name for name, precision in combinations("cpu") if precision == "int8"])
def test_int8_comes_from_zsd_compile_only(name: str, teacher: NLITeacher) -> None:
    with pytest.raises(EngineError, match=r"has no int8 form .*: make one with zsd compile --teacher .* --int8"):
        load_engine(name, teacher, Placement(), "int8")


def some_pairs(teacher: NLITeacher, rows: int, length: int, *, longest: int | None = None) -> dict[str, Any]:
    """So many pairs of up to `longest` tokens (the length where None), padded to the length, one at least full."""
    texts = [" ".join(LINES[i % 5].split() * 9)[: 200 if i == 0 else 3 + 5 * i] for i in range(rows)]
    layout = pair_layout(teacher.tokenizer)
    pairs = PairSet.build(teacher.tokenizer, layout, texts, ["No."], max_length=longest or length)
    return pairs.batch(np.arange(rows), length=length)
