from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file
from transformers import AutoModel

from zsd.cli import main
from zsd.compile.compiled import compiled_file
from zsd.compile.forms import say_too_low
from zsd.compile.heldout import HeldOut
from zsd.engines import load_engine
from zsd.engines.base import Placement
from zsd.errors import EngineError
from zsd.labels import LabelSet
from zsd.teachers.nli import load_teacher
from zsd.teachers.scoring import Scorer

Refused = Callable[..., str]
WORDS = ("goal", "shares", "bank", "winner", "rate", "top", "time", "late")


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    file = tmp_path / "rows.txt"
    lines = [f"A {one} and a {two}: {one} number {n}." for n, one in enumerate(WORDS) for two in WORDS]
    file.write_text("\n".join(lines), encoding="utf-8")
    return file


@pytest.fixture
def told(rows: Path) -> list[str]:
    return ["--data", str(rows), "--label", "sports", "--label", "business", "--calibration-rows", "32"]


@pytest.fixture
def refused(shared_cache: Path, capsys: pytest.CaptureFixture[str]) -> Refused:
    """Runs the command in vain; gives standard error, which is one line."""

    def run(*argv: str) -> str:
        assert main(["compile", *argv]) in (1, 2)
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("zsd: error:")]
        assert len(lines) == 1
        return lines[0]

    return run


def test_a_tiny_teacher_is_compiled_and_runs_on_every_engine_that_was_asked_for(
    teacher_of: Callable[..., str],
    told: list[str],
    tmp_path: Path,
    refused: Refused,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output, figures_file = tmp_path / "out", tmp_path / "figures.json"
    argv = ["--teacher", teacher_of("bert"), "--output", str(output), "--engine", "deepsparse", "onnxruntime", *told]
    argv += ["--sparsity", "0.5", "--method", "magnitude", "--min-agreement", "0"]
    argv += ["--steps", "2", "--pairs", pairs_file(tmp_path)]
    assert main(["compile", *argv, "--json", str(figures_file)]) == 0
    figures = json.loads(figures_file.read_text())
    assert json.loads((output / "compile.json").read_text()) == figures
    assert figures["sparsity"]["overall"] == pytest.approx(0.5, abs=0.01)
    assert (
        figures["corpus"]["calibration_rows"] + figures["corpus"]["selection_rows"] + figures["heldout"]["rows"] == 32
    )
    done = {(form["engine"], form["precision"]) for form in figures["forms"] if "agreement" in form}
    engines = {"deepsparse", "onnxruntime"}
    assert done == {("torch", "fp32"), *((name, precision) for name in engines for precision in ("fp32", "int8"))}
    fp32 = [form for form in figures["forms"] if form["precision"] == "fp32"]
    assert all(form["agreement"] == 1 and form["delta_p"] < 1e-4 for form in fp32)
    assert 0 <= figures["heldout"]["agreement_with_dense"] <= 1
    assert (figures["pruning"]["method"], figures["pruning"]["steps"]) == ("magnitude", 2)
    card = (output / "README.md").read_text()
    assert "Pruned by magnitude, trained for 2 steps" in card
    assert "--data rows.txt --label sports --label business --sparsity 0.5 --method magnitude --steps 2" in card
    assert str(tmp_path) not in card
    assert "| deepsparse | int8 |" in card
    assert "50.0%" in card

    teacher = load_teacher(str(output))
    assert compiled_file(teacher, "onnx/int8.onnx") == output / "onnx" / "int8.onnx"
    engine = load_engine("onnxruntime", teacher, Placement(), "int8")
    assert Scorer(teacher, engine, LabelSet(names=("sports", "business"))).score(["A goal!"]).entailment.shape == (1, 2)
    engine.close()

    capsys.readouterr()
    before = teacher.fingerprint
    assert main(["compile", *argv]) == 0
    assert "is done already" in capsys.readouterr().err
    assert "sparsity was 0.5, now 0.4" in refused(*argv, "--sparsity", "0.4")
    (output / "onnx" / "int8.onnx").write_bytes(b"other")
    assert load_teacher(str(output)).fingerprint != before


def pairs_file(folder: Path) -> str:
    """Premises and hypotheses to prune on."""
    table = pa.table({"premise": [f"A {word}." for word in WORDS], "hypothesis": ["It is sport."] * len(WORDS)})
    pq.write_table(table, folder / "pairs.parquet")
    return str(folder / "pairs.parquet")


def test_a_sparser_teacher_starts_from_a_sparse_one(
    teacher_of: Callable[..., str], shared_cache: Path, told: list[str], tmp_path: Path
) -> None:
    common = ["--teacher", teacher_of("bert"), *told, "--engine", "torch", "--output"]
    half, most = str(tmp_path / "half"), str(tmp_path / "most")
    more = ["--steps", "3", "--start", half]
    assert main(["compile", *common, half, "--no-int8", "--sparsity", "0.5", "--method", "magnitude"]) == 0
    assert main(["compile", *common, most, "--no-int8", "--sparsity", "0.75", *more]) == 0
    before, after = (load_file(Path(one) / "model.safetensors") for one in (half, most))
    cut = [name for name, tensor in before.items() if tensor.ndim == 2 and (tensor == 0).float().mean() > 0.4]
    assert len(cut) == 12
    assert all((after[name][before[name] == 0] == 0).all() for name in cut)
    zeros = [sum(int((weights[name] == 0).sum()) for name in cut) for weights in (before, after)]
    assert zeros[1] > 1.4 * zeros[0]


def test_what_makes_no_sense_without_pruning_is_refused(
    teacher_of: Callable[..., str], told: list[str], tmp_path: Path, refused: Refused
) -> None:
    bert = ["--teacher", teacher_of("bert"), *told, "--output", str(tmp_path / "out")]
    for name, value in (("--start", "x"), ("--pairs", "x"), ("--steps", "5")):
        assert f"{name} is for pruning: give --sparsity above 0 too" in refused(*bert, name, value)
    assert "--steps is 0: it must be 1 or more" in refused(*bert, "--sparsity", "0.5", "--steps", "0")
    rows = str(tmp_path / "rows.txt")
    assert "cannot be read as parquet" in refused(*bert, "--sparsity", "0.5", "--pairs", rows)
    assert not (tmp_path / "out").exists()


def test_int8_that_cannot_agree_is_one_line_and_leaves_nothing(
    teacher_of: Callable[..., str], told: list[str], tmp_path: Path, refused: Refused
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HeldOut, "agreement", lambda self, run: 0.5)
        output = tmp_path / "out"
        argv = ["--teacher", teacher_of("bert"), "--output", str(output), *told, "--engine", "onnxruntime"]
        assert "int8 agrees with fp32 in at most 50.0% of the held-out rows" in refused(*argv)
    assert not output.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["rows.txt"]


def test_a_form_that_agrees_less_than_was_asked_for_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    forms = [{"engine": "openvino", "precision": one, "agreement": 0.985} for one in ("bf16", "int8", "draft")]
    say_too_low([*forms, {"engine": "torch", "precision": "draft", "error": "no"}], 0.99, 200)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[2].split(" agrees")[0].strip() for line in lines] == ["openvino int8", "openvino draft"]
    assert "agrees on 98.5% of 200 held-out rows, 99.0% was asked for" in lines[0]
    say_too_low(forms, 0.98, 200)
    assert not capsys.readouterr().err


