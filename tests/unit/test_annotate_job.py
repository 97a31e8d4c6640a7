"""`zsd annotate` from end to end without Ray: a tiny teacher and linear students."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from tests import here
from tests.unit.test_predict_job import NAMES, WORDS, without_ray
from zsd.annotate_config import AnnotateConfig
from zsd.assets import BUNDLED_TEACHER
from zsd.config import DistillConfig, LabelConfig
from zsd.distributed import annotate as annotate_module
from zsd.distributed.annotate import annotate, default_student
from zsd.distributed.label import label
from zsd.errors import ConfigError, InputError, OutputError
from zsd.heldout import card_recipe, read_card
from zsd.light_training import train_light
from zsd.output import claim
from zsd.shards import LOGITS, Store, matrix
from zsd.soft_labels import fit
from zsd.soft_labels.gold import GoldFit
from zsd.students.folder import CARD
from zsd.training_data import heldout_mask
from zsd.training_plan import plan_training
from zsd.verify import verify_store

ROWS = 900


def write_corpus(file: Path) -> None:
    """`ROWS` different texts."""
    rng = np.random.default_rng(1)
    texts = list(dict.fromkeys(" ".join(rng.choice(WORDS, size=4)) for _ in range(ROWS + 200)))[:ROWS]
    file.write_text("\n".join(texts))


def distill_here(config: DistillConfig, arguments: dict[str, Any]) -> None:
    plan = plan_training(config, arguments)
    claim(config.output, "distill", plan.identity)
    for task in plan.tasks:
        if not Path(task.target, CARD).exists():
            train_light(task, write=lambda line: None)


def install(monkeypatch: pytest.MonkeyPatch, **how: Any) -> None:
    without_ray(monkeypatch, **how)
    monkeypatch.setattr(annotate_module, "distill", distill_here)


def config(corpus: Path, output: Path, teacher: str, **changes: Any) -> AnnotateConfig:
    asked: dict[str, Any] = {
        "data": (str(corpus),),
        "output": str(output),
        "label": NAMES,
        "teacher": teacher,
        "engine": "torch",
        "student": "linear",
        "calibrate": "batch",
        "judging_rows": 100,
        "first_rows": 60,
        "min_agreement": 0.75,
        "alpha": 0.001,  # the teacher is another one in every run, and a promise may be broken so often
        "unit_rows": 128,
    }
    return AnnotateConfig(**(asked | changes))


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory, teacher_of: Callable[..., str]) -> Callable[..., AnnotateConfig]:
    """An annotation of one corpus by one teacher, by its output."""
    corpus = tmp_path_factory.mktemp("annotate") / "all.txt"
    write_corpus(corpus)
    return lambda output, **changes: config(corpus, output, teacher_of("bert"), **changes)


@pytest.fixture(scope="module")
def annotated(
    asked: Callable[..., AnnotateConfig], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    output = tmp_path_factory.mktemp("annotated") / "out"
    with pytest.MonkeyPatch.context() as patch:
        install(patch)
        return output, annotate(asked(output), {})


def test_every_row_is_answered_once_and_the_pairs_add_up(annotated: tuple[Path, dict[str, Any]]) -> None:
    output, manifest = annotated
    assert verify_store(str(output)).problems == []
    assert manifest["rows"] == ROWS == sum(manifest["answered_by"].values())
    paid, labels = manifest["annotation"], len(NAMES)
    last = paid["samples"][-1]
    assert paid["sample_pairs"] == labels * last["rows"]  # a sample does not ask again what the one before it asked
    asked_about = manifest["deferral"]["shortlist"] or labels
    assert paid["deferred_pairs"] == asked_about * manifest["teacher_rows"]
    assert paid["teacher_pairs"] == paid["sample_pairs"] + paid["deferred_pairs"]
    assert paid["full_pass_pairs"] == labels * ROWS == paid["teacher_pairs"] + paid["pairs_saved"]
    assert manifest["answered_by"]["teacher"] == last["rows"] + manifest["teacher_rows"]
    assert (manifest["deferral"]["corpus_rows"], manifest["deferral"]["known_rows"]) == (ROWS, last["rows"])


@pytest.mark.parametrize(
    ("teacher", "names", "student", "told"),
    [
        (BUNDLED_TEACHER, NAMES, "joint", ""),
        (
            BUNDLED_TEACHER,
            tuple(f"a class of texts, number {n}" for n in range(60)),
            "layers:half",
            "no joint student: the 60 class names take ",
        ),
        (None, NAMES, "distilbert/distilbert-base-uncased", ""),
    ],
)
def test_the_default_student_reads_the_class_names_where_it_can(
    asked: Callable[..., AnnotateConfig],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    teacher: str | None,
    names: tuple[str, ...],
    student: str,
    told: str,
) -> None:
    mine = asked(tmp_path, label=names, student=None)
    mine = replace(mine, teacher=teacher or mine.teacher)
    assert default_student(mine, mine.label_set()) == student
    said = capsys.readouterr().err
    assert told in said and bool(told) == bool(said)


def test_the_threshold_is_fitted_on_rows_that_neither_trained_nor_decided_anything(
    annotated: tuple[Path, dict[str, Any]],
) -> None:
    output, manifest = annotated
    folder = output / "samples" / str(len(manifest["annotation"]["samples"]) - 1)
    ids = Store(str(folder)).read(["id"])["id"].to_pylist()
    judged, final = (read_card(one / "student") for one in (folder, output / "final"))
    assert manifest["proof"] == final["heldout"]["fraction"] < judged["heldout"]["fraction"]
    for card in (judged, final):  # of the others some choose the penalty
        assert card["heldout"]["rows"] == heldout_mask(ids, card["heldout"]["fraction"]).sum()
        assert 0 < card["train_rows"] < len(ids) - card["heldout"]["rows"]
    assert manifest["deferral"]["heldout_rows"] == final["heldout"]["rows"]


def test_the_answers_agree_with_the_full_pass_as_often_as_promised(
    annotated: tuple[Path, dict[str, Any]],
    asked: Callable[..., AnnotateConfig],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    output, manifest = annotated
    without_ray(monkeypatch)
    same = asked(tmp_path)
    label(LabelConfig(data=same.data, output=same.output, label=NAMES, teacher=same.teacher, engine="torch"))
    full = Store(str(tmp_path)).read(["id", *LOGITS]).sort_by("id")
    folder = output / "samples" / str(len(manifest["annotation"]["samples"]) - 1)
    recipe = card_recipe(read_card(output / "final" / "student"))
    assert recipe.method == "batch"
    teacher_N = recipe.probs(*(matrix(full[name]) for name in LOGITS)).argmax(axis=1)
    rows = pq.read_table(output / "predictions").sort_by("id")
    same_N = matrix(rows["probs"]).argmax(axis=1) == teacher_N
    sampled_N = np.isin(rows["id"].to_pylist(), Store(str(folder)).read(["id"])["id"].to_pylist())
    assert 0 < sampled_N.sum() < ROWS
    assert same_N[sampled_N].all()
    by_teacher_N = np.array(rows["answered_by"].to_pylist()) == "teacher"
    assert same_N.mean() >= 0.75
    assert 0 < by_teacher_N.sum() < ROWS
    if manifest["deferral"]["shortlist"] is None:
        assert same_N[by_teacher_N].all()


def test_a_finished_annotation_does_nothing_and_a_killed_one_goes_on(
    tmp_path: Path,
    asked: Callable[..., AnnotateConfig],
    annotated: tuple[Path, dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    output, manifest = annotated
    for after in (1, 2):  # in the first sample, and further on
        with monkeypatch.context() as patch:
            install(patch, after=after)
            with pytest.raises(here.Killed):
                annotate(asked(tmp_path / "out"), {})
    with monkeypatch.context() as patch:
        install(patch)
        resumed = annotate(asked(tmp_path / "out"), {})
    assert resumed["annotation"] == manifest["annotation"]
    one, other = (pq.read_table(out / "predictions").sort_by("id") for out in (output, tmp_path / "out"))
    for column in ("id", "label", "answered_by"):
        assert one[column].to_pylist() == other[column].to_pylist()
    with monkeypatch.context() as patch:
        install(patch, after=0)
        assert annotate(asked(output), {}) == manifest


def test_what_annotate_refuses(asked: Callable[..., AnnotateConfig], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="zsd annotate trains one kind of student"):
        asked(tmp_path, student=None, students=("linear", "static"))
    with pytest.raises(ConfigError, match="--patience: zsd annotate may not choose by the rows that prove"):
        asked(tmp_path, patience=2)
    with pytest.raises(ConfigError, match="native runs no joint student: leave --student joint:2 away"):
        annotate(asked(tmp_path / "none", student="joint:2", student_engine="native"), {})
    assert not (tmp_path / "none").exists()
    with pytest.raises(ConfigError, match="too small to sample"):
        annotate(asked(tmp_path / "out", judging_rows=300), {})


def test_a_student_that_was_trained_on_the_judging_rows_is_refused(
    asked: Callable[..., AnnotateConfig],
    annotated: tuple[Path, dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    install(monkeypatch, after=0)
    final = annotated[0] / "final" / "student"
    with pytest.raises(ConfigError, match=r"held 11\.11% of the rows out .* 16\.67% must judge it here"):
        annotate(asked(tmp_path / "out", student=str(final), judging_rows=150), {})


def test_the_teacher_answers_every_row_that_a_person_has_reviewed(
    asked: Callable[..., AnnotateConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch)
    mine = asked(tmp_path / "out")
    texts = Path(mine.data[0]).read_text().splitlines()[::9]
    gold = tmp_path / "gold.jsonl"
    gold.write_text("".join(json.dumps({"text": text, "label": NAMES[n % 2]}) + "\n" for n, text in enumerate(texts)))
    manifest = annotate(replace(mine, gold=(str(gold),)), {})
    rows = pq.read_table(tmp_path / "out" / "predictions").to_pylist()
    by = {row["text"]: row["answered_by"] for row in rows}
    assert {by[text] for text in texts} == {"teacher"}
    assert manifest["answered_by"]["student"] > 0
    assert manifest["deferral"]["known_rows"] > 100 + 34 + 60
    proof = [row["text"] for row in rows if heldout_mask([row["id"]], manifest["proof"]).all()]
    assert len(set(proof) & set(texts)) > 0
    assert manifest["deferral"]["heldout_rows"] == len(set(proof) - set(texts))


def test_where_reviewed_rows_mix_the_logits_the_teacher_is_asked_about_all_classes(
    asked: Callable[..., AnnotateConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is mixed whatever the rows of this teacher of random weights say: that is not what is looked at here."""

    def mixed(rows: Any, bias_K: Any, **_: Any) -> GoldFit:
        mixing_KK = 0.2 * np.roll(np.eye(len(bias_K)), 1, axis=1)
        return GoldFit(bias=bias_K, mixing=mixing_KK, temperature=1.0, facts={"loss": 0.2, "mixed_loss": 0.1})

    install(monkeypatch)
    monkeypatch.setattr(fit, "fit_gold", mixed)
    mine = asked(tmp_path / "out", calibrate="auto")
    gold = tmp_path / "gold.jsonl"
    texts = Path(mine.data[0]).read_text().splitlines()[::9]
    gold.write_text("".join(json.dumps({"text": text, "label": NAMES[len(text) % 3]}) + "\n" for text in texts))
    manifest = annotate(replace(mine, gold=(str(gold),)), {})
    recipe = card_recipe(read_card(tmp_path / "out" / "final" / "student"))
    assert recipe.mixing is not None and manifest["deferral"]["shortlist"] is None
    rows = pq.read_table(tmp_path / "out" / "predictions")
    of_teacher = rows.filter(pa.array([one == "teacher" for one in rows["answered_by"].to_pylist()]))
    samples = sorted(folder for folder in (tmp_path / "out" / "samples").iterdir() if folder.is_dir())
    stored = Store(str(samples[-1])).read(["id", *LOGITS])
    known = stored.filter(pc.is_in(stored["id"], value_set=of_teacher["id"].combine_chunks())).sort_by("id")
    wanted_NK = recipe.probs(*(matrix(known[name]) for name in LOGITS))
    found = of_teacher.filter(pc.is_in(of_teacher["id"], value_set=known["id"].combine_chunks())).sort_by("id")
    np.testing.assert_allclose(matrix(found["probs"]), wanted_NK, atol=1e-6)
    assert len(found) > 0 and np.isfinite(matrix(rows["probs"])).all()


def test_reviewed_rows_are_read_before_anything_is_labelled(
    asked: Callable[..., AnnotateConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, after=0)
    gold = tmp_path / "gold.csv"
    gold.write_text("text,label\nsome words,no such class\n")
    with pytest.raises(InputError, match="no such class"):
        annotate(asked(tmp_path / "out", gold=(str(gold),)), {})
    assert not (tmp_path / "out").exists()


def test_how_many_actors_and_rejected_rows_are_allowed_does_not_make_another_job(
    annotated: tuple[Path, dict[str, Any]],
    asked: Callable[..., AnnotateConfig],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    output, manifest = annotated
    install(monkeypatch, after=0)
    assert annotate(asked(output, max_rejected=0.5, num_workers=2, cpu_actors=3), {}) == manifest
    with pytest.raises(OutputError, match="growth was"):
        annotate(asked(output, growth=3.0), {})
