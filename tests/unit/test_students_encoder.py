from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

from tests.families import FAMILIES, LAYERS, SIZES, tiny_checkpoint
from zsd.assets import bundled_teacher_path
from zsd.encoder_layers import choose_layers
from zsd.errors import StudentError
from zsd.quiet import quiet_transformers
from zsd.students.checkpoint import class_names, load_checkpoint, save_student
from zsd.students.layers import build_student
from zsd.students.spec import parse_student

# Legend: K labels, M layers of the teacher, N layers of the student.

NAMES = ["world", "sports", "business", "science/tech"]


def layer_of(name: str) -> tuple[str, int, str] | None:
    """``a.layer.3.b`` as ("a.layer", 3, "b")."""
    parts = name.split(".")
    for i, part in enumerate(parts):
        if part.isdecimal():
            return ".".join(parts[:i]), int(part), ".".join(parts[i + 1 :])
    return None


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("layers", [3, LAYERS])
def test_a_student_holds_the_teachers_own_tensors_and_a_fresh_head(family: str, layers: int, tmp_path: Path) -> None:
    path = tiny_checkpoint(tmp_path / "teacher", family)
    with quiet_transformers():
        teacher = AutoModelForSequenceClassification.from_pretrained(path).state_dict()
    model, tokenizer = build_student(
        parse_student(f"layers:{layers}"), teacher=path, names=NAMES, multi_label=False, seed=0
    )
    kept = choose_layers(LAYERS, layers)
    fresh = []
    for name, tensor in model.state_dict().items():
        place = layer_of(name)
        source = name if place is None else f"{place[0]}.{kept[place[1]]}.{place[2]}"
        if source not in teacher or not torch.equal(tensor, teacher[source]):
            fresh.append(name)
    assert {name.rsplit(".", 1)[1] for name in fresh} <= {"weight", "bias"}
    assert len({name.rsplit(".", 1)[0] for name in fresh}) == 1, fresh
    assert model.config.num_hidden_layers == layers
    inputs = tokenizer(["a goal in stoppage time", "shares fell"], return_tensors="pt", padding=True)
    assert model.eval()(**inputs).logits.shape == (2, len(NAMES))
    model.train()
    assert torch.equal(model(**inputs).logits, model(**inputs).logits), "dropout is not off"
    model.eval()

    save_student(model, tokenizer, tmp_path / "student")
    again, _ = load_checkpoint(tmp_path / "student")
    torch.testing.assert_close(again(**inputs).logits, model(**inputs).logits)
    assert class_names(again.config) == (NAMES, False)


def test_the_head_is_fresh_even_where_the_teacher_has_as_many_classes(tmp_path: Path) -> None:
    path = tiny_checkpoint(tmp_path, "bert", num_labels=3)
    with quiet_transformers():
        own = AutoModelForSequenceClassification.from_pretrained(path).classifier.weight
    for spec in ("layers:2", str(path)):
        model, _ = build_student(parse_student(spec), teacher=path, names=["a", "b", "c"], multi_label=False, seed=0)
        assert not torch.equal(model.classifier.weight, own)


def test_a_checkpoint_of_the_same_classes_keeps_its_head(tmp_path: Path) -> None:
    model, tokenizer = build_student(
        parse_student("layers:1"), teacher=bundled_teacher_path(), names=NAMES, multi_label=True, seed=3
    )
    save_student(model, tokenizer, tmp_path)
    again, _ = build_student(parse_student(str(tmp_path)), teacher=None, names=NAMES, multi_label=True, seed=0)
    assert torch.equal(again.classifier.weight, model.classifier.weight)
    other, _ = build_student(parse_student(str(tmp_path)), teacher=None, names=NAMES[::-1], multi_label=True, seed=0)
    assert not torch.equal(other.classifier.weight, model.classifier.weight)
    assert class_names(other.config) == (NAMES[::-1], True)


def test_the_seed_and_nothing_else_decides_the_fresh_weights(tmp_path: Path) -> None:
    path = tiny_checkpoint(tmp_path, "roberta")

    def weights(spec: str, seed: int) -> torch.Tensor:
        torch.rand(7)
        model, _ = build_student(parse_student(spec), teacher=path, names=NAMES, multi_label=False, seed=seed)
        weight: torch.Tensor = model.classifier.out_proj.weight
        return weight

    state = torch.random.get_rng_state()
    for spec in ("layers:half", str(path)):
        assert torch.equal(weights(spec, 1), weights(spec, 1))
        assert not torch.equal(weights(spec, 1), weights(spec, 2))
    torch.random.set_rng_state(state)
    build_student(parse_student("layers:half"), teacher=path, names=NAMES, multi_label=False, seed=5)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("multi_label", [False, True])
def test_a_plain_pipeline_gives_probabilities_under_the_class_names(multi_label: bool, tmp_path: Path) -> None:
    model, tokenizer = build_student(
        parse_student("layers:half"), teacher=bundled_teacher_path(), names=NAMES, multi_label=multi_label, seed=0
    )
    tokenizer(["truncated on the way"], truncation=True, max_length=4, padding="max_length")
    save_student(model, tokenizer, tmp_path)
    with quiet_transformers():
        classify = pipeline("text-classification", model=str(tmp_path), top_k=None)
        scores = {item["label"]: item["score"] for item in classify(["a long text " * 400], truncation=True)[0]}
    assert set(scores) == set(NAMES)
    assert (abs(sum(scores.values()) - 1) < 1e-5) is not multi_label
    stored = json.loads((tmp_path / "tokenizer.json").read_text())
    assert stored["truncation"] is None
    assert stored["padding"] is None
    assert (tmp_path / "model.safetensors").is_file()


