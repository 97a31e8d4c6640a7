"""`zsd distill` on a real Ray cluster: workers, rounds, what it refuses, and what may befall it."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil  # type: ignore[import-untyped]
import pytest

from tests.integration.conftest import kill_job
from zsd.config import DistillConfig
from zsd.distributed.train import distill
from zsd.errors import ConfigError, InputError
from zsd.inference import FloatArray
from zsd.shards import Store
from zsd.students import load_student

ROUNDING = 5e-3
"""How far probabilities may lie apart that came of the same steps, summed in another order."""


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
        students=("joint:1", "linear"),
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


@pytest.mark.slow
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
    _wait_for_checkpoint(output, lambda: True)
    ours = psutil.Process().children(recursive=True)
    workers = [one for one in ours if "RayTrainWorker" in " ".join(one.cmdline())]
    workers[0].kill()
    killed.set()


@pytest.mark.slow
def test_training_killed_with_two_workers_and_resumed_with_one_equals_uninterrupted(
    labelled: Path, tmp_path: Path
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert _zsd_distill(labelled, whole).wait() == 0
    driver = _zsd_distill(labelled, killed, workers=2)
    _wait_for_checkpoint(killed, lambda: driver.poll() is None)
    kill_job(driver)
    assert not (killed / "student").exists()
    resumed = _zsd_distill(labelled, killed)
    assert resumed.wait() == 0
    np.testing.assert_allclose(_answers(whole, labelled), _answers(killed, labelled), atol=ROUNDING)


def _wait_for_checkpoint(output: Path, goes_on: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 600
    while not list((output / "checkpoints").rglob("checkpoint_*")):
        assert goes_on(), "the driver ended before it could be killed"
        assert time.monotonic() < deadline, "no checkpoint appeared"
        time.sleep(0.05)


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
