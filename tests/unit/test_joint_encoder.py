from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoModelForTokenClassification, AutoTokenizer

from tests.families import FAMILIES, tiny_checkpoint, tiny_teacher, tiny_tokenizer
from zsd.assets import bundled_teacher_path
from zsd.benchmark.flops import sequence_cost
from zsd.benchmark.peak import student_cost
from zsd.engines.registry import combinations
from zsd.errors import StudentError
from zsd.inference import encode, token_logits
from zsd.joint_encoder import PLACES, class_prompt, classifier_for, is_joint, put_prompt
from zsd.quiet import quiet_transformers
from zsd.students import load_student
from zsd.students.checkpoint import class_names, load_checkpoint, save_student
from zsd.students.layers import build_student
from zsd.students.spec import parse_student

# Legend: N texts, K classes.

NAMES = ["the world", "sports", "business", "science/tech"]
TEXTS = ["Shares fell after the central bank raised its rate.", "a goal in stoppage time " * 40, "naïve café"]


def built(spec: str, teacher: Path | str | None, names: list[str] = NAMES, **given: Any) -> tuple[Any, Any]:
    return build_student(parse_student(spec), teacher=teacher, names=names, multi_label=False, **{"seed": 0, **given})


def token_ids(tokenizer: Any, text: str, **options: Any) -> list[int]:
    ids: list[int] = tokenizer(text, **options)["input_ids"]
    return ids


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained joint student of two layers of the bundled teacher, whose classes differ."""
    directory = tmp_path_factory.mktemp("joint") / "student"
    model, tokenizer = built("joint:2", bundled_teacher_path())
    torch.manual_seed(1)
    torch.nn.init.normal_(model.classifier.weight)
    save_student(model, tokenizer, directory)
    return directory


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_keeps_the_teachers_encoder_and_comes_back_from_disk(family: str, tmp_path: Path) -> None:
    teacher = tiny_teacher(tmp_path / "teacher", family)
    with quiet_transformers():
        own = AutoModelForSequenceClassification.from_pretrained(teacher).state_dict()
    model, tokenizer = built("joint", teacher, ["sports", "business"])
    fresh = [n for n, t in model.state_dict().items() if n not in own or not torch.equal(t, own[n])]
    assert {name.rsplit(".", 1)[0] for name in fresh} == {"classifier"}
    assert torch.equal(model.classifier.weight[0], model.classifier.weight[1]), "a class is known by its name alone"
    torch.nn.init.normal_(model.classifier.weight)
    ids = encode(tokenizer, TEXTS, max_length=tokenizer.model_max_length)
    expected_NK = token_logits(model, tokenizer, ids)
    assert expected_NK.shape == (3, 2)
    save_student(model, tokenizer, tmp_path / "student")
    again, its_tokenizer = load_checkpoint(tmp_path / "student")
    assert encode(its_tokenizer, TEXTS, max_length=tokenizer.model_max_length) == ids
    np.testing.assert_allclose(token_logits(again, its_tokenizer, ids), expected_NK, atol=1e-5)
    assert class_names(again.config) == (["sports", "business"], False)


def test_a_logit_is_the_plain_token_classifiers_own_at_the_tokens_of_the_name(student: Path) -> None:
    with quiet_transformers():
        plain = AutoModelForTokenClassification.from_pretrained(student).eval()
    model, tokenizer = load_checkpoint(student)
    inputs = tokenizer(TEXTS[0], return_tensors="pt", return_token_type_ids=False)
    tokens = tokenizer.convert_ids_to_tokens(inputs["input_ids"][0])
    spots = {"the world": [1, 2], "sports": [4], "business": [6], "science/tech": [8, 9, 10]}
    assert tokens[0] == "[CLS]" and tokens[11] == tokens[-1] == "[SEP]" and tokens[12] == "shares"
    for name, own in spots.items():
        assert "".join(tokens[t] for t in own) == name.replace(" ", "")
    every_LK = plain(**inputs).logits[0]
    expected_K = torch.stack([every_LK[own, k].mean() for k, own in enumerate(spots.values())])
    torch.testing.assert_close(model(**inputs).logits[0], expected_K)


@pytest.mark.parametrize("family", ["bert", "roberta", "deberta-v2", "modernbert"])
def test_names_that_hold_each_other_keep_apart(family: str) -> None:
    tokenizer, names = tiny_tokenizer(family), ["a", "a bank", "bank, central", "the central bank"]
    made = class_prompt(tokenizer, names, max_length=512)
    text = tokenizer.decode(made["class_prompt"])
    assert text.replace(" ", "") == ", ".join(names).replace(" ", "")
    told = [tokenizer.decode([made["class_prompt"][t - 1] for t in own]).strip() for own in made["class_places"]]
    assert [one.replace(" ", "") for one in told] == [name.replace(" ", "") for name in names]


def test_the_prompt_is_never_cut_and_the_text_is(student: Path) -> None:
    tokenizer = load_checkpoint(student)[1]
    bare = AutoTokenizer.from_pretrained(bundled_teacher_path())
    prompt = [tokenizer.cls_token_id, *token_ids(bare, ", ".join(NAMES), add_special_tokens=False)]
    for limit in (20, 64):
        ids = encode(tokenizer, TEXTS, max_length=limit)
        assert all(row[: len(prompt)] == prompt and row[-1] == tokenizer.sep_token_id for row in ids)
        assert [len(row) for row in ids] == [min(limit, len(row)) for row in encode(tokenizer, TEXTS, max_length=512)]


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One of a prompt that is longer than the shortest batch an engine compiles."""
    directory = tmp_path_factory.mktemp("joint") / "many"
    model, tokenizer = built("joint:1", bundled_teacher_path(), [f"topic number {n}" for n in range(20)])
    torch.manual_seed(1)
    torch.nn.init.normal_(model.classifier.weight)
    save_student(model, tokenizer, directory)
    return directory