def test_the_limit_of_the_position_table_is_the_limit_of_the_tokenizer(tmp_path: Path) -> None:
    path = tiny_checkpoint(tmp_path, "roberta", max_position_embeddings=34, pad_token_id=1)
    model, tokenizer = build_student(parse_student("layers:1"), teacher=path, names=NAMES, multi_label=False, seed=0)
    assert tokenizer.model_max_length == 32
    inputs = tokenizer(["word " * 100], truncation=True, return_tensors="pt")
    assert inputs["input_ids"].shape == (1, 32)
    assert model.eval()(**inputs).logits.isfinite().all()


def test_a_half_precision_checkpoint_becomes_a_float32_student(tmp_path: Path) -> None:
    path = tiny_checkpoint(tmp_path / "full", "bert")
    with quiet_transformers():
        half = AutoModelForSequenceClassification.from_pretrained(path, dtype=torch.float16)
    save_student(half, AutoTokenizer.from_pretrained(path), tmp_path / "half")
    for spec in ("layers:2", str(tmp_path / "half")):
        model, _ = build_student(parse_student(spec), teacher=tmp_path / "half", names=NAMES, multi_label=False, seed=0)
        assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("total", "wanted", "kept"), [(6, 3, [0, 2, 4]), (6, 6, [0, 1, 2, 3, 4, 5]), (6, 1, [0]), (5, 3, [0, 1, 3])]
)
def test_kept_layers(total: int, wanted: int, kept: list[int]) -> None:
    assert choose_layers(total, wanted) == kept


def test_specs() -> None:
    assert parse_student("layers:half").layers == "half"
    assert parse_student(" layers:4 ").layers == 4
    assert parse_student("distilbert/distilbert-base-uncased").checkpoint == "distilbert/distilbert-base-uncased"
    assert parse_student("./layers").checkpoint == "./layers"


@pytest.mark.parametrize("spec", ["", "  ", "layers:", "layers:0", "layers:-1", "layers:two", "layers:3.5"])
def test_bad_specs_are_refused(spec: str) -> None:
    with pytest.raises(StudentError, match="--student"):
        parse_student(spec)


def refusal(spec: str, teacher: Path | None) -> str:
    with pytest.raises(StudentError) as caught:
        build_student(parse_student(spec), teacher=teacher, names=NAMES, multi_label=False, seed=0)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_too_many_layers_or_no_teacher_to_cut_from() -> None:
    assert "has only 6 layers" in refusal("layers:7", bundled_teacher_path())
    assert "need the teacher" in refusal("layers:2", None)


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        ("albert", {**SIZES, "embedding_size": 8}),
        (
            "bart",
            {
                "d_model": 16,
                "encoder_layers": 2,
                "decoder_layers": 2,
                "encoder_attention_heads": 2,
                "decoder_attention_heads": 2,
                "encoder_ffn_dim": 16,
                "decoder_ffn_dim": 16,
            },
        ),
    ],
)
def test_a_model_that_is_no_stack_of_layers_is_named(family: str, settings: dict[str, Any], tmp_path: Path) -> None:
    message = refusal("layers:1", tiny_checkpoint(tmp_path, family, **settings))
    assert family in message
    assert str(tmp_path) in message


def test_checkpoints_that_are_none(tmp_path: Path) -> None:
    assert "is not a directory" in refusal(str(tmp_path / "nothing"), None)
    assert "cannot be loaded as a text classifier" in refusal(str(tmp_path), None)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    assert "cannot be loaded as a text classifier" in refusal(str(tmp_path), None)
    (tmp_path / "config.json").write_text('{"model_type": ')
    assert "cannot be loaded as a text classifier" in refusal(str(tmp_path), None)


def test_an_encoder_is_never_filled_up_at_random(tmp_path: Path) -> None:
    path = tiny_checkpoint(tmp_path, "bert")
    build_student(parse_student(str(path)), teacher=None, names=["a", "b"], multi_label=False, seed=0)
    weights = load_file(path / "model.safetensors")
    renamed = {name.replace("bert.encoder.layer.1.", "model.layers.1."): one for name, one in weights.items()}
    assert renamed.keys() != weights.keys()
    save_file(renamed, path / "model.safetensors", metadata={"format": "pt"})
    assert "bert.encoder.layer.1." in refusal(str(path), None)


def test_a_hub_name_without_network_is_one_line_that_offers_a_local_path(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    message = refusal("nobody/no-such-model", None)
    assert "nobody/no-such-model" in message
    assert "path of a checkpoint directory" in message
    assert capfd.readouterr() == ("", "")


def test_building_and_loading_say_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tiny_checkpoint(tmp_path, "bert")
    capfd.readouterr()
    before = transformers.logging.get_verbosity()
    build_student(parse_student("layers:half"), teacher=path, names=NAMES, multi_label=False, seed=0)
    build_student(parse_student(str(path)), teacher=None, names=NAMES, multi_label=False, seed=0)
    load_checkpoint(path)
    assert capfd.readouterr() == ("", "")
    assert transformers.logging.get_verbosity() == before
