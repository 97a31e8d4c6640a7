from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from model2vec import StaticModel
from model2vec.inference import StaticModelPipeline
from model2vec.train import StaticModelForClassification
from scipy.sparse import vstack
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from tests.unit.soft_rows import NAMES, MadeUp
from tests.unit.store import build
from zsd.benchmark import peak
from zsd.corpus.normalize import text_ids
from zsd.errors import ConfigError, InputError, StudentError
from zsd.evaluation import agreement
from zsd.shards import Store, matrix
from zsd.soft_labels import Recipe
from zsd.students import load_student
from zsd.students.fit import fit
from zsd.students.folder import all_students, student_kind
from zsd.students.linear_fit import fit_logistic
from zsd.students.rows import SIDES, SoftRows, Split, StoreRows
from zsd.students.spec import parse_student
from zsd.students.token_embeddings import inverse_frequency, principal_components, start_tokens
from zsd.training_data import heldout_mask

# Legend: N rows, K labels.

KINDS = ["static", "linear"]


@dataclass(frozen=True, kw_only=True)
class Trained:
    directory: Path
    card: dict[str, Any]


def train(
    kind: str, directory: Path, teacher: str, *, rows: Callable[[], Any] | None = None, **settings: Any
) -> Trained:
    rows = rows or MadeUp(multi_label=settings.get("multi_label", False))
    settings = {"multi_label": False, "names": NAMES, "write": lambda line: None, **settings}
    return Trained(directory=directory, card=fit(parse_student(kind), rows, directory, teacher=teacher, **settings))


@pytest.fixture(scope="module")
def trained(
    teacher_of: Callable[..., str], tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[str, bool], Trained]:
    """Each kind, single-label and multi-label."""
    torch.set_num_threads(1)
    return {
        (kind, multi_label): train(kind, tmp_path_factory.mktemp(kind), teacher_of("bert"), multi_label=multi_label)
        for kind in KINDS
        for multi_label in (False, True)
    }


def heldout(rows: Callable[[], Any]) -> SoftRows:
    parts = list(Split.of(rows, 0.1).side(rows, "held-out"))
    return SoftRows(
        ids=[one for part in parts for one in part.ids],
        texts=[text for part in parts for text in part.texts],
        probs=np.concatenate([part.probs for part in parts]),
        weights=np.concatenate([part.weights for part in parts]),
    )


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_student_learns_what_the_words_say_and_says_so_when_loaded(
    kind: str, multi_label: bool, trained: dict[tuple[str, bool], Trained]
) -> None:
    made = trained[kind, multi_label]
    rows = heldout(MadeUp(multi_label=multi_label))
    student = load_student(made.directory)
    answer = student.answer(rows.texts)
    assert (student.kind, student.names, student.multi_label) == (kind, tuple(NAMES), multi_label)
    assert answer.probs.shape == rows.probs.shape and answer.probs.dtype == np.float32 and answer.tokens > 0
    if not multi_label:
        np.testing.assert_allclose(answer.probs.sum(axis=1), 1, atol=1e-5)
    found = agreement(rows.probs, answer.probs, multi_label=multi_label)
    assert found >= 0.97
    card = made.card
    assert card["heldout"]["agreement"] == pytest.approx(found) and card["heldout"]["rows"] == len(rows)
    assert 0.9 < (card["train_rows"] + len(rows)) / 400 < 1  # the others choose
    json.dumps(card)


