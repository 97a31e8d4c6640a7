from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from zsd.distributed import distill_classifier
from zsd.distributed.distill_classifier import DEFAULTS, main, parse
from zsd.errors import ConfigError


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "data.txt").write_text("one\ntwo\n")
    (tmp_path / "names.txt").write_text("a\nb\n")
    named = {"data_file": "data.txt", "class_names_file": "names.txt", "output_dir": "out"}
    return {name: str(tmp_path / file) for name, file in named.items()}


def flags(files: dict[str, str], *more: str) -> list[str]:
    return [word for name, file in files.items() for word in (f"--{name}", file)] + list(more)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What label and distill were asked; a student appears without their work."""
    seen: list[Any] = []

    def distill(config: Any, arguments: dict[str, Any]) -> dict[str, Any]:
        seen.append((config, arguments))
        student = Path(config.output) / "student"
        student.mkdir(parents=True)
        for name in ("config.json", "model.safetensors", "tokenizer.json"):
            (student / name).write_text(name)
        return {"heldout": {"agreement": 0.875, "rows": 1234}}

    monkeypatch.setattr(distill_classifier, "label", seen.append)
    monkeypatch.setattr(distill_classifier, "distill", distill)
    return seen


def test_the_defaults_are_the_scripts(
    files: dict[str, str], calls: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(flags(files)) == 0
    label, (distill, arguments) = calls
    assert (label.data, label.labels, label.output) == (
        (files["data_file"],),
        files["class_names_file"],
        files["output_dir"],
    )
    assert (label.teacher, label.template, label.temperature) == ("roberta-large-mnli", ("This example is {}.",), 1.0)
    assert not label.multi_label
    assert (distill.soft_labels, distill.student) == (files["output_dir"], "distilbert-base-uncased")
    assert arguments == DEFAULTS
    assert (arguments["per_device_train_batch_size"], arguments["per_device_eval_batch_size"]) == (32, 128)
    assert (arguments["num_train_epochs"], arguments["learning_rate"], arguments["seed"]) == (1.0, 5e-5, 42)
    assert (Path(files["output_dir"]) / "config.json").read_text() == "config.json"
    assert "Agreement of student and teacher predictions: 87.50% (on 1,234 rows" in capsys.readouterr().out


GIVEN = {
    "teacher_name_or_path": "t",
    "student_name_or_path": "s",
    "hypothesis_template": "It is {}.",
    "temperature": 2.0,
    "teacher_batch_size": 8,
    "use_fast_tokenizer": True,
    "fp16": True,
    "no_cuda": True,
    "evaluation_strategy": "epoch",
    "warmup_ratio": 0.1,
    "save_total_limit": 0,
    "num_train_epochs": 2.0,
}


@pytest.mark.parametrize("way", ["flags", "json"])
def test_flags_and_json_say_the_same(way: str, files: dict[str, str], calls: list[Any], tmp_path: Path) -> None:
    if way == "json":
        (tmp_path / "job.json").write_text(json.dumps({**files, **GIVEN, "multi_class": True}))
        argv = [str(tmp_path / "job.json")]
    else:
        words = [word for name, value in GIVEN.items() for word in (f"--{name}", str(value))]
        argv = flags(files, "--multi_class", *words)
    assert main(argv) == 0
    label, (distill, arguments) = calls
    assert (label.teacher, label.template, label.temperature, label.multi_label) == ("t", ("It is {}.",), 2.0, True)
    assert distill.student == "s"
    own = {"fp16": True, "use_cpu": True, "eval_strategy": "epoch", "warmup_steps": 0.1, "save_total_limit": 0}
    assert arguments == {**DEFAULTS, **own, "num_train_epochs": 2.0}


def test_the_output_directory_may_be_a_file_uri(
    files: dict[str, str], calls: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(files["output_dir"])
    (folder / "student").mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        (folder / "student" / name).write_text(name)
    monkeypatch.setattr(distill_classifier, "distill", lambda *_: {"heldout": {"agreement": 1.0, "rows": 1}})
    assert main(flags(files | {"output_dir": folder.as_uri()})) == 0
    assert (folder / "model.safetensors").read_text() == "model.safetensors"


def test_labels_only(files: dict[str, str], calls: list[Any]) -> None:
    assert main(flags(files, "--do_train", "false")) == 0
    assert len(calls) == 1


def test_overwrite_moves_aside_and_only_when_all_else_is_right(files: dict[str, str], calls: list[Any]) -> None:
    out = Path(files["output_dir"])
    out.mkdir()
    (out / "old").write_text("old")
    wrong = flags({**files, "data_file": "absent.txt"}, "--overwrite_output_dir")
    assert main(wrong) == 2
    assert (out / "old").exists()
    assert main(flags(files, "--overwrite_output_dir")) == 0
    assert not (out / "old").exists()
    (aside,) = out.parent.glob("out.before-*")
    assert (aside / "old").read_text() == "old"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--use_fast_tokenizer", "false"], "--use_fast_tokenizer"),
        (["--temperature", "x"], "--temperature: invalid float value: 'x'"),
        (["--temperature", "0"], "--temperature is 0.0"),
        (["--learning_rat", "1"], "did you mean '--learning_rate'"),
        (["--teacher_name", "1"], "did you mean '--teacher_name_or_path'"),
        (["--num_train_epochs", "x"], "--num_train_epochs"),
        (["--hypothesis_template", "none"], "exactly once"),
        (["--output_dir", "fsspec+memory://bucket/out"], "must be a local directory"),
        (["--class_names_file", "absent.txt"], "absent.txt: cannot read the label file"),
    ],
)
def test_a_mistake_is_one_line(
    more: list[str], message: str, files: dict[str, str], calls: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(flags(files, *more)) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n"), calls) == ("", 1, [])
    assert err.startswith("distill_classifier: error: ")
    assert message in err


def test_what_is_missing(files: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "--data_file" in err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data_file": None}, "--data_file is None"),
        ({"temprature": 1}, "unknown key 'temprature': did you mean 'temperature'"),
        ({"temperature": "x"}, "--temperature is 'x'"),
        ({"num_train_epochs": "x"}, "--num_train_epochs is 'x'"),
    ],
)
def test_a_wrong_json_value(change: dict[str, Any], message: str, files: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "job.json"
    file.write_text(json.dumps({**files, **change}))
    with pytest.raises(ConfigError, match=message):
        parse([str(file)])


@pytest.mark.parametrize(
    ("content", "message"), [("{", "JSON"), ("[]", "one JSON object"), ("{}", "data_file is missing")]
)
def test_a_wrong_json_file(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "job.json").write_text(content)
    with pytest.raises(ConfigError, match=message):
        parse([str(tmp_path / "job.json")])
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        parse(["absent.json"])


def test_a_corpus_that_the_script_would_read_by_lines(files: dict[str, str], tmp_path: Path) -> None:
    table = tmp_path / "data.csv"
    table.write_text("text\na\n")
    with pytest.raises(ConfigError, match="name it"):
        distill_classifier._main(flags({**files, "data_file": str(table)}))
