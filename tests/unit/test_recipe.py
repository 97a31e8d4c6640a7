from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import check_grad

from tests.unit.store import build
from tests.unit.synthetic import synthetic
from zsd.errors import ConfigError
from zsd.label_tables import soft_label_table
from zsd.labels import LabelSet
from zsd.shards import LOGITS, Store, matrix, write_json
from zsd.soft_labels import Recipe, fit_recipe, soft_labels
from zsd.soft_labels.content_free import CONTENT_FREE, ContentFree, content_free_texts, write_content_free
from zsd.soft_labels.gold import GoldLogits, Problem, _most_likely, fit_gold, log_loss
from zsd.training_plan import _rounded

# Legend: N rows, K labels.

BIAS = (0.5, 0.0, -1.0)
BALANCED = (1 / 3, 1 / 3, 1 / 3)
SKEWED = (0.94, 0.03, 0.03)
NAMES = ("a", "b", "c")


def store_of(
    root: Path, entailment_NK: Any, contradiction_NK: Any = None, *, multi_label: bool = False, order: Any = None
) -> Store:
    """A finished store of these logits, in two files."""
    against_NK = np.zeros_like(entailment_NK) if contradiction_NK is None else contradiction_NK
    order = np.arange(len(entailment_NK)) if order is None else order
    labels = LabelSet(names=NAMES, multi_label=multi_label)
    rows = pa.table({"id": [f"row-{n}" for n in order], "text": [f"text {n}" for n in order]})
    table = soft_label_table(rows, entailment_NK[order], against_NK[order], labels, 2.0)
    cut = len(table) // 3
    build(root, [table.slice(0, cut), table.slice(cut)], labels=labels.to_dict(), temperature=2.0)
    return Store(str(root))


def probs_of(store: Store, recipe: Recipe) -> Any:
    table = store.read(LOGITS)
    return recipe.probs(*(matrix(table[name]) for name in LOGITS))


