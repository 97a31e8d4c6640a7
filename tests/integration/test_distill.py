"""`zsd distill`, `predict`, `evaluate` and `benchmark` on a real Ray cluster."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import psutil  # type: ignore[import-untyped]
import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, pipeline

from tests.integration.conftest import kill_job
from zsd.assets import sample_path
from zsd.benchmark_config import BenchmarkConfig
from zsd.cli import main
from zsd.config import DistillConfig, PredictConfig
from zsd.distributed.benchmark import benchmark
from zsd.distributed.predict import predict
from zsd.distributed.train import distill
from zsd.errors import ConfigError, InputError
from zsd.inference import FloatArray
from zsd.shards import Store, matrix
from zsd.students import load_student
from zsd.training_data import heldout_mask
from zsd.verify import verify_store

ROUNDING = 5e-3
"""How far probabilities may lie apart that came of the same steps, summed in another order."""
NAMES = ["technology", "sports", "health", "travel"]


def test_student_is_a_plain_transformers_checkpoint(distilled: Path) -> None:
    directory = str(distilled / "student")
    model = AutoModelForSequenceClassification.from_pretrained(directory)
    assert [model.config.id2label[k] for k in range(4)] == NAMES
    assert model.config.num_hidden_layers == 3
    (scores,) = pipeline("text-classification", model=directory, top_k=None)(["The striker scored twice."])
    assert {one["label"] for one in scores} == set(NAMES)
    assert sum(one["score"] for one in scores) == pytest.approx(1, abs=1e-4)


def test_card_tells_where_the_student_comes_from(distilled: Path, labelled: Path) -> None:
    card = json.loads((distilled / "student" / "zsd.json").read_text())
    ids = Store(str(labelled)).read(["id"])["id"].to_pylist()
    assert card["heldout"]["rows"] == heldout_mask(ids).sum()
    assert card["train_rows"] + card["heldout"]["rows"] == len(ids)
    assert card["labels"]["names"] == NAMES
    assert 0 <= card["heldout"]["agreement"] <= 1
    assert not (distilled / "checkpoints").exists()


def test_student_learned_what_the_teacher_says(distilled: Path, labelled: Path) -> None:
    rows = Store(str(labelled)).read(["text", "probs"])
    student_NK = load_student(distilled).predict(rows["text"].to_pylist())
    agreement = (student_NK.argmax(axis=1) == matrix(rows["probs"]).argmax(axis=1)).mean()
    assert agreement > 0.6  # 40 steps on 140 rows; chance is about 0.27


def test_two_workers_reviewed_rows_and_a_round_of_self_training(labelled: Path, tmp_path: Path) -> None:
    known = Store(str(labelled)).read(["text"])["text"].to_pylist()
    gold = tmp_path / "gold.jsonl"
    rows = [{"text": text, "label": "sports"} for text in (*known[:5], "A text that is nowhere else.")]
    gold.write_text("".join(json.dumps(row) + "\n" for row in rows))
    test = tmp_path / "test.jsonl"
    test.write_text(json.dumps({"text": known[4], "label": "sports"}) + "\n")
    config = DistillConfig(
        soft_labels=str(labelled),
        output=str(tmp_path / "out"),
        num_workers=2,
        students=("layers:1", "linear"),
        rounds=1,
        weight="confidence",
        gold=(str(gold),),
        test=(str(test),),
    )
    steps = {"max_steps": 8, "per_device_train_batch_size": 8}
    card = distill(config, steps)
    assert card["workers"] == 2
    assert card["parameters"] > 0
    assert card["rounds"] == 1
    assert card["gold_rows"] == 5  # the test row is none of them
    assert card["heldout"]["rows"] + card["train_rows"] <= len(known)
    assert card["students"]["linear"]["heldout"]["agreement"] > 0
    assert (tmp_path / "out" / "student-linear" / "zsd.json").exists()
    assert not (tmp_path / "out" / "checkpoints").exists()
    before = (tmp_path / "out" / "student" / "model.safetensors").stat().st_mtime_ns
    assert distill(config, steps) == card
    assert (tmp_path / "out" / "student" / "model.safetensors").stat().st_mtime_ns == before


def test_training_goes_on_from_an_earlier_student(distilled: Path, labelled: Path, tmp_path: Path) -> None:
    config = DistillConfig(soft_labels=str(labelled), output=str(tmp_path), student=str(distilled / "student"))
    card = distill(config, {"max_steps": 1, "learning_rate": 1e-9})
    one, other = (load_file(out / "student" / "model.safetensors") for out in (distilled, tmp_path))
    for name, tensor in one.items():
        np.testing.assert_allclose(tensor.numpy(), other[name].numpy(), atol=1e-6, err_msg=name)
    assert card["freeze_embeddings"] is True


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_number_of_workers_changes_nothing(labelled: Path, tmp_path: Path) -> None:
    losses, answers = [], []
    for workers in (1, 2, 4):
        output = tmp_path / str(workers)
        config = DistillConfig(soft_labels=str(labelled), output=str(output), num_workers=workers)
        card = distill(config, {"max_steps": 20, "bf16": False})
        assert card["workers"] == workers
        losses.append(card["heldout"]["loss"])
        answers.append(_answers(output, labelled))
    np.testing.assert_allclose(losses, losses[0], rtol=1e-3)
    for other_NK in answers[1:]:
        np.testing.assert_allclose(answers[0], other_NK, atol=ROUNDING)


def _answers(output: Path, labelled: Path) -> FloatArray:
    """What a student says of all rows. Weights cannot be compared: Adam makes whole steps of rounding errors where the
    true gradient is 0, as that of the bias of an attention's keys is."""
    return load_student(output).predict(Store(str(labelled)).read(["text"])["text"].to_pylist())


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_worker_killed_in_the_middle_changes_nothing_but_time(labelled: Path, tmp_path: Path) -> None:
    answers = []
    for name in ("whole", "killed"):
        output = tmp_path / name
        config = DistillConfig(soft_labels=str(labelled), output=str(output), num_workers=2)
        killed = threading.Event()
        if name == "killed":
            threading.Thread(target=_kill_a_worker, args=(output, killed), daemon=True).start()
        distill(config, {"max_steps": 60, "save_steps": 10, "bf16": False})
        assert killed.is_set() == (name == "killed")
        answers.append(_answers(output, labelled))
    np.testing.assert_allclose(answers[0], answers[1], atol=ROUNDING)


