from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.families import tiny_checkpoint
from tests.s3_server import Server
from zsd import storage
from zsd.assets import BUNDLED_TEACHER, bundled_teacher_path
from zsd.benchmark_config import BenchmarkConfig
from zsd.cli import main
from zsd.distributed.benchmark import _identity
from zsd.errors import ConfigError, OutputError, StudentError
from zsd.labels import LabelSet
from zsd.model_card import model_card, plain, portable
from zsd.push import push
from zsd.push_config import PushConfig
from zsd.shards import write_json
from zsd.students import load_student
from zsd.students.checkpoint import save_student
from zsd.students.layers import build_student
from zsd.students.spec import parse_student

NAMES = ["/r/billing", "delivery | <b>late</b>", "[returns](http://evil)"]
CARD: dict[str, Any] = {
    "zsd_version": "0.1.0",
    "labels": {"names": NAMES, "template": "This message is about {}.", "multi_label": False},
    "teacher": "/home/alice/teachers/roberta-nli",
    "teacher_fingerprint": "ab12",
    "temperature": 1.0,
    "recipe": {
        "method": "batch",
        "temperature": 1.0,
        "prior": [0.5, 0.3, 0.2],
        "facts": {"evidence": {"all": {"n": 4}}},
    },
    "student": "layers:half",
    "train_rows": 25061,
    "parameters": 22_700_000,
    "heldout": {"rows": 2800, "fraction": 0.1, "agreement": 0.9457, "kl": 0.0143},
}


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a label and a distill job leave, as far as push reads it."""
    folder = tmp_path_factory.mktemp("alice-secret-place") / "out"
    student = tiny_checkpoint(folder / "student", "bert", num_labels=3, id2label=dict(enumerate(NAMES)))
    (student / "zsd.json").write_text(json.dumps(CARD))
    (student / "notes.bin").write_bytes(b"a pickle, perhaps")
    (student / "notes.txt").write_text("examples in s3://bucket/private")
    (student / "compile.json").write_text(json.dumps({"job": {"data": ["/home/alice/tickets.csv"]}}))
    manifest = {
        "schema": 2,
        "job": "label",
        "labels": CARD["labels"],
        "teacher_fingerprint": "ab12",
        "rows_in": 30000,
        "rows": 27861,
        "duplicates": 2000,
        "rejected": 139,
        "normalization": "nfc-v1",
        "inputs": [{"uri": "s3://bucket/private/tickets.parquet?endpoint_override=h:1"}],
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def front_matter(text: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(text.split("---\n")[1])
    return content


def test_a_pushed_student_is_whole_and_says_what_it_is(output: Path, tmp_path: Path) -> None:
    target = tmp_path / "tickets-small"
    figures = push(PushConfig(model=str(output), to=str(target), license="apache-2.0"))
    assert figures["files"][-1] == "zsd.json"
    assert {path.name for path in target.iterdir()} == set(figures["files"])
    assert {"notes.bin", "compile.json"}.isdisjoint(figures["files"])
    texts = ["where is my parcel", "the invoice is wrong"]
    assert (load_student(target).predict(texts) == load_student(output).predict(texts)).all()
    card = (target / "README.md").read_text()
    assert front_matter(card)["license"] == "apache-2.0"
    assert front_matter(card)["pipeline_tag"] == "text-classification"
    for told in ("# tickets-small", "27,861 labelled", "tickets.parquet", "This message is about {}.", "0.946", "ab12"):
        assert told.replace("{", "\\{").replace("}", "\\}") in card or told in card, told
    assert "not accuracy" in card
    assert "Soft labels: method batch, temperature 1.0\n" in card


def test_the_card_of_a_student_that_reads_the_class_names_says_how_to_load_it(tmp_path: Path) -> None:
    student, target = tmp_path / "student", tmp_path / "target"
    model, tokenizer = build_student(
        parse_student("joint:1"), teacher=bundled_teacher_path(), names=NAMES, multi_label=False, seed=0
    )
    save_student(model, tokenizer, student)
    (student / "zsd.json").write_text(json.dumps(CARD))
    push(PushConfig(model=str(student), to=str(target)))
    card = (target / "README.md").read_text()
    assert "reads the class names before the text" in card
    assert "load_student(DIR).predict" in card and "pipeline(" not in card
    assert (load_student(target).predict(["a parcel"]) == load_student(student).predict(["a parcel"])).all()


def test_nothing_of_the_machine_is_pushed(output: Path, tmp_path: Path) -> None:
    target = tmp_path / "m"
    push(PushConfig(model=str(output / "student"), to=str(target)))
    for file in target.iterdir():
        content = file.read_bytes()
        for secret in (b"/home/alice", b"alice-secret-place", str(tmp_path).encode(), b"s3://bucket/private"):
            assert secret not in content, (file.name, secret)
    assert json.loads((target / "zsd.json").read_text())["teacher"] == "roberta-nli"
    assert json.loads((target / "config.json").read_text())["id2label"] == {str(k): n for k, n in enumerate(NAMES)}


def test_a_target_is_never_overwritten_and_an_interrupted_push_goes_on(output: Path, tmp_path: Path) -> None:
    target = tmp_path / "m"
    config = PushConfig(model=str(output), to=str(target))
    push(config)
    (target / "zsd.json").unlink()
    (target / "model.safetensors").write_bytes(b"half")
    push(config)
    push(config)
    load_student(target)
    (target / "zsd.json").write_text("{}")
    with pytest.raises(OutputError, match="not empty"):
        push(config)
    (target / "zsd.json").unlink()
    (target / "thesis.doc").write_text("years of work")
    with pytest.raises(OutputError, match="not empty"):
        push(config)
    assert (target / "thesis.doc").read_text() == "years of work"


def test_a_student_goes_to_a_store_and_from_there_to_a_directory(
    output: Path, server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    remote, back = server.uri("bucket/tickets"), tmp_path / "back"
    server.faults(fail=0.4)
    assert main(["push", "--model", str(output), "--to", remote]) == 0
    assert server.faults() > 0, "nothing failed"
    assert "# tickets\n" in storage.read_bytes(storage.join(remote, "README.md")).decode()
    assert main(["push", "--model", remote, "--to", str(back), "--title", "Tickets"]) == 0
    assert (load_student(back).predict(["a"]) == load_student(output).predict(["a"])).all()
    assert "# Tickets\n" in (back / "README.md").read_text()
    assert "files: s3://bucket/tickets" in capsys.readouterr().err


def test_what_is_no_student_is_not_pushed(output: Path, tmp_path: Path) -> None:
    with pytest.raises(StudentError, match="no finished student"):
        push(PushConfig(model=str(tmp_path), to=str(tmp_path / "m")))
    unfinished = tiny_checkpoint(tmp_path / "student", "bert", num_labels=2)
    with pytest.raises(StudentError, match="no finished student"):
        push(PushConfig(model=str(unfinished), to=str(tmp_path / "m")))
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("to", ["hub:", "hub:a/b/c", "hub:../x", "hub:a b", "s3://k:s@b/x", ""])
def test_a_wrong_target_is_refused(to: str) -> None:
    with pytest.raises(ConfigError, match="--to"):
        PushConfig(model="m", to=to)


def test_a_hub_that_does_not_take_it_is_one_line(
    output: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert main(["push", "--model", str(output), "--to", "hub:alice/tickets"]) == 2
    err = capsys.readouterr().err.splitlines()
    assert err[-1].startswith("zsd: error: --to hub:alice/tickets: the hub does not take it")


class Hub:
    """Keeps what would be uploaded."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self.files: dict[str, bytes] = {}

    def create_repo(self, name: str, **options: Any) -> Any:
        self.calls.append({"name": name, **options})
        return type("Url", (str,), {"repo_id": name})(f"https://hub/{name}")

    def upload_folder(self, *, repo_id: str, folder_path: Path, commit_message: str) -> None:
        self.files = {path.name: path.read_bytes() for path in folder_path.iterdir()}


