import json
import subprocess
from pathlib import Path

import pytest

from tests.unit.store import UNITS, record
from zsd.cli import main
from zsd.errors import InputError
from zsd.monitor import BEAT_SECONDS, SILENCE_SECONDS, STATUS, Monitor, job_status, status_text
from zsd.tickets import this_process


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_running_job_tells_what_each_kind_of_actor_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    monitor = Monitor(str(tmp_path), "label", total=100, done=20, clock=clock)
    for worker, rows in (("cpu here 1", 10), ("gpu here 2", 30)):
        clock.now += BEAT_SECONDS
        monitor.add(record(UNITS[0], rows=rows, started=1000.0, worker=worker, rejected=int(rows == 10)))
    line = capsys.readouterr().err.splitlines()[-1]
    assert line == (
        "zsd: label: 61 of 100 rows (61%), 2.0 rows/s (cpu 0.5 rows/s 25%, gpu 1.5 rows/s 75%), 1 rejected, 19s left"
    )
    status = job_status(str(tmp_path), now=clock.now + 1)
    assert (status["state"], status["rows"], status["total"], status["rejected"]) == ("running", 61, 100, 1)
    assert status["actors"] == {
        "cpu": {"rows": 10, "rows_per_second": 0.5},
        "gpu": {"rows": 30, "rows_per_second": 1.5},
    }
    assert "19s left" in status_text(status)


def test_a_job_that_has_fallen_silent_is_dead_and_a_finished_one_is_not(tmp_path: Path) -> None:
    clock = Clock()
    monitor = Monitor(str(tmp_path), "label", total=8, done=0, clock=clock)
    monitor.beat()
    assert job_status(str(tmp_path), now=clock.now + SILENCE_SECONDS - 1)["state"] == "running"
    dead = job_status(str(tmp_path), now=clock.now + SILENCE_SECONDS + 60)
    assert dead["state"] == "dead"
    assert "no sign of life for 2m00s" in status_text(dead)
    monitor.end("finished")
    assert job_status(str(tmp_path), now=clock.now + 1e6)["state"] == "finished"


@pytest.mark.parametrize("state", ["running", "merging"])
def test_a_job_whose_process_has_ended_is_dead_at_once(tmp_path: Path, state: str) -> None:
    clock = Clock()
    Monitor(str(tmp_path), "label", total=8, done=8, clock=clock).end(state)
    assert job_status(str(tmp_path), now=clock.now + 1)["state"] == state
    written = json.loads((tmp_path / STATUS).read_text())
    with subprocess.Popen(["true"]) as ended:
        ended.wait()
    process = str(this_process()).rpartition(" ")[0] + f" {ended.pid}"
    (tmp_path / STATUS).write_text(json.dumps(written | {"process": process}))
    dead = job_status(str(tmp_path), now=clock.now + 1)
    assert dead["state"] == "dead"
    assert "run the same command again" in status_text(dead)


def test_the_command_line_shows_a_failure_and_its_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Monitor(str(tmp_path), "predict", total=8, done=0).end("failed", "the disk is full")
    assert main(["status", str(tmp_path), "--json", str(tmp_path / "s.json")]) == 0
    assert "predict: failed: the disk is full" in capsys.readouterr().out
    assert json.loads((tmp_path / "s.json").read_text())["state"] == "failed"


def test_a_directory_without_a_job(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no zsd label or zsd predict has run here"):
        job_status(str(tmp_path))
    assert main(["status", str(tmp_path)]) == 2
    assert not (tmp_path / STATUS).exists()


def test_a_status_that_cannot_be_written_is_told_and_does_not_end_the_job(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "a file"
    output.write_text("in the way of the folder")
    Monitor(str(output), "label", total=8, done=0).beat()
    told = capsys.readouterr().err
    assert f"{output}/{STATUS}: cannot be written" in told
    assert "the job goes on" in told
