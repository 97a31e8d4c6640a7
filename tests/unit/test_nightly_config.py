from __future__ import annotations

from pathlib import Path

import pytest

from zsd.cli import build_parser
from zsd.errors import ConfigError
from zsd.job_file import nightly_options, read_job_file
from zsd.nightly_config import NightlyConfig
from zsd.options import make

NEEDED = ["--data", "texts.txt", "--label", "a", "--label", "b", "--output", "nights"]


def told(*flags: str, job: str = "") -> tuple[str | None, list[str]]:
    """Where a night logs to by its flags and job file, and the flags that are left for the training."""
    options, rest = build_parser().parse_known_args(["nightly", *NEEDED, *flags])
    file = Path("job.toml")
    file.write_text(job)
    return make(NightlyConfig, nightly_options(read_job_file(str(file))), vars(options)).mlflow, rest


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("flags", "uri"),
    [
        ([], None),
        (["--mlflow"], "sqlite:///mlflow.db"),
        (["--mlflow", "--keep", "3"], "sqlite:///mlflow.db"),
        (["--mlflow", "http://tracking:5000"], "http://tracking:5000"),
        (["--mlflow=http://tracking:5000", "--keep", "3"], "http://tracking:5000"),
    ],
)
def test_mlflow_is_off_a_file_here_or_a_uri(flags: list[str], uri: str | None) -> None:
    assert told(*flags) == (uri, [])


def test_a_bare_mlflow_takes_no_flag_of_the_training_for_its_uri() -> None:
    assert told("--mlflow", "--learning_rate", "1e-5") == ("sqlite:///mlflow.db", ["--learning_rate", "1e-5"])


@pytest.mark.parametrize(
    ("value", "uri"),
    [("true", "sqlite:///mlflow.db"), ("false", None), ('"http://tracking:5000"', "http://tracking:5000")],
)
def test_a_job_file_says_it_too_and_the_flag_wins(value: str, uri: str | None) -> None:
    job = f"[nightly]\nmlflow = {value}\n"
    assert told(job=job)[0] == uri
    assert told("--mlflow", job=job)[0] == "sqlite:///mlflow.db"
    assert told("--mlflow", "http://other:5000", job=job)[0] == "http://other:5000"


@pytest.mark.parametrize(
    ("value", "message"),
    [("1", "--mlflow is 1: it must be a text"), ('""', "--mlflow is empty"), ('"http://me:pass@x"', "--mlflow")],
)
def test_what_is_no_uri_or_holds_a_secret_is_refused(value: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        told(job=f"[nightly]\nmlflow = {value}\n")
    assert "pass" not in str(caught.value)