def test_its_arithmetic_is_counted(many: Path) -> None:
    model, _ = load_checkpoint(many)
    exported, by_torch = student_cost(str(many)), sequence_cost(model)
    lengths = np.array([30, 100])
    np.testing.assert_allclose(exported.of(lengths), by_torch.of(lengths), rtol=1e-6)


@pytest.mark.parametrize("which", ["student", "many"])
@pytest.mark.parametrize(
    ("engine", "precision"),
    [one for one in combinations("cpu") if one[1] not in ("int8", "draft") and one[0] != "native"],
)
def test_every_engine_gives_the_same_logits(
    request: pytest.FixtureRequest, which: str, engine: str, precision: str
) -> None:
    student: Path = request.getfixturevalue(which)
    model, tokenizer = load_checkpoint(student)
    expected_NK = token_logits(model, tokenizer, encode(tokenizer, TEXTS, max_length=512))
    assert np.ptp(expected_NK) > 1
    served = load_student(student, engine=engine, precision=precision, threads=1)
    np.testing.assert_allclose(served.answer(TEXTS).logits, expected_NK, atol=2e-3 if precision == "fp32" else 0.3)
    served.close()


def test_training_goes_on_from_one_also_with_other_classes(student: Path) -> None:
    own, its_tokenizer = load_checkpoint(student)
    again, tokenizer = built(str(student), None)
    assert is_joint(again.config)
    assert torch.equal(again.classifier.weight, own.classifier.weight)
    assert token_ids(tokenizer, "x") == token_ids(its_tokenizer, "x")
    more = [*NAMES, "politics"]
    other, other_tokenizer = built(str(student), None, more)
    assert torch.equal(other.bert.encoder.layer[1].output.dense.weight, own.bert.encoder.layer[1].output.dense.weight)
    assert other.classifier.weight.shape[0] == 5
    fresh, fresh_tokenizer = built("joint:2", bundled_teacher_path(), more)
    assert other.config.class_places == fresh.config.class_places
    assert token_ids(other_tokenizer, "x") == token_ids(fresh_tokenizer, "x")


@pytest.mark.parametrize(
    "damage",
    [
        {"class_prompt": None},
        {"class_places": [[1], [2]]},
        {"class_places": [[1], [2], [], [4]]},
        {"class_prompt": [99999] * 10},
        {"class_prompt": ["the"] * 10},
        {"class_places": 3},
        {"class_places": [1, 2, 3, 4]},
    ],
)
def test_a_damaged_configuration_is_told(student: Path, tmp_path: Path, damage: dict[str, Any]) -> None:
    shutil.copytree(student, tmp_path / "student")
    file = tmp_path / "student" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | damage))
    with pytest.raises(StudentError, match=r"config.json is damaged"):
        load_student(tmp_path / "student")
    with pytest.raises(StudentError, match=r"config.json is damaged"):
        built(str(tmp_path / "student"), None)


def test_a_joint_student_is_no_teacher(student: Path) -> None:
    for spec in ("joint:1", "layers:1"):
        with pytest.raises(StudentError, match="is a joint student: name a teacher"):
            built(spec, student)


def test_an_architecture_that_cannot_read_on_is_refused(tmp_path: Path) -> None:
    teacher = tiny_checkpoint(tmp_path, "gpt2", n_embd=16, n_layer=2, n_head=2)
    with pytest.raises(StudentError, match="gpt2 reads from left to right"):
        built("joint", teacher)


def test_an_architecture_without_token_classifier_is_refused(tmp_path: Path) -> None:
    config = AutoConfig.for_model("bart", **{PLACES: [[1]]})
    with pytest.raises(StudentError, match="no token classifier for bart"):
        classifier_for(config)


def test_names_that_cannot_be_read_are_refused() -> None:
    def refusal(names: list[str], tokenizer: Any) -> str:
        with pytest.raises(StudentError) as caught:
            class_prompt(tokenizer, names, max_length=64)
        return str(caught.value)

    bert = AutoTokenizer.from_pretrained(bundled_teacher_path())
    assert "the 40 class names take 79 of the 64 tokens" in refusal(["sports"] * 40, bert)
    assert "knows no part of the class name '\U0001f980'" in refusal(["sports", "\U0001f980"], bert)
    left = AutoTokenizer.from_pretrained(bundled_teacher_path(), padding_side="left")
    assert "pads on the right" in refusal(["sports"], left)


def test_a_tokenizer_without_classes_is_left_alone(tmp_path: Path) -> None:
    model, _ = load_checkpoint(tiny_checkpoint(tmp_path, "bert"))
    plain, asked = (AutoTokenizer.from_pretrained(bundled_teacher_path()) for _ in range(2))
    assert not is_joint(model.config)
    assert token_ids(put_prompt(asked, model.config), "a text") == token_ids(plain, "a text")


def test_more_layers_than_the_teacher_has_are_refused() -> None:
    with pytest.raises(StudentError, match=r"joint:7: teacher .* has only 6 layers"):
        built("joint:7", bundled_teacher_path())
