"""`zsd label` on a real Ray cluster with the real bundled teacher."""

import functools
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.integration.conftest import SIX_UNITS, kill_job, label_config
from tests.together import wait_for_all
from zsd import teacher_plan
from zsd.assets import sample_path
from zsd.buckets import LengthSample
from zsd.compile.compiled import RECHECK_DRAFT, Widths, write_recheck
from zsd.compile.draft_training import cut_to_layers, save_draft
from zsd.distributed.cluster import run_tasks
from zsd.distributed.label import label
from zsd.engines import load_engine
from zsd.engines.base import Placement
from zsd.engines.select import load_scorer
from zsd.errors import OutputError
from zsd.labelling import LabelTask, LabelWorker
from zsd.labels import LabelSet
from zsd.monitor import job_status
from zsd.options import flag
from zsd.shards import Store, matrix
from zsd.soft_labels import soft_labels
from zsd.teachers.nli import load_teacher
from zsd.teachers.scoring import Scorer
from zsd.verify import verify_store

NAMES = ("technology", "sports", "health", "travel")


def test_ray_gives_what_the_bare_engine_gives(labelled: Path, sample_texts: list[str]) -> None:
    rows = Store(str(labelled)).read(["text", "label", "score", "probs", "entailment", "contradiction"])
    assert sorted(rows["text"].to_pylist()) == sorted(sample_texts[:160])
    teacher = load_teacher("bundled")
    scorer = Scorer(teacher, load_engine("torch", teacher, Placement(threads=2)), LabelSet(names=NAMES))
    some = rows.take(np.arange(0, 160, 4))
    scores = scorer.score(some["text"].to_pylist())
    np.testing.assert_allclose(matrix(some["entailment"]), scores.entailment, atol=1e-4)
    np.testing.assert_allclose(matrix(some["contradiction"]), scores.contradiction, atol=1e-4)
    expected = soft_labels(scores.entailment, scores.contradiction, multi_label=False)
    np.testing.assert_allclose(matrix(some["probs"]), expected, atol=1e-4)
    np.testing.assert_allclose(rows["score"].to_numpy(), matrix(rows["probs"]).max(axis=1))
    assert rows["label"].to_pylist() == [NAMES[k] for k in matrix(rows["probs"]).argmax(axis=1)]


def test_store_is_sound_and_its_manifest_tells_all(labelled: Path) -> None:
    assert verify_store(str(labelled)).problems == []
    manifest = json.loads((labelled / "manifest.json").read_text())
    assert manifest["rows"] == 160
    assert manifest["pairs"] == 640
    assert manifest["engine"] == "torch"
    assert manifest["rows_per_second"] > 0
    assert manifest["pairs_per_second"] == pytest.approx(4 * manifest["rows_per_second"], rel=0.01)
    assert manifest["labels"]["names"] == list(NAMES)


def test_every_row_is_labelled_rejected_or_a_duplicate(cluster: None, tmp_path: Path) -> None:
    lines = [b'{"text": "The match ended 2-1."}'] * 3 + [
        b'{"text": null}',
        b'{"text": 7}',
        b"{not json",
        b'{"text": "  "}',
    ]
    lines += [b'{"text": "\xff"}', '{"text": "Zoë booked a flight ✈️"}'.encode(), b'{"body": "no text"}']
    corpus = tmp_path / "rows.jsonl"
    corpus.write_bytes(b"\n".join(lines) + b"\n")
    manifest = label(label_config(corpus, tmp_path / "out"))
    assert (manifest["rows_in"], manifest["rows"], manifest["duplicates"], manifest["rejected"]) == (10, 2, 2, 6)
    rejected = pq.read_table(tmp_path / "out" / "rejected")
    assert sorted(rejected["row"].to_pylist()) == [3, 4, 5, 6, 7, 9]
    assert all(rejected["reason"].to_pylist())
    assert verify_store(str(tmp_path / "out")).problems == []


class Together(LabelTask):
    """Makes workers neither of which begins before both actors have loaded the teacher."""

    def __call__(self, placement: Placement) -> LabelWorker:
        worker = super().__call__(placement)
        wait_for_all(Path(self.output).parent / "there", 2)
        return worker