def _kill_a_worker(output: Path, killed: threading.Event) -> None:
    """Kill one of our own training workers as soon as there is a checkpoint."""
    while not list((output / "checkpoints").rglob("checkpoint_*")):
        time.sleep(0.05)
    ours = psutil.Process().children(recursive=True)
    workers = [one for one in ours if "RayTrainWorker" in " ".join(one.cmdline())]
    workers[0].kill()
    killed.set()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_training_killed_with_two_workers_and_resumed_with_one_equals_uninterrupted(
    labelled: Path, tmp_path: Path
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert _zsd_distill(labelled, whole).wait() == 0
    driver = _zsd_distill(labelled, killed, workers=2)
    deadline = time.monotonic() + 240
    while not list((killed / "checkpoints").rglob("checkpoint_*")):
        assert driver.poll() is None, "the driver ended before it could be killed"
        assert time.monotonic() < deadline, "no checkpoint appeared"
        time.sleep(0.05)
    kill_job(driver)
    assert not (killed / "student").exists()
    resumed = _zsd_distill(labelled, killed)
    assert resumed.wait() == 0
    np.testing.assert_allclose(_answers(whole, labelled), _answers(killed, labelled), atol=ROUNDING)


def _zsd_distill(labelled: Path, output: Path, workers: int = 1) -> subprocess.Popen[bytes]:
    arguments = ["--soft-labels", str(labelled), "--output", str(output), "--max_steps", "60", "--save_steps", "20"]
    arguments += ["--bf16", "false", "--num-workers", str(workers)]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    command = [sys.executable, "-m", "zsd.cli", "distill", *arguments]
    return subprocess.Popen(command, start_new_session=True, env=environment, stderr=subprocess.DEVNULL)


def test_what_distill_refuses(labelled: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no store"):
        distill(DistillConfig(soft_labels=str(tmp_path), output=str(tmp_path / "out")), {})
    config = DistillConfig(soft_labels=str(labelled), output=str(tmp_path / "out"))
    with pytest.raises(ConfigError, match="label_smoothing_factor"):
        distill(config, {"label_smoothing_factor": 0.1})


def test_predictions_are_those_of_the_student(distilled: Path, tmp_path: Path) -> None:
    config = PredictConfig(
        model=str(distilled),
        data=(str(sample_path("test.csv")),),
        output=str(tmp_path / "out"),
        gpu_actors=0,
        cpu_actors=1,
    )
    manifest = predict(config)
    assert manifest["rows"] == manifest["rows_in"] == 169
    assert verify_store(str(tmp_path / "out")).problems == []
    rows = pq.read_table(tmp_path / "out" / "predictions")
    expected_NK = load_student(distilled).predict(rows["text"].to_pylist())
    np.testing.assert_allclose(matrix(rows["probs"]), expected_NK, atol=1e-4)


def test_evaluate_counts_what_it_says(
    distilled: Path, gold_rows: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "figures.json"
    data = str(sample_path("test.csv"))
    assert main(["evaluate", "--model", str(distilled), "--data", data, "--json", str(target)]) == 0
    assert "accuracy" in capsys.readouterr().out
    best_N = load_student(distilled).predict(list(gold_rows)).argmax(axis=1)
    right = [NAMES[k] == gold for k, gold in zip(best_N, gold_rows.values(), strict=True)]
    assert json.loads(target.read_text())["accuracy"] == pytest.approx(np.mean(right))


def test_benchmark_writes_figures_and_a_report(distilled: Path, tmp_path: Path, gold_rows: dict[str, str]) -> None:
    config = BenchmarkConfig(
        model=(str(distilled),),
        data=(str(sample_path("test.csv")),),
        output=str(tmp_path),
        limit=24,
        speed_rows=4,
        rounds=1,
        engines=("torch:fp32",),
    )
    result = benchmark(config)
    written = json.loads((tmp_path / "benchmark" / "benchmark.json").read_text())
    assert written["task"]["rows"] == 24
    kinds = {one["kind"]: one for one in written["contestants"]}
    assert kinds.keys() == {"pipeline", "recipe", "teacher", "student"}
    assert kinds["pipeline"]["speedup"] == 1
    assert kinds["pipeline"]["agreement"] == kinds["recipe"]["agreement"] == kinds["teacher"]["agreement"] == 1
    assert all(one["peak_share"] > 0 and one["flops_per_row"] > 0 for one in kinds.values())
    assert all(one["rows_per_second"] > 0 and one["peak_memory_mb"] > 0 for one in kinds.values())
    assert result["quality"]["teacher"]["accuracy"] > 0.5
    overhead = written["ray_overhead"]
    assert overhead["ratio"] == pytest.approx(overhead["label_rows_per_second"] / overhead["bare_rows_per_second"])
    page = (tmp_path / "benchmark" / "report.html").read_text()
    assert "transformers" in page
