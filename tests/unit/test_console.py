from __future__ import annotations

import pytest

from zsd.console import Progress, duration, report_error
from zsd.errors import ConfigError, StoreError


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(-3, "0s"), (0.4, "0s"), (59.4, "59s"), (59.6, "1m00s"), (192, "3m12s"), (3599.7, "1h00m"), (7500, "2h05m")],
)
def test_durations(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


def test_an_error_is_one_line_whatever_it_quotes(capsys: pytest.CaptureFixture[str]) -> None:
    assert report_error(ConfigError("a\nb\r\n  c")) == 2
    assert report_error(StoreError("x"), "prog") == 1
    assert capsys.readouterr() == ("", "zsd: error: a b c\nprog: error: x\n")


def test_progress_counts_this_run_only_and_stays_quiet_in_between(capsys: pytest.CaptureFixture[str]) -> None:
    now = [100.0]
    progress = Progress("label", total=1000, done=400, every=5.0, clock=lambda: now[0])
    now[0] = 102.0
    progress.add(100, started=100.0)
    assert capsys.readouterr().err == ""
    now[0] = 110.0
    progress.add(100, started=101.0)
    assert capsys.readouterr().err == "zsd: label: 600 of 1,000 rows (60%), 20.0 rows/s, 20s left\n"
    now[0] = 111.0
    progress.add(400, started=105.0)
    assert "1,000 of 1,000 rows (100%)" in capsys.readouterr().err
    assert "left" not in progress.line()


def test_progress_of_nothing_divides_by_nothing() -> None:
    assert "0 of 0 rows" in Progress("label", total=0, clock=lambda: 1.0).line()
