from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel

from tests.families import tiny_teacher
from zsd.errors import TeacherError
from zsd.teachers.nli import NLIClasses, find_nli_classes, load_teacher
from zsd.teachers.weights import load_weights


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize(
    "names",
    [
        ("entailment", "neutral", "contradiction"),
        ("ENTAILMENT", "NEUTRAL", "CONTRADICTION"),
        ("Entailed", "Neutral", "contradictory"),
    ],
)
def test_three_classes_are_found_by_name_in_any_order(names: tuple[str, ...], order: tuple[int, ...]) -> None:
    found = find_nli_classes(dict(zip(names, order, strict=True)))
    assert found == NLIClasses(entailment=order[0], contradiction=order[2], count=3)


@pytest.mark.parametrize(
    "against", ["not_entailment", "non-entailment", "Not Entailment", "contradiction", "NOTENTAILED"]
)
@pytest.mark.parametrize("entailment", [0, 1])
def test_two_classes_are_found_by_name(against: str, entailment: int) -> None:
    found = find_nli_classes({against: 1 - entailment, "entailment": entailment})
    assert found == NLIClasses(entailment=entailment, contradiction=1 - entailment, count=2)


@pytest.mark.parametrize(
    "label2id",
    [
        {"LABEL_0": 0, "LABEL_1": 1, "LABEL_2": 2},
        {"not_entailment": 0, "neutral": 1, "contradiction": 2},
        {"entailment": 0, "neutral": 1, "other": 2},
        {"entailment": 0, "neutral": 1, "not_entailment": 2},
        {"entailment": 0, "Entailment": 1, "contradiction": 2},
        {"entailment": 0, "neutral": 1},
        {"positive": 0, "negative": 1},
    ],
)
def test_names_that_do_not_tell_are_an_error_that_shows_them(label2id: dict[str, int]) -> None:
    with pytest.raises(TeacherError) as error:
        find_nli_classes(label2id)
    assert "--nli-classes" in str(error.value)
    assert all(name in str(error.value) for name in label2id)


@pytest.mark.parametrize(
    "label2id", [{"entailment": 0}, {c: i for i, c in enumerate("abcd")}, {"entailment": 1, "n": 2}]
)
def test_a_model_without_two_or_three_classes_is_no_nli_model(label2id: dict[str, int]) -> None:
    with pytest.raises(TeacherError, match="not an NLI model"):
        find_nli_classes(label2id)


def test_classes_can_be_named() -> None:
    label2id = {"LABEL_0": 0, "LABEL_1": 1, "LABEL_2": 2}
    found = find_nli_classes(label2id, entailment="LABEL_2, LABEL_0")
    assert found == NLIClasses(entailment=2, contradiction=0, count=3)


@pytest.mark.parametrize(
    "given", ["", "LABEL_2", "LABEL_2,LABEL_2", "LABEL_2,LABEL_3", "LABEL_0,LABEL_1,LABEL_2", "2,0"]
)
def test_classes_named_wrongly_are_an_error(given: str) -> None:
    with pytest.raises(TeacherError, match=r"--nli-classes .* must be two different names"):
        find_nli_classes({"LABEL_0": 0, "LABEL_1": 1, "LABEL_2": 2}, entailment=given)


@pytest.fixture
def checkpoint(teacher_of: Callable[..., str], tmp_path: Path) -> Path:
    return Path(shutil.copytree(teacher_of("bert"), tmp_path / "teacher"))


def change_config(checkpoint: Path, **settings: Any) -> None:
    file = checkpoint / "config.json"
    config = {**json.loads(file.read_text()), **settings}
    file.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


@pytest.mark.parametrize(
    "label2id",
    [
        {"entailment": 2, "neutral": 1, "contradiction": 0},
        {"entailment": 0},
        {"LABEL_0": 0, "LABEL_1": 1, "LABEL_2": 2},
    ],
)
def test_a_config_that_contradicts_itself_is_refused(checkpoint: Path, label2id: dict[str, int]) -> None:
    change_config(checkpoint, label2id=label2id)
    with pytest.raises(TeacherError, match=r"config.json contradicts itself"):
        load_teacher(str(checkpoint))


def test_a_config_with_only_id2label_is_read(checkpoint: Path) -> None:
    change_config(checkpoint, label2id=None)
    assert load_teacher(str(checkpoint)).classes == NLIClasses(entailment=0, contradiction=2, count=3)


def test_the_limit_is_the_models_own_and_max_length_must_keep_to_it(teacher_of: Callable[..., str]) -> None:
    assert load_teacher(teacher_of("bert")).max_length == 64
    assert load_teacher(teacher_of("roberta")).max_length == 64
    assert load_teacher(teacher_of("bert"), max_length=40).max_length == 40
    with pytest.raises(TeacherError, match="--max-length 65 is outside"):
        load_teacher(teacher_of("bert"), max_length=65)


@pytest.mark.parametrize("name", ["/nowhere/at/all", "./nowhere", "a/b/c"])
def test_a_path_that_is_not_there_is_refused_without_a_network(name: str) -> None:
    with pytest.raises(TeacherError, match="is not a directory"):
        load_teacher(name)


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json"])
@pytest.mark.parametrize("content", [None, "", "{nope", "{}"])
def test_a_missing_or_damaged_file_is_one_line(checkpoint: Path, file: str, content: str | None) -> None:
    (checkpoint / file).unlink()
    if content is not None:
        (checkpoint / file).write_text(content)
    with pytest.raises(TeacherError) as error:
        load_teacher(str(checkpoint))
    assert str(checkpoint) in str(error.value)
    assert "\n" not in str(error.value)


def test_the_fingerprint_changes_with_any_weight(checkpoint: Path) -> None:
    before = load_teacher(str(checkpoint)).fingerprint
    weights = load_file(checkpoint / "model.safetensors")
    weights["classifier.bias"][0] += 1
    save_file(weights, checkpoint / "model.safetensors", metadata={"format": "pt"})
    assert load_teacher(str(checkpoint)).fingerprint != before


def spoil(checkpoint: Path, how: str) -> None:
    file = checkpoint / "model.safetensors"
    if how == "missing":
        file.unlink()
    elif how == "cut short":
        file.write_bytes(file.read_bytes()[:-100])
    elif how == "junk":
        file.write_bytes(b"junk" * 100)
    elif how == "empty":
        file.write_bytes(b"")
    elif how == "other sizes":
        change_config(checkpoint, hidden_size=32)
    elif how == "more layers":
        change_config(checkpoint, num_hidden_layers=8)
    elif how == "no NLI head":
        AutoModel.from_pretrained(checkpoint).save_pretrained(checkpoint)
        change_config(checkpoint, architectures=["BertForSequenceClassification"])


@pytest.mark.parametrize("how", ["missing", "cut short", "junk", "empty", "other sizes", "more layers", "no NLI head"])
def test_weights_that_are_not_all_there_are_one_line_and_never_random(
    checkpoint: Path, how: str, capfd: pytest.CaptureFixture[str]
) -> None:
    spoil(checkpoint, how)
    teacher = load_teacher(str(checkpoint))
    capfd.readouterr()
    with pytest.raises(TeacherError) as error:
        load_weights(teacher, dtype=torch.float32)
    assert str(checkpoint) in str(error.value)
    assert "\n" not in str(error.value)
    assert capfd.readouterr() == ("", "")


def test_loading_prints_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    teacher = load_teacher(str(tiny_teacher(tmp_path, "roberta")))
    assert not load_weights(teacher, dtype=torch.bfloat16).training
    assert capfd.readouterr() == ("", "")
