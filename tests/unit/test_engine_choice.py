from __future__ import annotations

import multiprocessing
import time
from pathlib import Path
from typing import Any

import pytest

from zsd.engines import choice
from zsd.engines.base import Placement
from zsd.engines.choice import choice_lines, choice_name, one_at_a_time, read_choice, write_choice
from zsd.engines.trial import Trial, not_run
from zsd.shards import read_json

ASKED = {"engine": "auto", "precision": None}
TRIALS = [
    Trial(
        engine="torch",
        precision="fp32",
        rows=256,
        rows_per_second=14.25,
        agreement=1.0,
        loading_seconds=2.0,
        verdict="chosen",
    ),
    not_run("deepsparse", "fp32", "not installed here"),
]


class Chosen:
    """As much of a scorer as is written down."""

    buckets = (16, 64)

    class engine:  # noqa: N801
        name, precision, fingerprint = "torch", "fp32", "f"


def test_a_choice_is_taken_again_on_the_same_machine_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output, name = str(tmp_path), choice_name(Placement(threads=2))
    assert read_choice(output, name, ASKED) is None
    write_choice(output, name, ASKED, Chosen(), TRIALS)  # type: ignore[arg-type]
    found = read_choice(output, name, ASKED)
    assert found is not None and (found["engine"], found["precision"], found["buckets"]) == ("torch", "fp32", [16, 64])
    assert read_choice(output, choice_name(Placement(threads=1)), ASKED) is None
    assert read_choice(output, name, ASKED | {"precision": "bf16"}) is None
    monkeypatch.setattr(choice, "describe_machine", lambda: {"cpu": "another"})
    assert read_choice(output, name, ASKED) is None


def test_the_driver_says_every_figure(tmp_path: Path) -> None:
    write_choice(str(tmp_path), "n.json", ASKED, Chosen(), TRIALS)  # type: ignore[arg-type]
    lines = choice_lines(read_json(str(tmp_path / "engines" / "n.json")))
    assert len(lines) == 3
    assert "runs torch fp32" in lines[0] and "16, 64 tokens" in lines[0]
    assert "14.2 rows/s" in lines[1] and "1.000" in lines[1] and "chosen" in lines[1]
    assert "not installed here" in lines[2] and "rows/s" not in lines[2]


def hold(output: str, order: Any, number: int) -> None:
    with one_at_a_time(output, "n.json"):
        order.append(number)
        time.sleep(0.2)
        order.append(number)


def test_only_one_process_of_a_node_is_inside(shared_cache: Path, tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    with context.Manager() as manager:
        order = manager.list()
        processes = [context.Process(target=hold, args=(str(tmp_path), order, n)) for n in range(3)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        entered = list(order)
    assert sorted(entered) == [0, 0, 1, 1, 2, 2]
    assert entered[0::2] == entered[1::2]
