from __future__ import annotations

import importlib

import pytest

import zsd.cli


@pytest.mark.parametrize(
    "name", ["label", "distill", "predict", "annotate", "benchmark", "compile", "ablation", "nightly"]
)
def test_a_job_is_the_command_of_its_name(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    job = importlib.import_module(f"jobs.{name}")
    assert job.zsd is zsd.cli.main
    assert job.main(["--json"]) == 2
    assert capsys.readouterr().err == f"zsd: error: --json: expected one argument: see zsd {name} --help\n"


def test_the_drop_in_is_a_job_too() -> None:
    from zsd.distributed.distill_classifier import main

    assert importlib.import_module("jobs.distill_classifier").main is main
