"""What a hostile directory, archive, name or text must not be able to do."""

from __future__ import annotations

import ast
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification

from tests.families import tiny_checkpoint
from zsd import storage
from zsd.errors import EngineError, StoreError, StudentError, TeacherError
from zsd.shards import Store
from zsd.students import load_student
from zsd.students.checkpoint import from_pretrained
from zsd.students.token_embeddings import start_tokens
from zsd.teachers.nli import load_teacher
from zsd.teachers.weights import load_weights
from zsd.verify import verify_store

ROOT = Path(__file__).parents[2]
OUTSIDE = ["../outside.parquet", "soft_labels/../../outside.parquet", "/etc/hostname", "..", "a\0b", "a/.."]
RUNS_CODE = {
    *("pickle.load", "pickle.loads", "joblib.load", "eval", "exec", "os.system", "yaml.load", "yaml.unsafe_load"),
    *("dill.load", "dill.loads", "cloudpickle.load", "cloudpickle.loads", "marshal.loads", "shelve.open"),
}

NO_PICKLE = {"AutoConfig", "AutoTokenizer", "StaticModel", "StaticModelPipeline", "nn.EmbeddingBag"}
"""What has a ``from_pretrained`` that reads JSON, safetensors or a matrix in memory."""
HELPER = ("checkpoint.py", "auto")
"""Where the one other call without ``use_safetensors=True`` lies: the tests above go through it."""
COMMIT = "0" * 40