def test_what_is_wrong_is_said_in_one_line(
    teacher_of: Callable[..., str], told: list[str], tmp_path: Path, refused: Refused
) -> None:
    output = str(tmp_path / "out")
    bert = ["--teacher", teacher_of("bert"), "--output", output]
    assert "is not a directory" in refused("--teacher", "/nowhere/at/all", "--output", output, *told)
    assert "--sparsity is 1.0" in refused(*bert, *told, "--sparsity", "1.0")
    assert "--sparsity is -0.5" in refused(*bert, *told, "--sparsity", "-0.5")
    assert "nothing to compile" in refused(*bert, *told, "--no-int8")
    assert "--data goes with --labels" in refused(*bert, "--label", "a", "--label", "b")
    assert "--engine is 'tensorrt'" in refused(*bert, *told, "--engine", "tensorrt")
    few = tmp_path / "few.txt"
    few.write_text("one\ntwo\n")
    assert "2 different rows" in refused(*bert, "--data", str(few), "--label", "a", "--label", "b")
    other = tmp_path / "other"
    other.mkdir()
    (other / "notes.txt").write_text("mine")
    assert "zsd compile did not make it" in refused("--teacher", teacher_of("bert"), "--output", str(other), *told)
    assert [path.name for path in other.iterdir()] == ["notes.txt"]


def test_a_checkpoint_without_an_output_layer_is_refused(
    teacher_of: Callable[..., str], told: list[str], tmp_path: Path, refused: Refused
) -> None:
    checkpoint = Path(shutil.copytree(teacher_of("bert"), tmp_path / "embeddings"))
    config = (checkpoint / "config.json").read_text()
    AutoModel.from_pretrained(checkpoint).save_pretrained(checkpoint)
    (checkpoint / "config.json").write_text(config)
    argv = ["--teacher", str(checkpoint), "--output", str(tmp_path / "out"), *told]
    assert "it is not an NLI classifier" in refused(*argv)
    assert not (tmp_path / "out").exists()


def test_int8_of_a_teacher_that_was_not_compiled_says_how_to_make_it(
    teacher_of: Callable[..., str], shared_cache: Path
) -> None:
    with pytest.raises(EngineError, match="zsd compile --teacher"):
        load_engine("onnxruntime", load_teacher(teacher_of("bert")), Placement(), "int8")