def test_a_new_hub_repository_is_private(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Hub()
    monkeypatch.setattr("huggingface_hub.HfApi", lambda: hub)
    figures = push(PushConfig(model=str(output), to="hub:alice/tickets"))
    assert hub.calls == [{"name": "alice/tickets", "private": True, "exist_ok": True}]
    assert figures["to"] == "https://hub/alice/tickets"
    assert {"README.md", "model.safetensors", "config.json", "zsd.json", "tokenizer.json"} <= hub.files.keys()
    assert b"# tickets\n" in hub.files["README.md"]


def test_a_hostile_name_is_only_text_on_the_card() -> None:
    text = model_card(
        "<script>alert(1)</script>\n# other", "linear", CARD, manifest=None, quality=None, license_id=None
    )
    assert "<script>" not in text
    assert "\n# other" not in text
    assert "<b>" not in text
    assert "](http" not in text.replace("](#how-it-was-made)", "")
    assert front_matter(text)["library_name"] == "scikit-learn"
    assert plain("a|b\n`c`") == "a\\|b \\`c\\`"


def test_figures_on_gold_labels_are_on_the_card() -> None:
    side = {"rows": 300, "accuracy": 0.75, "ece": 0.1, "per_class": {"billing": {"f1": 0.5}}, "confusion": [[1]]}
    text = model_card("m", "encoder", CARD, manifest=None, quality={"teacher": side, "student": side}, license_id=None)
    assert "| accuracy | 0.750 | 0.750 |" in text
    assert "| F1 of billing | 0.500 | 0.500 |" in text


def test_what_a_benchmark_of_this_very_student_found_is_pushed_with_it(output: Path, tmp_path: Path) -> None:
    place, data = tmp_path / "out", tmp_path / "gold.csv"
    shutil.copytree(output, place)
    data.write_text("text,label\n")
    config = BenchmarkConfig(model=(str(place),), data=(str(data),), output=str(place))
    labels = LabelSet(names=("a", "b", "c"))
    side = {"rows": 300, "accuracy": 0.75, "ece": 0.1, "per_class": {"a": {"f1": 0.5}}, "confusion": [[1]]}
    write_json(
        str(place / "benchmark" / "benchmark.json"),
        {"task": {"gold": True}, "quality": {"teacher": side, "student": side}},
    )
    student = str(place / "student")
    for number, students in enumerate([[student], [student, student], [str(tiny_checkpoint(tmp_path / "o", "bert"))]]):
        identity = _identity(config, BUNDLED_TEACHER, labels, students)
        write_json(str(place / "job-benchmark.json"), identity)
        push(PushConfig(model=str(place), to=str(tmp_path / f"m{number}")))
        card = (tmp_path / f"m{number}" / "README.md").read_text()
        assert ("| accuracy | 0.750 | 0.750 |" in card) == (number == 0)


def test_a_card_of_almost_nothing_names_no_figure() -> None:
    card = {"labels": CARD["labels"] | {"multi_label": True}, "teacher": "MoritzLaurer/x-nli"}
    text = model_card("m", "static", card, manifest=None, quality=None, license_id=None)
    assert "## Measured\n\n- nothing\n" in text
    assert front_matter(text)["base_model"] == "MoritzLaurer/x-nli"
    assert "None" not in text.split("## Measured")[0].replace("zsd None", "")


def test_of_a_path_only_the_last_part_is_left() -> None:
    labels = {"names": ["/r/billing"]}
    paths = ["/x/y/z", "~/m", "C:\\u\\m", "file:///a/b", "org/name", "layers:2", 3]
    assert portable({"a": paths, "labels": labels}) == {
        "a": ["z", "m", "m", "b", "org/name", "layers:2", 3],
        "labels": labels,
    }
