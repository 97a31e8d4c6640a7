"""Students named by URI: a tiny one on a real S3 server, and on this disk as ``file://``."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest
import torch

from tests import here
from tests.families import tiny_checkpoint
from tests.s3_server import Server
from zsd import storage
from zsd.attempts import Attempts
from zsd.cache import cache_directory
from zsd.config import EvaluateConfig, PredictConfig
from zsd.distributed import store_job
from zsd.distributed.predict import predict
from zsd.distributed.sizing import PoolSize
from zsd.errors import StoreError, StudentError
from zsd.evaluate import evaluate
from zsd.predicting import PredictTask
from zsd.shards import UnitRecord, matrix
from zsd.students import load_student
from zsd.students.folder import absolute_student, all_students, student_directory, student_uri
from zsd.students.layers import build_student
from zsd.students.spec import parse_student
from zsd.teachers.nli import checkpoint_fingerprint

TEXTS = ["the order is late", "money back", "a question"]


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `zsd distill` leaves, with two students."""
    folder = tmp_path_factory.mktemp("places") / "out"
    for name in ("student", "student-small"):
        student = tiny_checkpoint(folder / name, "bert", num_labels=3, id2label=dict(enumerate("abc")))
        (student / "zsd.json").write_text(json.dumps({"student": name}))
    return folder


@pytest.fixture
def remote(output: Path, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The same in a bucket, and an empty cache here."""
    monkeypatch.setenv("ZSD_CACHE", str(tmp_path / "cache"))
    uri = server.uri(f"bucket/{tmp_path.name}")
    place = storage.resolve(uri)
    pafs.copy_files(str(output), place.path, destination_filesystem=place.fs)
    return uri


def copies() -> int:
    return len(list((cache_directory() / "students").iterdir()))


def test_a_uri_is_the_student_or_the_output_that_holds_it(output: Path, remote: str) -> None:
    inside = storage.join(remote, "student")
    assert student_uri(remote) == student_uri(inside) == inside
    assert all_students(remote) == [inside, storage.join(remote, "student-small")]
    assert all_students(inside) == [inside]
    assert student_uri(output.as_uri()) == str(output / "student")
    expected_NK = load_student(output).predict(TEXTS)
    for one in (remote, inside, output.as_uri(), (output / "student").as_uri()):
        np.testing.assert_array_equal(load_student(one).predict(TEXTS), expected_NK)
    assert copies() == 1


def test_training_goes_on_from_a_student_of_a_store(output: Path, remote: str) -> None:
    def started(name: str) -> Any:
        return build_student(parse_student(name), teacher=None, names=list("abc"), multi_label=False, seed=0)[0]

    expected = started(str(output / "student")).state_dict()
    found = started(storage.join(remote, "student")).state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    with pytest.raises(StudentError, match="no student here"):
        started(storage.join(remote, "absent"))


def test_a_path_stays_as_it_was_given(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(output.parent)
    assert student_directory("out") == Path("out/student")
    assert absolute_student("out") == str((output / "student").resolve())
    assert all_students("out") == ["out/student", "out/student-small"]


def test_a_student_that_was_replaced_is_copied_anew(remote: str) -> None:
    before = student_directory(remote)
    assert student_directory(remote) == before
    storage.write_bytes_atomic(storage.join(remote, "student", "onnx", "model.int8.onnx"), b"a compiled form")
    after = student_directory(remote)
    assert after != before
    assert (after / "onnx" / "model.int8.onnx").is_file()


def test_evaluate_reads_a_student_of_a_store(remote: str, output: Path, tmp_path: Path) -> None:
    gold = tmp_path / "gold.csv"
    gold.write_text("text,label\n" + "".join(f"{text},a\n" for text in TEXTS))
    there = evaluate(EvaluateConfig(model=remote, data=(str(gold),)))
    here = evaluate(EvaluateConfig(model=output.as_uri(), data=(str(gold),)))
    assert (there.pop("model"), here.pop("model")) == (storage.join(remote, "student"), str(output / "student"))
    assert there == here


def test_a_worker_of_predict_fetches_the_student_itself(
    remote: str, output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks: list[PredictTask] = []

    def on_a_node(attempts: Attempts, task: PredictTask, *_: Any, **__: Any) -> Iterator[UnitRecord]:
        monkeypatch.setenv("ZSD_CACHE", str(tmp_path / "node"))
        tasks.append(pickle.loads(pickle.dumps(task)))
        return here.run_units(attempts, tasks[0])

    monkeypatch.setattr(store_job, "run_units", on_a_node)
    monkeypatch.setattr(store_job, "connect", lambda address: None)
    monkeypatch.setattr(store_job, "pool_size", lambda **_: PoolSize(cpu_actors=1, gpu_actors=0, cpus_per_actor=1))
    (tmp_path / "corpus.txt").write_text("\n".join(TEXTS))
    config = PredictConfig(model=remote, data=(str(tmp_path / "corpus.txt"),), output=str(tmp_path / "made"))
    manifest = predict(config)
    assert tasks[0].model == manifest["model"] == storage.join(remote, "student")
    assert manifest["model_fingerprint"] == checkpoint_fingerprint(output / "student")
    assert copies() == 1, "in the cache of the node"
    rows = pq.read_table(tmp_path / "made" / "predictions")
    expected_NK = load_student(output).predict(rows["text"].to_pylist())
    np.testing.assert_allclose(matrix(rows["probs"]), expected_NK, atol=1e-6)


def test_where_there_is_no_student_it_is_one_line(server: Server, tmp_path: Path) -> None:
    for missing in (server.uri("bucket/nothing"), tmp_path.as_uri()):
        with pytest.raises(StudentError, match="no student here"):
            load_student(missing)


def test_a_store_that_fails_is_one_line_too(remote: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("ACCESS_DENIED\nand more")

    monkeypatch.setattr("zsd.students.folder.pafs.copy_files", refuse)
    monkeypatch.setattr("zsd.filesystems.FIRST_PAUSE", 0.0)
    with pytest.raises(StoreError, match="student cannot be read: ACCESS_DENIED: see to that"):
        load_student(remote)
