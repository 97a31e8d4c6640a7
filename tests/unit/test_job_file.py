from __future__ import annotations

from pathlib import Path

import pytest

from zsd.benchmark_config import BenchmarkConfig
from zsd.config import DistillConfig, LabelConfig, RunConfig
from zsd.errors import ConfigError
from zsd.job_file import job_options, nightly_options, read_job_file, run_options
from zsd.nightly_config import NightlyConfig
from zsd.options import make

JOB = """
output = "out"
[label]
data = ["a.csv", "b.csv"]
labels = "l.txt"
limit = 5
temperature = 2
[distill]
student = "layers:2"
[training]
seed = 7
[benchmark]
data = "t.csv"
label_column = "topic"
"""


@pytest.fixture
def job(tmp_path: Path) -> str:
    file = tmp_path / "job.toml"
    file.write_text(JOB)
    return str(file)


def test_one_file_serves_the_whole_chain(job: str) -> None:
    content = read_job_file(job)
    label = make(LabelConfig, job_options(content, "label"))
    assert (label.output, label.data, label.limit, label.temperature) == ("out", ("a.csv", "b.csv"), 5, 2.0)
    distill = make(DistillConfig, job_options(content, "distill"))
    assert (distill.soft_labels, distill.output, distill.student) == ("out", "out", "layers:2")
    benchmark = make(BenchmarkConfig, job_options(content, "benchmark"))
    assert (benchmark.model, benchmark.output, benchmark.data) == (("out",), "out", ("t.csv",))
    run = make(RunConfig, run_options(content))
    assert (run.data, run.test, run.label_column, run.student) == (label.data, ("t.csv",), "topic", "layers:2")
    assert content["training"] == {"seed": 7}


def test_predict_never_writes_where_label_wrote(job: str) -> None:
    assert job_options(read_job_file(job), "predict") == {"model": "out"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[lable]\n", "unknown key 'lable': did you mean 'label'"),
        ("[label]\ntemprature = 1\n", r"unknown key 'temprature' in \[label\]: did you mean 'temperature'"),
        ("label = 3\n", r"label must be a table, written \[label\]"),
        ("[label\n", "not valid TOML"),
        ("\xff", "not valid TOML"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "job.toml"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=message) as caught:
        read_job_file(str(file))
    assert str(file) in str(caught.value)


def test_a_file_that_is_none(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent.toml"):
        with pytest.raises(ConfigError, match="cannot read the job file"):
            read_job_file(str(path))


@pytest.mark.parametrize(
    ("table", "key"), [("distill", "heldout_fraction"), ("distill", "soft_labels"), ("benchmark", "rounds")]
)
def test_run_loses_no_key_without_a_word(table: str, key: str) -> None:
    with pytest.raises(ConfigError, match=rf"zsd run does not take \[{table}\] {key}"):
        run_options({table: {key: 1}})


def test_the_job_file_that_comes_along_is_right() -> None:
    content = read_job_file(str(Path(__file__).parents[2] / "jobs" / "configs" / "laptop.toml"))
    for table, config in (("label", LabelConfig), ("distill", DistillConfig), ("benchmark", BenchmarkConfig)):
        make(config, job_options(content, table))
    make(RunConfig, run_options(content))


def test_a_night_takes_how_to_label_and_distill_from_their_tables() -> None:
    content = read_job_file(str(Path(__file__).parents[2] / "jobs" / "configs" / "nightly.toml"))
    config = make(NightlyConfig, nightly_options(content))
    assert (config.output, config.labels, config.keep) == ("agnews-nights", "agnews/labels.txt", 5)
    content["distill"] = {"num_workers": 2}
    assert make(NightlyConfig, nightly_options(content)).num_workers == 2
    for table, key in (("distill", "soft_labels"), ("label", "output")):
        with pytest.raises(ConfigError, match=rf"zsd nightly does not take \[{table}\] {key}"):
            nightly_options({table: {key: "x"}})