class Planted:
    """Writes a file when it is unpickled."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, str]]:
        return _plant, (str(self.witness), "ran")


def _plant(witness: str, text: str) -> None:
    Path(witness).write_text(text)


@pytest.fixture
def pickled(tmp_path: Path) -> tuple[Path, Path]:
    """A checkpoint of which the only weights are a hostile pickle, and the file that appears if it is loaded."""
    directory, witness = tiny_checkpoint(tmp_path / "model", "bert", num_labels=2), tmp_path / "witness"
    (directory / "model.safetensors").unlink()
    (directory / "pytorch_model.bin").write_bytes(pickle.dumps(Planted(witness)))
    return directory, witness


def test_a_student_of_pickled_weights_is_refused_in_one_line(pickled: tuple[Path, Path]) -> None:
    directory, witness = pickled
    with pytest.raises(StudentError, match=r"only pickled weights \(pytorch_model.bin\).*convert them to safetensors"):
        load_student(directory)
    assert not witness.exists()


@pytest.mark.parametrize("stray", [False, True], ids=["alone", "beside another file of safetensors"])
@pytest.mark.parametrize("load", [load_student, start_tokens], ids=["student", "static:"])
def test_pickled_weights_are_refused_whatever_a_checkpoint_is_wanted_for(
    tmp_path: Path, load: Callable[[str], Any], stray: bool
) -> None:
    directory = pickle_weights(tiny_checkpoint(tmp_path / "model", "bert", num_labels=2))
    if stray:
        (directory / "adapter.safetensors").write_bytes(b"")
    with pytest.raises(StudentError, match=r"model'? holds no model.safetensors but only pickled .*convert them to"):
        load(str(directory))


@pytest.mark.parametrize("auto", [AutoModel, AutoModelForSequenceClassification])
def test_pickled_weights_of_the_hub_are_refused(tmp_path: Path, auto: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = tmp_path / "models--alice--encoder"
    pickle_weights(tiny_checkpoint(repository / "snapshots" / COMMIT, "bert", num_labels=2))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert from_pretrained(AutoConfig, "alice/encoder").model_type == "bert", "the repository is not found"
    with pytest.raises(StudentError, match=r"student 'alice/encoder' .*model\.safetensors"):
        from_pretrained(auto, "alice/encoder")


def pickle_weights(directory: Path) -> Path:
    """The same weights, harmless, as torch pickles them."""
    torch.save(load_file(directory / "model.safetensors"), directory / "pytorch_model.bin")
    (directory / "model.safetensors").unlink()
    return directory


def test_a_static_student_of_the_older_form_is_refused(tmp_path: Path) -> None:
    for name, content in (
        ("config.json", '{"model_type": "model2vec"}'),
        ("pipeline.skops", ""),
        ("tokenizer.json", "{}"),
    ):
        (tmp_path / name).write_text(content)
    with pytest.raises(StudentError, match=r"no head\.safetensors is there: distil a student"):
        load_student(tmp_path)


def test_a_teacher_of_pickled_weights_is_refused_in_one_line(teacher_of: Callable[..., str], tmp_path: Path) -> None:
    directory, witness = tmp_path / "teacher", tmp_path / "witness"
    shutil.copytree(teacher_of(), directory)
    (directory / "model.safetensors").unlink()
    torch.save(Planted(witness), directory / "weights.pt")
    with pytest.raises(TeacherError, match=r"only pickled weights \(weights.pt\)"):
        load_weights(load_teacher(str(directory)), dtype=torch.float32)
    assert not witness.exists()


def test_a_pickle_beside_safetensors_is_left_alone(tmp_path: Path) -> None:
    directory, witness = tiny_checkpoint(tmp_path / "model", "bert", num_labels=2), tmp_path / "witness"
    (directory / "pytorch_model.bin").write_bytes(pickle.dumps(Planted(witness)))
    load_student(directory, threads=1).predict(["a text"])
    assert not witness.exists()


def test_code_that_a_checkpoint_brings_is_never_run(tmp_path: Path) -> None:
    directory, witness = tiny_checkpoint(tmp_path / "model", "bert", num_labels=2), tmp_path / "witness"
    (directory / "own.py").write_text(f"from pathlib import Path\nPath({str(witness)!r}).write_text('ran')\n")
    config = json.loads((directory / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "own.Config", "AutoModelForSequenceClassification": "own.Model"}
    config["model_type"] = "own"
    (directory / "config.json").write_text(json.dumps(config))
    with pytest.raises(StudentError, match="cannot be loaded"):
        from_pretrained(AutoModelForSequenceClassification, str(directory))
    with pytest.raises(TeacherError, match="cannot be loaded"):
        load_teacher(str(directory))
    assert not witness.exists()


def test_the_code_loads_no_pickle_and_runs_no_text() -> None:
    files = [*(ROOT / "zsd").rglob("*.py"), *(ROOT / "jobs").rglob("*.py")]
    assert len(files) > 100
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name, given = ast.unparse(node.func), {word.arg: ast.unparse(word.value) for word in node.keywords}
            assert name not in RUNS_CODE, f"{file}: {name}"
            assert name != "torch.load" or given.get("weights_only") == "True", file
            assert given.get("trust_remote_code", "False") == "False", file
            assert given.get("allow_pickle", "False") == "False", file
            assert given.get("shell", "False") == "False", file
            owner, _, method = name.rpartition(".")
            if method == "from_pretrained" and owner not in {"", *NO_PICKLE} and (file.name, owner) != HELPER:
                assert given.get("use_safetensors") == "True", f"{file}: {name}"


@pytest.mark.parametrize("name", OUTSIDE)
def test_no_name_leads_out_of_a_directory(tmp_path: Path, name: str) -> None:
    with pytest.raises(StoreError, match="leads out of it"):
        storage.join(tmp_path / "out", name)
    with pytest.raises(StoreError, match="leads out of it"):
        storage.join("s3://bucket/out?region=x", "soft_labels", name)


def test_names_that_only_look_odd_are_names(tmp_path: Path) -> None:
    for name in ("..a.parquet", "a..b", "...", "a b", "soft_labels/part-1.parquet"):
        assert storage.join(tmp_path, name) == f"{tmp_path}/{name}"


@pytest.mark.parametrize("change", ["part", "folder"])
def test_a_hostile_manifest_reads_nothing_outside(tmp_path: Path, change: str) -> None:
    (tmp_path / "outside.parquet").write_bytes(b"secret of the neighbour")
    output = tmp_path / "out"
    output.mkdir()
    manifest: dict[str, Any] = {
        "schema": 2,
        "job": "label",
        "folder": "soft_labels",
        "rows": 1,
        "rows_in": 1,
        "rejected": 0,
        "duplicates": 0,
        "labels": {"names": ["a", "b"], "multi_label": False},
        "shards": [{"part": "part-00000-000000-000001.parquet", "rows": 1, "checksum": "0"}],
    }
    if change == "part":
        manifest["shards"][0]["part"] = "../../outside.parquet"
    else:
        manifest["folder"] = ".."
    (output / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(StoreError, match="leads out of it"):
        list(Store(str(output)).tables())
    if change == "part":
        assert any("missing" in problem for problem in verify_store(str(output)).problems)


def test_a_compiled_model_reads_no_other_file(tmp_path: Path) -> None:
    from zsd.engines.deepsparse import _write_static

    (tmp_path / "secret").write_bytes(b"\0" * 8)
    weight = onnx.TensorProto(name="w", data_type=onnx.TensorProto.FLOAT, dims=[2])
    weight.data_location = onnx.TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="../secret")
    shape = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["rows", "length"])
    graph = onnx.helper.make_graph([], "hostile", [shape], [shape], [weight])
    file = tmp_path / "teacher" / "int8.onnx"
    file.parent.mkdir()
    file.write_bytes(onnx.helper.make_model(graph).SerializeToString())
    with pytest.raises(EngineError, match="other files"):
        _write_static(file, tmp_path / "copy.onnx", 1, 8)