@pytest.mark.parametrize("kind", KINDS)
def test_what_softened_the_labels_is_taken_off_again(
    kind: str, trained: dict[tuple[str, bool], Trained], teacher_of: Callable[..., str], tmp_path: Path
) -> None:
    texts = heldout(MadeUp(multi_label=False)).texts
    plain, warm = trained[kind, False], train(kind, tmp_path, teacher_of("bert"), temperature=2.0)
    ones_NK, twos_NK = (load_student(one.directory).logits(texts) for one in (plain, warm))
    np.testing.assert_allclose(twos_NK, 2 * ones_NK, rtol=1e-4, atol=1e-4)
    assert warm.card["heldout"]["kl"] == pytest.approx(plain.card["heldout"]["kl"], rel=1e-3)
    assert warm.card["heldout"]["loss"] == pytest.approx(4 * plain.card["heldout"]["loss"], rel=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_depends_on_its_own_text_only(kind: str, trained: dict[tuple[str, bool], Trained]) -> None:
    student = load_student(trained[kind, False].directory)
    texts = ["goal and wine", "", "🏔 ☃", "rain " * 300, "the team", "\x00"]
    together = student.predict(texts)
    np.testing.assert_allclose(together, student.predict(texts[::-1])[::-1], atol=1e-6)
    np.testing.assert_allclose(together, np.concatenate([student.predict([text]) for text in texts]), atol=1e-6)
    assert np.isfinite(together).all() and student.predict([]).shape == (0, len(NAMES))


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_student(
    kind: str, trained: dict[tuple[str, bool], Trained], teacher_of: Callable[..., str], tmp_path: Path
) -> None:
    first = trained[kind, False].directory
    again = train(kind, tmp_path / "again", teacher_of("bert")).directory
    for file in first.iterdir():
        assert file.read_bytes() == (again / file.name).read_bytes(), file.name
    other = train(kind, tmp_path / "other", teacher_of("bert"), seed=1).directory
    same = (first / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()
    assert same == (kind == "linear")


@pytest.mark.parametrize("multi_label", [False, True])
def test_model2vec_classifies_the_same_with_a_static_student(
    multi_label: bool, trained: dict[tuple[str, bool], Trained]
) -> None:
    directory = trained["static", multi_label].directory
    texts = [*heldout(MadeUp(rows=100)).texts, "", "日本"]
    pipeline = StaticModelPipeline.from_pretrained(directory)
    assert pipeline.classes_ is not None and pipeline.classes_.tolist() == NAMES
    np.testing.assert_allclose(load_student(directory).predict(texts), pipeline.predict_proba(texts), atol=1e-5)


@pytest.mark.parametrize("normalize", [False, True])
def test_tokens_that_share_rows_and_have_weights_count_as_model2vec_counts_them(
    normalize: bool, trained: dict[tuple[str, bool], Trained], tmp_path: Path
) -> None:
    pipeline = StaticModelPipeline.from_pretrained(trained["static", False].directory)
    random, plain = np.random.default_rng(0), pipeline.model
    pipeline.model = StaticModel(
        plain.embedding[:50],
        plain.tokenizer,
        config={"model_type": "model2vec"},
        normalize=normalize,
        weights=random.random(len(plain.embedding)),
        token_mapping=random.integers(0, 50, len(plain.embedding)),
    )
    pipeline.save_pretrained(str(tmp_path))
    texts = ["goal and wine", "the team", "rain rain river"]
    np.testing.assert_allclose(load_student(tmp_path).predict(texts), pipeline.predict_proba(texts), atol=1e-5)
    _, embeddings_VD, weighted = start_tokens(str(tmp_path))
    assert embeddings_VD.shape == plain.embedding.shape and weighted


def test_model2vec_trains_a_static_student_on(trained: dict[tuple[str, bool], Trained]) -> None:
    model = StaticModelForClassification.from_pretrained(trained["static", False].directory, out_dim=3)
    stored = StaticModelPipeline.from_pretrained(trained["static", False].directory).model.embedding
    np.testing.assert_array_equal(model.embeddings.weight.detach().numpy(), stored)


def test_a_static_student_starts_where_another_ended(
    trained: dict[tuple[str, bool], Trained], teacher_of: Callable[..., str], tmp_path: Path
) -> None:
    before = trained["static", False].directory
    after = train(f"static:{before}", tmp_path, teacher_of("bert"), rows=MadeUp(rows=100)).directory
    assert student_kind(after) == "static"
    one, other = (StaticModelPipeline.from_pretrained(path).model.embedding for path in (before, after))
    same = (one == other).all(axis=1)
    assert same.any() and not same.all(), "tokens that no text holds stay as they were"


def test_no_file_of_a_linear_student_can_run_code(trained: dict[tuple[str, bool], Trained]) -> None:
    names = sorted(file.name for file in trained["linear", False].directory.iterdir())
    assert names == ["config.json", "model.safetensors", "vocabulary.json"]


def test_a_linear_student_cannot_read_the_files_that_texts_name(
    trained: dict[tuple[str, bool], Trained], tmp_path: Path
) -> None:
    shutil.copytree(trained["linear", False].directory, tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "config.json").read_text())
    config["terms"]["input"] = "filename"
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(StudentError, match="cannot be loaded"):
        load_student(tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_learned_or_chosen_on_held_out_rows(
    kind: str, trained: dict[tuple[str, bool], Trained], teacher_of: Callable[..., str], tmp_path: Path
) -> None:
    """Other texts and other labels there: the same student to the last bit, whose figures say something else."""
    held = {row for some in Split.of(MadeUp(), 0.1).side(MadeUp(), "held-out") for row in some.ids}

    def rows() -> Any:
        for some in MadeUp()():
            texts = [f"{text} zweifel" if one in held else text for one, text in zip(some.ids, some.texts, strict=True)]
            turned_N1 = np.array([one in held for one in some.ids])[:, None]
            probs_NK = np.where(turned_N1, np.roll(some.probs, 1, axis=1), some.probs)
            yield SoftRows(ids=some.ids, texts=texts, probs=probs_NK, weights=some.weights)

    torch.set_num_threads(1)
    again, before = train(kind, tmp_path, teacher_of("bert"), rows=rows), trained[kind, False]
    for file in before.directory.iterdir():
        assert (tmp_path / file.name).read_bytes() == file.read_bytes(), file.name
    assert again.card["heldout"]["agreement"] < before.card["heldout"]["agreement"] - 0.3
    assert again.card["heldout"]["loss"] > before.card["heldout"]["loss"] + 0.1


@pytest.mark.parametrize("heldout", [0.02, 0.1, 0.5])
def test_rows_are_on_one_side_each_and_those_to_choose_by_are_drawn_from_all_that_are_not_held_out(
    heldout: float,
) -> None:
    """If fewer are held out, as by the last student of `zsd annotate`, most of the others are there to learn from."""
    split = Split.of(MadeUp(), heldout)
    rows = {side: {row for some in split.side(MadeUp(), side) for row in some.ids} for side in SIDES}
    every = [row for some in MadeUp()() for row in some.ids]
    assert sorted(row for side in SIDES for row in rows[side]) == sorted(every)
    assert rows["held-out"] == set(np.array(every)[heldout_mask(every, heldout)].tolist())
    more = set(np.array(every)[heldout_mask(every, min(0.9, heldout + 0.3))].tolist()) - rows["held-out"]
    assert 0.01 < len(rows["choosing"] & more) / len(more) < 0.2
    assert 0.01 < len(rows["choosing"]) / (len(every) - len(rows["held-out"])) < 0.2


@pytest.mark.parametrize(("rows", "share"), [(10, 0.2), (200, 1 / 9), (100_000, 0.05)])
def test_few_rows_lend_a_larger_share_to_choose_by(rows: int, share: float) -> None:
    def several() -> Any:
        yield SoftRows(
            ids=[""] * rows, texts=[""] * rows, probs=np.ones((rows, 1), np.float32), weights=np.ones(rows, np.float32)
        )

    assert Split.of(several, 0.1).choosing == pytest.approx(share)


def features(rows: MadeUp) -> tuple[Any, SoftRows]:
    some = heldout(rows)
    return TfidfVectorizer().fit_transform(some.texts), some


def test_on_one_hot_labels_it_is_the_logistic_regression_of_scikit_learn() -> None:
    terms_NF, rows = features(MadeUp(rows=800, hard=True))
    weights = fit_logistic(terms_NF, rows.probs, rows.weights, strength=2.0, multi_label=False)
    known = LogisticRegression(C=2.0, tol=1e-8, max_iter=1000).fit(terms_NF, rows.probs.argmax(axis=1))
    np.testing.assert_allclose(weights[:-1], known.coef_.T, atol=2e-3)


def test_on_soft_labels_it_is_that_of_rows_repeated_once_a_label() -> None:
    terms_NF, rows = features(MadeUp(rows=800))
    weights_N = np.random.default_rng(0).uniform(0.5, 2, size=len(rows)).astype(np.float32)
    weights = fit_logistic(terms_NF, rows.probs, weights_N, strength=2.0, multi_label=False)
    known = LogisticRegression(C=2.0, tol=1e-8, max_iter=1000).fit(
        vstack([terms_NF] * 3),
        np.repeat(np.arange(3), len(rows)),
        sample_weight=(rows.probs * weights_N[:, None]).T.reshape(-1),
    )
    np.testing.assert_allclose(weights[:-1], known.coef_.T, atol=2e-3)


def test_independent_labels_are_a_regression_each() -> None:
    terms_NF, rows = features(MadeUp(rows=800, multi_label=True))
    together = fit_logistic(terms_NF, rows.probs, rows.weights, strength=2.0, multi_label=True)
    for k in range(3):
        both = np.stack([rows.probs[:, k], 1 - rows.probs[:, k]], axis=1)
        alone = fit_logistic(terms_NF, both, rows.weights, strength=1.0, multi_label=False)
        np.testing.assert_allclose(together[:-1, k], alone[:-1, 0] - alone[:-1, 1], atol=5e-3)


def test_frequent_tokens_weigh_less() -> None:
    weights = inverse_frequency(np.array([0, 1, 10, 100_000]))
    assert weights[0] == 1 and (np.diff(weights) < 0).all() and weights[-1] > 0


def test_principal_components_keep_the_distances_that_matter() -> None:
    flat_VH = np.random.default_rng(0).normal(size=(50, 3)) @ np.random.default_rng(1).normal(size=(3, 20))
    reduced_VD = principal_components(flat_VH.astype(np.float32), 8)
    assert np.linalg.norm(reduced_VD, axis=1).mean() == pytest.approx(1, abs=1e-5)
    centred = flat_VH - flat_VH.mean(axis=0)
    scale = np.linalg.norm(centred, axis=1).mean()
    np.testing.assert_allclose(reduced_VD @ reduced_VD.T, centred @ centred.T / scale**2, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_too_few_rows_are_refused(kind: str, teacher_of: Callable[..., str], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="heldout-fraction"):
        train(kind, tmp_path, teacher_of("bert"), rows=MadeUp(rows=2))
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_damaged_is_named(kind: str, trained: dict[tuple[str, bool], Trained], tmp_path: Path) -> None:
    source = trained[kind, False].directory
    for broken in source.iterdir():
        if broken.name == "modules.json":  # of sentence-transformers: nobody else reads it
            continue
        for content in (b"", b"[1, 2"):
            directory = tmp_path / f"{broken.name}-{len(content)}"
            directory.mkdir()
            for file in source.iterdir():
                (directory / file.name).write_bytes(content if file == broken else file.read_bytes())
            with pytest.raises(StudentError, match=str(directory.name)) as told:
                load_student(directory)
            assert "\n" not in str(told.value)


@pytest.mark.parametrize("kind", KINDS)
def test_an_engine_is_refused_where_it_would_not_be_used(kind: str, trained: dict[tuple[str, bool], Trained]) -> None:
    with pytest.raises(ConfigError, match=kind):
        load_student(trained[kind, False].directory, engine="openvino")


def test_all_students_of_a_job_are_found(tmp_path: Path) -> None:
    for name in ("student", "student-static", "student-layers-2", "checkpoints"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
    assert [Path(one).name for one in all_students(str(tmp_path))] == ["student", "student-layers-2", "student-static"]
    assert all_students(str(tmp_path / "student")) == [str(tmp_path / "student")]


@pytest.mark.parametrize("spec", ["static:", "layers:0", " "])
def test_a_student_that_says_too_little_is_refused(spec: str) -> None:
    with pytest.raises(StudentError):
        parse_student(spec)


def stored(root: Path, **settings: Any) -> list[SoftRows]:
    build(root)
    recipe = Recipe(method="none", multi_label=False)
    return list(StoreRows(store=str(root), recipe=recipe, **settings)())


def test_the_rows_of_a_store_have_the_probabilities_of_the_recipe(tmp_path: Path) -> None:
    parts = stored(tmp_path)
    assert sum(map(len, parts)) == 8
    for part, table in zip(parts, Store(str(tmp_path)).tables(), strict=True):
        np.testing.assert_allclose(part.probs, matrix(table["probs"]), atol=1e-6)
        assert part.texts == table["text"].to_pylist()


def test_reviewed_rows_override_the_teacher_and_weigh_more(tmp_path: Path) -> None:
    known, new, tested = "text of id-0-1", "a text that no store knows", "text of id-1-2"
    keys = text_ids(pa.array([known, new, tested], pa.large_string())).to_pylist()
    parts = stored(
        tmp_path,
        gold={keys[0]: (0.0, 1.0, 0.0), keys[1]: (0.0, 0.0, 1.0)},
        new_gold=(new,),
        excluded=frozenset({keys[2]}),
        gold_weight=5.0,
    )
    found = {text: (row, w) for p in parts for text, row, w in zip(p.texts, p.probs.tolist(), p.weights, strict=True)}
    assert len(found) == 8 and tested not in found
    assert found[known] == ([0.0, 1.0, 0.0], 5.0) and found[new] == ([0.0, 0.0, 1.0], 5.0)
    assert {w for text, (_, w) in found.items() if text not in (known, new)} == {1.0}


@pytest.mark.parametrize("limit", [1, 4, 5, 8, 100])
def test_the_first_rows_of_a_store_are_the_limited_ones(limit: int, tmp_path: Path) -> None:
    ids = [one for part in stored(tmp_path, limit=limit) for one in part.ids]
    assert ids == [f"id-{u}-{n}" for u in range(2) for n in range(4)][:limit]


def test_the_peak_is_measured_on_the_threads_asked_for_whoever_was_counted_before(
    trained: dict[tuple[str, bool], Trained], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A static student sets the threads of its process; what is counted and what is measured share one."""
    threads: list[int] = []
    monkeypatch.setattr(peak, "product_rates", lambda *_: threads.append(torch.get_num_threads()))
    before = torch.get_num_threads()
    try:
        _, answer = peak.make_peak(3)
        for kind in KINDS:
            answer(("student", str(trained[kind, False].directory), None))
            answer(None)
    finally:
        torch.set_num_threads(before)
    assert threads == [3, 3]