@pytest.fixture(scope="module")
def balanced(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return store_of(tmp_path_factory.mktemp("balanced"), synthetic(BALANCED, BIAS)[0])


@pytest.fixture(scope="module")
def skewed(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return store_of(tmp_path_factory.mktemp("skewed"), synthetic(SKEWED, (0.0, 0.0, 0.0))[0])


def test_no_correction_gives_the_probabilities_of_the_store(balanced: Store) -> None:
    recipe = fit_recipe(balanced, method="none")
    assert recipe == Recipe(method="none", multi_label=False, temperature=2.0)
    np.testing.assert_array_equal(probs_of(balanced, recipe), matrix(balanced.read(["probs"])["probs"]))


def test_batch_calibration_gives_every_class_the_same_mean(balanced: Store, skewed: Store) -> None:
    for store, trusted in ((balanced, True), (skewed, False)):
        recipe = fit_recipe(store, method="batch", temperature=1.0)
        np.testing.assert_allclose(probs_of(store, recipe).mean(axis=0), 1 / 3, atol=1e-4)
        assert recipe.facts["evidence"]["all"]["batch_trusted"] is trusted


def test_auto_corrects_what_the_rows_support_and_nothing_else(balanced: Store, skewed: Store) -> None:
    corrected = fit_recipe(balanced)
    assert corrected.method == "information" and corrected.prior is not None
    assert np.argmin(corrected.prior) == 2 and np.argmax(corrected.prior) == 0
    left = fit_recipe(skewed)
    assert (left.method, left.prior) == ("none", None)
    assert "spread over" in left.facts["evidence"]["all"]["refused"]


@pytest.mark.parametrize("method", ["auto", "batch"])
@pytest.mark.parametrize("reviewed", [0, 200])
def test_a_recipe_does_not_depend_on_the_order_of_rows_or_shards(
    method: str, reviewed: int, balanced: Store, tmp_path: Path
) -> None:
    logits_NK, classes_N = synthetic(BALANCED, BIAS)
    gold = {f"text {n}": int(classes_N[n]) for n in range(reviewed)}
    by_class = np.argsort(classes_N, kind="stable")
    in_turn = by_class[np.argsort(np.arange(len(classes_N)) % (len(classes_N) // 3), kind="stable")]
    for number, order in enumerate((np.random.default_rng(3).permutation(len(logits_NK)), by_class, in_turn)):
        other = store_of(tmp_path / str(number), logits_NK, order=order)
        one, two = (fit_recipe(store, method=method, gold=gold) for store in (balanced, other))
        assert one.method == two.method
        np.testing.assert_allclose(one.prior or (), two.prior or (), atol=1e-4)
        assert one.temperature == pytest.approx(two.temperature, abs=1e-4)


def test_a_large_store_is_sampled_without_regard_to_order(
    balanced: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from zsd.soft_labels import fit
    from zsd.soft_labels.sample import sample_logits

    logits_NK, _ = synthetic(BALANCED, BIAS)
    other = store_of(tmp_path, logits_NK, order=np.arange(len(logits_NK))[::-1])
    samples = [sample_logits(store, most=len(logits_NK)) for store in (balanced, other)]
    assert 0.25 < len(samples[0]) / len(logits_NK) < 0.42  # of 3 logits a row, one row in three
    one_N, two_N = (np.sort(sample.entailment[:, 0]) for sample in samples)
    np.testing.assert_array_equal(one_N, two_N)
    assert 0.4 < samples[0].halves.mean() < 0.6
    monkeypatch.setattr(fit, "sample_logits", lambda store: samples[0])
    assert fit_recipe(balanced).method == "information"


@given(
    st.sampled_from(["none", "information", "batch"]),
    st.booleans(),
    st.floats(0.01, 100),
    st.none() | st.lists(st.floats(0.001, 0.999), min_size=1, max_size=5),
    st.none() | st.lists(st.tuples(st.floats(-2, 2), st.floats(-2, 2)), min_size=2, max_size=2),
)
def test_a_recipe_survives_json(
    method: str, multi: bool, temperature: float, prior: list[float] | None, mixing: list[tuple[float, ...]] | None
) -> None:
    recipe = Recipe(
        method=method,
        multi_label=multi,
        temperature=temperature,
        prior=None if prior is None else tuple(prior),
        mixing=None if mixing is None else tuple(mixing),
        facts={"rows": 3},
    )
    again = Recipe.from_dict(json.loads(json.dumps(recipe.to_dict())))
    assert again == recipe and again.facts == recipe.facts


@given(st.lists(st.floats(-10, 10), min_size=3, max_size=3), st.booleans())
def test_a_bias_is_taken_off_the_entailment_logits(bias: Sequence[float], multi_label: bool) -> None:
    entailment_NK, contradiction_NK = (np.random.default_rng(n).normal(size=(5, 3)).astype(np.float32) for n in (0, 1))
    recipe = Recipe(method="information", multi_label=multi_label).with_bias(np.array(bias))
    moved_NK = (entailment_NK - np.array(bias)).astype(np.float32)
    expected_NK = soft_labels(moved_NK, contradiction_NK, multi_label=multi_label)
    np.testing.assert_allclose(recipe.probs(entailment_NK, contradiction_NK), expected_NK, atol=1e-4)


def test_what_a_recipe_refuses() -> None:
    zeros = np.zeros((1, 2), np.float32)
    unasked = np.array([[0.0, -np.inf]], np.float32)
    with pytest.raises(ValueError, match="those of all classes are needed"):
        Recipe(method="batch", multi_label=False, mixing=((0.0, 0.0), (0.0, 0.0))).probs(unasked, zeros)
    not_square, not_finite = ((0.0, 0.0),), ((0.0, float("nan")), (0.0, 0.0))
    for wrong in ({"temperature": 0.0}, {"prior": (0.0, 1.0)}, {"mixing": not_square}, {"mixing": not_finite}):
        with pytest.raises(ValueError, match="must be"):
            Recipe(method="batch", multi_label=False, **wrong)
    with pytest.raises(ValueError, match="a prior of 3 classes for logits of 2"):
        Recipe(method="batch", multi_label=False, prior=(0.2, 0.3, 0.5)).probs(zeros, zeros)


def test_what_cannot_be_fitted_is_refused_in_one_line(balanced: Store, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'magic' is not known: use auto, none"):
        fit_recipe(balanced, method="magic")
    with pytest.raises(ConfigError, match="needs a store of zsd label --content-free"):
        fit_recipe(balanced, method="contextual")
    multi = store_of(tmp_path, np.zeros((6, 3), np.float32), multi_label=True)
    with pytest.raises(ConfigError, match="of which each row has one"):
        fit_recipe(multi, method="batch")
    assert fit_recipe(multi).method == "none"


def test_multi_label_each_class_is_corrected_by_itself(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    true_NK = generator.random((1200, 3)) < np.array([0.4, 0.4, 0.01])
    logits_NK = (generator.normal(-2, 1, (1200, 3)) + 4.0 * true_NK + np.array([0.0, -1.5, 0.0])).astype(np.float32)
    store = store_of(tmp_path, logits_NK, multi_label=True)
    recipe = fit_recipe(store)
    assert recipe.method == "information" and recipe.prior is not None
    assert recipe.prior[1] < 0.4  # odds taken up for the class that was answered too rarely
    assert recipe.prior[2] == 0.5  # a rare class is left as it is
    assert recipe.facts["evidence"]["c"]["refused"] is not None
    plain, corrected = (
        ((probs_of(store, one) > 0.5) == true_NK).mean() for one in (fit_recipe(store, method="none"), recipe)
    )
    assert corrected > plain + 0.02


def test_content_free_texts_calibrate(balanced: Store, tmp_path: Path) -> None:
    logits_NK, _ = synthetic(BALANCED, BIAS)
    store = store_of(tmp_path, logits_NK)
    texts = content_free_texts(["some words of", "a corpus"])
    assert texts == content_free_texts(["some words of", "a corpus"])
    assert {word for text in texts for word in text.split()} <= {"some", "words", "of", "a", "corpus"}
    free_MK = np.tile(np.array(BIAS, np.float32), (len(texts), 1))
    write_content_free(
        str(tmp_path), ContentFree(texts=tuple(texts), entailment=free_MK, contradiction=np.zeros_like(free_MK))
    )
    recipe = fit_recipe(store, method="contextual", temperature=1.0)
    plain_NK = soft_labels((logits_NK - np.array(BIAS)).astype(np.float32), logits_NK, multi_label=False)
    np.testing.assert_allclose(probs_of(store, recipe), plain_NK, atol=1e-5)
    assert (tmp_path / CONTENT_FREE).is_file()


@pytest.mark.parametrize("multi_label", [False, True])
def test_gold_rows_fit_the_temperature(multi_label: bool, tmp_path: Path) -> None:
    """Logits that are three times too large: gold rows bring them down, and lower the loss of rows they are not."""
    generator = np.random.default_rng(0)
    logits_NK = generator.normal(0, 1.5, (1500, 3)).astype(np.float32)
    probs_NK = soft_labels(logits_NK, np.zeros_like(logits_NK), multi_label=multi_label)
    if multi_label:
        targets_NK = (generator.random((1500, 3)) < probs_NK).astype(int)
        gold: dict[str, Any] = {f"text {n}": targets_NK[n].tolist() for n in range(600)}
    else:
        classes_N = [int(generator.choice(3, p=row / row.sum())) for row in probs_NK.astype(np.float64)]
        targets_NK = np.eye(3)[classes_N]
        gold = {f"text {n}": classes_N[n] for n in range(600)}
    store = store_of(tmp_path, 3 * logits_NK, multi_label=multi_label)
    recipe = fit_recipe(
        store, method="none", gold={**gold, "a text that is not in the store": next(iter(gold.values()))}
    )
    assert recipe.facts["gold_rows"] == 600
    assert 2.2 < recipe.temperature < 3.8
    unseen_NK = 3.0 * logits_NK[600:]
    losses = [
        log_loss(unseen_NK / temperature, targets_NK[600:], multi_label=multi_label)
        for temperature in (recipe.temperature, 1.0)
    ]
    assert losses[0] < losses[1]
    assert fit_recipe(store, method="none", temperature=5.0, gold=gold).temperature == 5.0


def test_many_gold_rows_decide_the_bias_and_few_hardly_move_it(skewed: Store) -> None:
    """What unlabelled rows could not tell: that the teacher leans to a class."""
    _, classes_N = synthetic(SKEWED, (0.0, 0.0, 0.0))
    priors = []
    for rows in (3, 1200):
        gold = {f"text {n}": int(classes_N[n]) for n in range(rows)}
        recipe = fit_recipe(skewed, gold=gold)
        priors.append(np.array(recipe.prior))
    assert np.abs(priors[0] - 1 / 3).max() < 0.25
    assert priors[1][0] < priors[0][0]  # less is divided out of the frequent class


CONFUSED = np.array([[2.5, 0, 0], [1.5, 2.0, 0], [0, 0, 2.5]], np.float32)
"""[K, K] mean logits of each true class (a row): rows of the second make the teacher nearly as sure of the first."""


def confused(rows: int = 1500) -> tuple[Any, Any]:
    generator = np.random.default_rng(5)
    classes_N = generator.integers(0, 3, rows)
    noise_NK = generator.normal(0, 1, (rows, 1)) + generator.normal(0, 0.5, (rows, 3))
    return (CONFUSED[classes_N] + noise_NK).astype(np.float32), classes_N


@pytest.mark.parametrize("multi_label", [False, True])
def test_gold_rows_find_a_class_in_the_logits_of_the_others(multi_label: bool, tmp_path: Path) -> None:
    """No bias does: what tells the first two classes apart is how high both are."""
    logits_NK, classes_N = confused()
    # Where each class is judged by itself it is the difference that counts: a part of both is in its way.
    both_NK = np.random.default_rng(1).normal(0, 3 * multi_label, logits_NK.shape).astype(np.float32)
    store = store_of(tmp_path, logits_NK + both_NK, both_NK, multi_label=multi_label)
    one_hot_NK = np.eye(3, dtype=int)[classes_N]
    gold: dict[str, Any] = {f"text {n}": one_hot_NK[n].tolist() if multi_label else classes_N[n] for n in range(300)}
    right = {}
    for name, classes in (("plain", None), ("gold", gold)):
        recipe = fit_recipe(store, method="auto", gold=classes)
        probs_NK = recipe.probs((logits_NK + both_NK)[300:], both_NK[300:])
        right[name] = ((probs_NK > 0.5) == one_hot_NK[300:]).all(axis=1).mean()
    assert (recipe.mixing is not None) and right["gold"] > right["plain"] + 0.05
    assert fit_recipe(store, method="none", gold=gold).mixing is None


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("mix", [False, True])
@pytest.mark.parametrize("temperature", [None, 2.0])
def test_the_gradient_is_that_of_the_loss(multi_label: bool, mix: bool, temperature: float | None) -> None:
    logits_NK, classes_N = confused(50)
    rows = GoldLogits(entailment=logits_NK, contradiction=-logits_NK / 3, targets=np.eye(3)[classes_N])
    bias_K = np.array([0.3, 0.0, -0.2])
    problem = Problem(rows, bias_K, multi_label=multi_label, move=True, mix=mix, temperature=temperature)
    point = np.random.default_rng(0).normal(size=len(problem.widths))
    assert len(point) == 4 + 9 * mix
    wrong = check_grad(lambda x: problem.loss(x)[0], lambda x: problem.loss(x)[1], point)
    assert wrong < 1e-4 * np.linalg.norm(problem.loss(point)[1])


def many_classes(confusion: float) -> tuple[GoldLogits, GoldLogits]:
    """300 rows and 1,000 others of 60 classes, each of which moves the logits of the others by so much."""
    generator = np.random.default_rng(2)
    classes_N = generator.integers(0, 60, 1300)
    means_KK = 3 * np.eye(60) + confusion * generator.normal(0, 1, (60, 60))
    logits_NK = (3 * (means_KK[classes_N] + generator.normal(0, 1, (1300, 60)))).astype(np.float32)
    rows = GoldLogits(entailment=logits_NK, contradiction=np.zeros_like(logits_NK), targets=np.eye(60)[classes_N])
    return rows.only(np.arange(1300) < 300), rows.only(np.arange(1300) >= 300)


def test_logits_that_say_what_is_true_are_hardly_ever_mixed() -> None:
    mixed = 0
    for seed in range(20):
        generator = np.random.default_rng(seed)
        logits_NK = generator.normal(0, 2, size=(90, 3)).astype(np.float32)
        true_NK = soft_labels(logits_NK, np.zeros_like(logits_NK), multi_label=False).astype(np.float64)
        targets_NK = np.eye(3)[[generator.choice(3, p=row / row.sum()) for row in true_NK]]
        rows = GoldLogits(entailment=logits_NK, contradiction=np.zeros_like(logits_NK), targets=targets_NK)
        fit = fit_gold(rows, np.zeros(3), multi_label=False, move_bias=True, temperature=None)
        assert set(fit.facts) == {"loss", "mixed_loss"}
        mixed += fit.mixing is not None
    assert mixed <= 3


def test_logits_are_not_mixed_where_that_does_not_help() -> None:
    """No class shows in the logits of another; 3,600 numbers would learn the rows by heart."""
    rows, _ = many_classes(0.0)
    fit = fit_gold(rows, np.zeros(60), multi_label=False, move_bias=True, temperature=None)
    assert fit.mixing is None and fit.facts["mixed_loss"] > fit.facts["loss"]
    few = fit_gold(rows.only(np.arange(300) < 9), np.zeros(60), multi_label=False, move_bias=True, temperature=None)
    assert few.mixing is None and few.facts == {}


@pytest.mark.parametrize("multi_label", [False, True])
def test_what_gold_rows_fit_knows_no_order_and_no_scale(multi_label: bool) -> None:
    """Classes that change places take their part of the fit along; logits times c give the same labels."""
    logits_NK, classes_N = confused(200)
    targets_NK, order = np.eye(3)[classes_N], np.array([2, 0, 1])

    def labels_of(entailment_NK: Any, targets: Any, temperature: float) -> Any:
        rows = GoldLogits(entailment=entailment_NK, contradiction=np.zeros_like(entailment_NK), targets=targets)
        fit = fit_gold(rows, np.zeros(3), multi_label=multi_label, move_bias=True, temperature=temperature)
        assert fit.mixing is not None and fit.temperature == temperature
        fitted_NK = (entailment_NK + entailment_NK @ fit.mixing - fit.bias).astype(np.float32)
        return soft_labels(fitted_NK, np.zeros_like(fitted_NK), multi_label=multi_label, temperature=temperature)

    once_NK = labels_of(logits_NK, targets_NK, 1.0)
    np.testing.assert_allclose(labels_of(logits_NK[:, order], targets_NK[:, order], 1.0), once_NK[:, order], atol=2e-3)
    np.testing.assert_allclose(labels_of(4 * logits_NK, targets_NK, 4.0), once_NK, atol=2e-3)


def test_one_gold_row_changes_little_and_the_same_logits_everywhere_nothing() -> None:
    logits_NK, classes_N = confused(200)
    one = GoldLogits(entailment=logits_NK[:1], contradiction=logits_NK[:1] * 0, targets=np.eye(3)[classes_N[:1]])
    fit = fit_gold(one, np.zeros(3), multi_label=False, move_bias=True, temperature=None)
    assert fit.mixing is None or not fit.mixing.any()
    few = GoldLogits(entailment=logits_NK[:10], contradiction=logits_NK[:10] * 0, targets=np.eye(3)[classes_N[:10]])
    fit = _most_likely(few, np.zeros(3), multi_label=False, move=True, mix=True, temperature=None)
    assert fit.mixing is not None
    kept_N = (logits_NK + logits_NK @ fit.mixing - fit.bias).argmax(axis=1) == logits_NK.argmax(axis=1)
    assert kept_N.mean() > 0.9
    flat = GoldLogits(
        entailment=np.ones((4, 3), np.float32),
        contradiction=np.zeros((4, 3), np.float32),
        targets=np.eye(3)[[0, 1, 2, 0]],
    )
    still = fit_gold(flat, np.zeros(3), multi_label=False, move_bias=True, temperature=None)
    assert still.mixing is None and not still.bias.any()


def test_the_temperature_of_many_classes_is_that_of_rows_not_fitted() -> None:
    """A mixing of 3,600 numbers learns 300 rows by heart: it would say that it is sure of others too."""
    given, unseen = many_classes(0.5)
    fit = fit_gold(given, np.zeros(60), multi_label=False, move_bias=True, temperature=None)
    assert fit.mixing is not None
    unseen_NK = fit.logits(unseen.entailment)
    losses = [
        log_loss(unseen_NK / temperature, unseen.targets, multi_label=False) / 1000
        for temperature in (fit.temperature, fit.temperature / 2, fit.temperature * 2)
    ]
    assert losses[0] < min(losses[1:]) - 0.1


def test_a_recipe_without_mixing_is_written_as_before_there_was_one() -> None:
    """A job that was begun then is the same job now."""
    content = {"method": "batch", "multi_label": False, "temperature": 1.0, "prior": [0.25, 0.75], "facts": {}}
    recipe = Recipe.from_dict(content)
    assert recipe.mixing is None and recipe.to_dict() == content
    assert _rounded(recipe) == {"method": "batch", "temperature": 1.0, "prior": [0.25, 0.75]}
    assert _rounded(replace(recipe, mixing=((0.1, 0.0), (0.0, 0.1))))["mixed"] is True


def test_a_recipe_is_written_with_the_student(tmp_path: Path) -> None:
    recipe = Recipe(method="batch", multi_label=False, prior=(0.25, 0.75))
    write_json(str(tmp_path / "zsd.json"), {"recipe": recipe.to_dict()})
    assert Recipe.from_dict(json.loads((tmp_path / "zsd.json").read_text())["recipe"]) == recipe
