"""`zsd predict --defer-to teacher` from end to end without Ray: a tiny teacher, and a student that learned nothing."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests import here
from zsd.confidence import confidence
from zsd.config import LabelConfig, PredictConfig
from zsd.deferral import NEVER, shortlisted
from zsd.distributed import store_job
from zsd.distributed.label import label
from zsd.distributed.predict import predict
from zsd.distributed.sizing import PoolSize
from zsd.errors import ConfigError, OutputError
from zsd.labels import LabelSet
from zsd.shards import LOGITS, Store, matrix, read_json, write_json
from zsd.soft_labels import Recipe, fit_recipe
from zsd.students import load_student
from zsd.students.checkpoint import save_student
from zsd.students.layers import build_student
from zsd.students.spec import parse_student
from zsd.teacher_plan import stored_teacher
from zsd.teachers.nli import load_teacher
from zsd.verify import verify_store

NAMES = ("sports", "business", "science")
WORDS = ("goal", "bank", "late", "winner", "shares", "text", "rate", "example", "top", "central", "time", "stoppage")


@dataclass(frozen=True)
class Made:
    """A store of the first 240 texts of the corpus, a student of it, and all 400 texts."""

    store: Path
    student: Path
    corpus: Path
    recipe: Recipe


@pytest.fixture(scope="module")
def made(teacher_of: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("deferral")
    rng = np.random.default_rng(0)
    texts = list(dict.fromkeys(" ".join(rng.choice(WORDS, size=6)) for _ in range(420)))[:400]
    (folder / "some.txt").write_text("\n".join(texts[:240]))
    (folder / "all.txt").write_text("\n".join(texts))
    with pytest.MonkeyPatch.context() as patch:
        without_ray(patch)
        asked = LabelConfig(
            data=(str(folder / "some.txt"),),
            output=str(folder / "store"),
            label=NAMES,
            teacher=teacher_of("bert"),
            engine="torch",
        )
        manifest = label(asked)
    recipe = fit_recipe(Store(str(folder / "store")), method="batch")  # else this teacher says one class of all rows
    model, tokenizer = build_student(
        parse_student("layers:1"), teacher=teacher_of("bert"), names=NAMES, multi_label=False, seed=0
    )
    save_student(model, tokenizer, folder / "student")
    card = {key: manifest[key] for key in ("labels", "teacher", "teacher_fingerprint", "temperature")}
    card |= {"heldout": {"fraction": 0.5}, "recipe": recipe.to_dict()}
    write_json(str(folder / "student" / "zsd.json"), card)
    return Made(folder / "store", folder / "student", folder / "all.txt", recipe)


def without_ray(monkeypatch: pytest.MonkeyPatch, **how: Any) -> None:
    monkeypatch.setattr(store_job, "run_units", lambda *asked, **_: here.run_units(*asked, **how))
    monkeypatch.setattr(store_job, "connect", lambda address: None)
    monkeypatch.setattr(store_job, "pool_size", lambda **_: PoolSize(cpu_actors=1, gpu_actors=0, cpus_per_actor=1))


def config(made: Made, output: Path, **changes: Any) -> PredictConfig:
    asked: dict[str, Any] = {
        "model": str(made.student),
        "data": (str(made.corpus),),
        "output": str(output),
        "soft_labels": str(made.store),
        "defer_to": "teacher",
        "min_agreement": 0.7,
        "teacher_engine": "torch",
        "unit_rows": 64,
    }
    return PredictConfig(**(asked | changes))


def test_the_student_answers_where_it_is_sure_and_the_calibrated_teacher_elsewhere(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_ray(monkeypatch)
    manifest = predict(config(made, tmp_path / "out"))
    assert verify_store(str(tmp_path / "out")).problems == []
    rows = pq.read_table(tmp_path / "out" / "predictions")
    texts, probs_NK = rows["text"].to_pylist(), matrix(rows["probs"])
    by_teacher_N = np.array(rows["answered_by"].to_pylist()) == "teacher"
    student_NK = load_student(made.student).predict(texts)
    teacher_NK = teacher_probs(made, texts)
    known_N = np.isin(texts, Store(str(made.store)).read(["text"])["text"].to_pylist())
    threshold = manifest["deferral"]["threshold"]
    unsure_N = confidence(student_NK, multi_label=False) < threshold - 1e-5
    sure_N = confidence(student_NK, multi_label=False) > threshold + 1e-5
    assert by_teacher_N[known_N].all()
    assert by_teacher_N[unsure_N].all()
    assert not by_teacher_N[sure_N & ~known_N].any()
    np.testing.assert_allclose(probs_NK[by_teacher_N], teacher_NK[by_teacher_N], atol=1e-4)
    np.testing.assert_allclose(probs_NK[~by_teacher_N], student_NK[~by_teacher_N], atol=1e-4)
    assert manifest["answered_by"] == {"student": (~by_teacher_N).sum(), "teacher": by_teacher_N.sum()}
    assert 0 < manifest["teacher_rows"] == by_teacher_N.sum() - known_N.sum()
    assert manifest["teacher_pairs"] == len(NAMES) * manifest["teacher_rows"]
    assert manifest["answered_by"]["student"] > 0


def teacher_probs(made: Made, texts: list[str]) -> Any:
    """What the teacher says of every text, by the recipe, computed in one go."""
    from zsd.engines import load_engine
    from zsd.engines.base import Placement
    from zsd.teachers.scoring import Scorer

    manifest = Store(str(made.store)).manifest
    teacher = load_teacher(manifest["teacher"])
    scorer = Scorer(teacher, load_engine("torch", teacher, Placement(), "fp32"), LabelSet.from_dict(manifest["labels"]))
    scores = scorer.score(texts)
    return made.recipe.probs(scores.entailment, scores.contradiction)


def test_a_killed_job_goes_on_with_the_threshold_it_had_and_ends_the_same(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        without_ray(patch)
        predict(config(made, tmp_path / "whole"))
    with monkeypatch.context() as patch:
        without_ray(patch, after=2)
        with pytest.raises(here.Killed):
            predict(config(made, tmp_path / "killed"))
    fitted = read_json(str(tmp_path / "killed" / "deferral.json"))
    with monkeypatch.context() as patch:
        without_ray(patch)
        manifest = predict(config(made, tmp_path / "killed"))
        assert predict(config(made, tmp_path / "killed")) == manifest
        with pytest.raises(OutputError, match=r"min_agreement was 0\.7, now 0\.9"):
            predict(config(made, tmp_path / "killed", min_agreement=0.9))
    assert manifest["deferral"] == fitted["deferral"]
    whole, killed = (
        pq.read_table(tmp_path / one / "predictions").sort_by("id").drop_columns("probs") for one in ("whole", "killed")
    )
    assert whole["answered_by"] == killed["answered_by"]
    assert whole["label"] == killed["label"]


def test_a_shortlist_costs_fewer_pairs_and_its_answers_are_the_teachers_among_those_classes(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_ray(monkeypatch)
    manifest = predict(config(made, tmp_path / "out", min_agreement=0.45, shortlist=2))
    assert manifest["deferral"]["shortlist"] == 2
    assert manifest["teacher_pairs"] == 2 * manifest["teacher_rows"] > 0
    assert verify_store(str(tmp_path / "out")).problems == []
    rows = pq.read_table(tmp_path / "out" / "predictions")
    texts = rows["text"].to_pylist()
    known_N = np.isin(texts, Store(str(made.store)).read(["text"])["text"].to_pylist())
    asked_N = (np.array(rows["answered_by"].to_pylist()) == "teacher") & ~known_N
    listed_NK = shortlisted(load_student(made.student).predict(texts), 2)
    expected_NK = np.where(listed_NK, teacher_probs(made, texts), 0)
    expected_NK /= expected_NK.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(matrix(rows["probs"])[asked_N], expected_NK[asked_N], atol=1e-4)


def test_a_student_of_mixed_logits_has_no_shortlist(made: Made, tmp_path: Path) -> None:
    student = tmp_path / "student"
    shutil.copytree(made.student, student)
    card = read_json(str(student / "zsd.json"))
    zeros = [[0.0] * len(NAMES) for _ in NAMES]
    write_json(str(student / "zsd.json"), card | {"recipe": {**card["recipe"], "mixing": zeros}})
    with pytest.raises(
        ConfigError, match="labels mix the logits of all classes, as reviewed rows wanted it: leave it away"
    ):
        predict(config(made, tmp_path / "out", model=str(student), shortlist=2))


def test_where_nothing_is_shown_the_teacher_answers_every_row(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    without_ray(monkeypatch)
    manifest = predict(config(made, tmp_path / "out", min_agreement=1.0))
    assert manifest["deferral"]["threshold"] == NEVER
    assert manifest["answered_by"] == {"student": 0, "teacher": 400}
    assert "it answers every row" in capsys.readouterr().err


def test_rows_that_are_all_known_ask_nobody(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_ray(monkeypatch)
    some = made.corpus.with_name("some.txt")
    manifest = predict(config(made, tmp_path / "out", data=(str(some),)))
    assert (manifest["teacher_rows"], manifest["answered_by"]["teacher"]) == (0, 240)
    ours, theirs = pq.read_table(tmp_path / "out" / "predictions"), Store(str(made.store)).read(["id", *LOGITS])
    logits = theirs.sort_by("id")
    expected_NK = made.recipe.probs(*(matrix(logits[name]) for name in LOGITS))
    np.testing.assert_array_equal(matrix(ours.sort_by("id")["probs"]), expected_NK)


def test_without_deferral_no_column_says_who_answered(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_ray(monkeypatch)
    manifest = predict(config(made, tmp_path / "out", defer_to=None, soft_labels=None))
    assert "answered_by" not in manifest
    assert "answered_by" not in pq.read_table(tmp_path / "out" / "predictions").column_names
    assert verify_store(str(tmp_path / "out")).problems == []


def test_deferral_needs_the_store_that_the_student_learned_from(made: Made, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no soft labels: name the output of zsd label with --soft-labels"):
        predict(config(made, tmp_path / "out", soft_labels=None))
    assert not (tmp_path / "out").exists()
    with pytest.raises(ConfigError, match="--shortlist is given without --defer-to teacher"):
        config(made, tmp_path / "out", defer_to=None, soft_labels=None, shortlist=2)


def test_an_engine_asks_the_teacher_again_with_the_numbers_that_it_was_asked_for(made: Made) -> None:
    store = Store(str(made.store))
    store.manifest["precision_asked"] = "bf16"
    precisions = [stored_teacher(store, engine=one, min_agreement=0.9)[1].precision for one in ("torch", "openvino")]
    assert precisions == ["bf16", None]