def test_cpu_and_gpu_actors_share_one_corpus(
    cluster: None, tmp_path: Path, sample_texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(teacher_plan, "LabelTask", Together)
    corpus = tmp_path / "many.txt"
    short = {text[:40].strip() for text in sample_texts[:300]}
    corpus.write_text("\n".join(short), encoding="utf-8")
    config = label_config(
        *(corpus, tmp_path / "out"), gpu_actors=1, cpus_per_actor=1, label=tuple("abcdefgh"), labels=None, unit_rows=32
    )
    manifest = label(config)
    assert manifest["rows"] == len(short)
    assert {one["kind"] for one in manifest["engines"]} == {"cpu", "gpu"}
    assert verify_store(str(tmp_path / "out")).problems == []


def test_a_teacher_with_a_draft_labels_on_ray_as_it_does_alone(
    cluster: None, tmp_path: Path, sample_texts: list[str]
) -> None:
    teacher = tmp_path / "drafted"
    shutil.copytree(load_teacher("bundled").path, teacher)
    save_draft(cut_to_layers(load_teacher("bundled"), 1), teacher / "draft")
    write_recheck(teacher, RECHECK_DRAFT, Widths(within=1e-9))

    def alone() -> Scorer:
        return load_scorer(
            "torch",
            "draft",
            load_teacher(str(teacher)),
            LabelSet(names=NAMES),
            Placement(threads=2),
            lengths=LengthSample.of(np.array([60]), max_length=512),
            long_text="truncate",
        )

    first_N, second_N = -np.sort(-alone().score(sample_texts[:40]).entailment, axis=1)[:, :2].T
    write_recheck(teacher, RECHECK_DRAFT, Widths(within=float(np.median(first_N - second_N))))
    corpus = tmp_path / "some.txt"
    corpus.write_text("\n".join(sample_texts[:40]), encoding="utf-8")
    manifest = label(label_config(corpus, tmp_path / "out", teacher=str(teacher), precision="draft"))
    found = Store(str(tmp_path / "out")).read(["text", "entailment"])
    scores = alone().score(found["text"].to_pylist())
    assert 0 < scores.rechecked < scores.pairs and manifest["rechecked"] > 0
    assert [entry["precision"] for entry in manifest["engines"]] == ["draft"]
    same_N = np.abs(matrix(found["entailment"]) - scores.entailment).max(axis=1) < 0.1
    assert same_N.mean() > 0.9  # a row on the edge of what is close may fall to either side, by bf16's rounding


def test_finished_job_is_left_alone_and_another_job_is_refused(labelled: Path) -> None:
    corpus = labelled.parent / "corpus.txt"
    before = {file: file.stat().st_mtime_ns for file in labelled.rglob("*") if file.is_file()}
    assert label(label_config(corpus, labelled))["rows"] == 160
    assert {file: file.stat().st_mtime_ns for file in labelled.rglob("*") if file.is_file()} == before
    with pytest.raises(OutputError, match=r"temperature was 1\.0, now 2\.0"):
        label(label_config(corpus, labelled, temperature=2.0))


def test_killed_and_resumed_equals_uninterrupted(unit_by_unit: Path, tmp_path: Path) -> None:
    killed = tmp_path / "killed"
    driver = _zsd_label(killed)
    _wait_for_part(killed / "soft_labels", driver)
    kill_job(driver)
    time_of_death = time.time()
    kept = sum(pq.ParquetFile(file).metadata.num_rows for file in (killed / "soft_labels").glob("part-*"))
    assert 0 < kept < 96
    assert not (killed / "manifest.json").exists()
    assert job_status(str(killed), now=time_of_death + 3600)["state"] == "dead"
    assert _zsd_label(killed).wait() == 0
    assert verify_store(str(killed)).problems == []
    timeline = json.loads((killed / "manifest.json").read_text())["timeline"]
    assert sum(unit["rows"] for unit in timeline if unit["started"] < time_of_death) == kept, "a unit was done again"
    one, other = (
        Store(str(out)).read(["id", "text", "label", "probs"]).sort_by("id") for out in (unit_by_unit, killed)
    )
    assert one.equals(other)


def _zsd_label(output: Path) -> subprocess.Popen[bytes]:
    arguments = ["--data", str(sample_path("corpus.txt")), "--labels", str(sample_path("labels.txt"))]
    arguments += ["--engine", "torch", "--cpu-actors", "1", "--output", str(output)]
    arguments += [word for name, value in SIX_UNITS.items() for word in (flag(name), str(value))]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    command = [sys.executable, "-m", "zsd.cli", "label", *arguments]
    return subprocess.Popen(command, start_new_session=True, env=environment, stderr=subprocess.DEVNULL)


def _wait_for_part(folder: Path, driver: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 240
    while not list(folder.glob("part-*")):
        assert driver.poll() is None, "the driver ended before it could be killed"
        assert time.monotonic() < deadline, f"no part appeared in {folder}"
        time.sleep(0.02)


def test_a_partial_runs_as_ray_tasks_and_results_come_in_order(cluster: None) -> None:
    assert run_tasks(functools.partial(divmod, 7), [2, 3]) == [divmod(7, 2), divmod(7, 3)]
