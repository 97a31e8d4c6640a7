from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.families import LINES
from zsd.compile import finetune
from zsd.compile.nli_pairs import TokenizedPairs, cross_pairs
from zsd.compile.prune import apply_masks, encoder_linears, magnitude_masks
from zsd.compile.sparsify import JOB, METHODS, STATE, SparsityReport, sparsify
from zsd.errors import ConfigError, CorpusError, OutputError, StoreError
from zsd.teachers.nli import NLITeacher, load_teacher
from zsd.teachers.weights import load_weights

PAIRS = cross_pairs(
    [f"{line} {n}" for line in LINES for n in range(4)], ["It is sport.", "It is not."], most=40, seed=0
)


class KilledError(Exception):
    """Stands for a kill -9: nothing of the job runs after it."""


@pytest.fixture
def teacher(teacher_of: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> NLITeacher:
    monkeypatch.setattr(finetune, "BATCH", 8)
    monkeypatch.setattr(finetune, "SAVE_EVERY", 2)
    return load_teacher(teacher_of("bert"))


def weights(directory: Path) -> dict[str, torch.Tensor]:
    return load_file(directory / "model.safetensors")


def kill_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next training dies when it takes that batch."""
    whole, taken = finetune.distance, [0]

    def dying(*arguments: Any) -> torch.Tensor:
        taken[0] += 1
        if taken[0] > step:
            raise KilledError
        return whole(*arguments)

    monkeypatch.setattr(finetune, "distance", dying)


@pytest.mark.parametrize("method", METHODS)
def test_the_blocks_reach_the_sparsity_and_are_trained_and_all_outside_them_stays(
    method: str, teacher: NLITeacher, tmp_path: Path
) -> None:
    report = sparsify(teacher, PAIRS, tmp_path / "out", sparsity=0.75, method=method, steps=6)
    after = weights(tmp_path / "out")
    pruned = {f"{name}.weight" for name in encoder_linears(load_weights(teacher, dtype=torch.float32))}
    for name, tensor in weights(Path(teacher.path)).items():
        if name in pruned:
            assert float((after[name] == 0).float().mean()) == pytest.approx(0.75, abs=0.05), name
            assert not torch.equal(after[name][after[name] != 0], tensor[after[name] != 0]), f"{name} was not trained"
        elif ".layer." not in name:
            assert torch.equal(after[name], tensor), name
    assert report.method == method
    assert report.layers == 12
    assert report.sparsity == pytest.approx(0.75, abs=0.01)
    assert report.loss is not None


def test_training_keeps_the_mask_of_a_one_shot_method(teacher: NLITeacher, tmp_path: Path) -> None:
    sparsify(teacher, PAIRS, tmp_path / "cut", sparsity=0.6, method="sparsegpt")
    sparsify(teacher, PAIRS, tmp_path / "trained", sparsity=0.6, method="sparsegpt", steps=5)
    before, after = weights(tmp_path / "cut"), weights(tmp_path / "trained")
    layers = [f"{name}.weight" for name in encoder_linears(load_weights(teacher, dtype=torch.float32))]
    assert all(torch.equal(before[name] == 0, after[name] == 0) for name in layers)
    assert any(not torch.equal(before[name], after[name]) for name in layers)


@pytest.mark.parametrize("method", [method for method in METHODS if method != "gradual"])
def test_sparsity_0_gives_the_dense_weights(method: str, teacher: NLITeacher, tmp_path: Path) -> None:
    sparsify(teacher, PAIRS, tmp_path / "out", sparsity=0.0, method=method)
    dense = weights(Path(teacher.path))
    assert all(torch.equal(tensor, dense[name]) for name, tensor in weights(tmp_path / "out").items())


def test_the_distance_of_a_model_is_0_to_itself_and_grows_with_what_is_cut(teacher: NLITeacher) -> None:
    dense, model = (load_weights(teacher, dtype=torch.float32, attn_implementation="eager") for _ in range(2))
    pairs = TokenizedPairs.build(teacher.tokenizer, PAIRS, max_length=32)
    inputs = pairs.batch(np.arange(8), ["input_ids", "attention_mask"], max_length=32)
    layers = encoder_linears(model)
    distances = []
    for sparsity in (0.0, 0.5, 0.9):
        apply_masks(layers, magnitude_masks(layers, sparsity))
        distances.append(float(finetune.distance(model, dense, inputs).detach()))
    assert distances[0] == pytest.approx(0.0, abs=1e-6)
    assert distances == sorted(set(distances))


def test_training_brings_the_sparse_model_nearer_to_the_dense_one(teacher: NLITeacher, tmp_path: Path) -> None:
    short = sparsify(teacher, PAIRS, tmp_path / "short", sparsity=0.5, method="magnitude", steps=2)
    long = sparsify(teacher, PAIRS, tmp_path / "long", sparsity=0.5, method="magnitude", steps=60)
    assert short.loss is not None
    assert long.loss is not None
    assert long.loss < 0.9 * short.loss


@pytest.mark.parametrize("method", ["gradual", "wanda"])
@pytest.mark.parametrize("step", [1, 5])
def test_killed_and_resumed_equals_uninterrupted(
    method: str, step: int, teacher: NLITeacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = sparsify(teacher, PAIRS, tmp_path / "whole", sparsity=0.75, method=method, steps=9)
    with monkeypatch.context() as patch:
        kill_at(step, patch)
        with pytest.raises(KilledError):
            sparsify(teacher, PAIRS, tmp_path / "killed", sparsity=0.75, method=method, steps=9)
    resumed = sparsify(teacher, PAIRS, tmp_path / "killed", sparsity=0.75, method=method, steps=9)
    assert resumed.loss == whole.loss
    for name, tensor in weights(tmp_path / "whole").items():
        assert torch.equal(weights(tmp_path / "killed")[name], tensor), name
    assert not {JOB, STATE} & {file.name for file in (tmp_path / "killed").iterdir()}


def test_killed_while_the_state_or_the_result_is_written_starts_again_from_what_is_whole(
    teacher: NLITeacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: Any, **__: Any) -> None:
        raise KilledError

    sparsify(teacher, PAIRS, tmp_path / "whole", sparsity=0.5, steps=5)
    for broken in ("torch.save", "zsd.compile.sparsify._save"):
        with monkeypatch.context() as patch:
            patch.setattr(broken, die)
            with pytest.raises(KilledError):
                sparsify(teacher, PAIRS, tmp_path / broken, sparsity=0.5, steps=5)
        sparsify(teacher, PAIRS, tmp_path / broken, sparsity=0.5, steps=5)
        assert all(torch.equal(weights(tmp_path / broken)[name], w) for name, w in weights(tmp_path / "whole").items())


def test_a_sparser_one_made_from_an_earlier_result_keeps_its_zeros(teacher: NLITeacher, tmp_path: Path) -> None:
    sparsify(teacher, PAIRS, tmp_path / "half", sparsity=0.5, method="magnitude")
    report = sparsify(teacher, PAIRS, tmp_path / "most", sparsity=0.75, steps=8, start=tmp_path / "half")
    half, most = weights(tmp_path / "half"), weights(tmp_path / "most")
    for name in encoder_linears(load_weights(teacher, dtype=torch.float32)):
        assert not most[f"{name}.weight"][half[f"{name}.weight"] == 0].any()
    assert report.sparsity == pytest.approx(0.75, abs=0.01)


def test_a_finished_output_is_returned_and_not_made_again(teacher: NLITeacher, tmp_path: Path) -> None:
    first = sparsify(teacher, PAIRS, tmp_path / "out", sparsity=0.5, method="magnitude")
    file = tmp_path / "out" / "model.safetensors"
    written = file.stat().st_mtime_ns
    assert sparsify(teacher, PAIRS, tmp_path / "out", sparsity=0.5, method="magnitude") == first
    assert file.stat().st_mtime_ns == written
    assert isinstance(first, SparsityReport)


def test_the_output_is_a_teacher_whose_tokenizer_cuts_nothing(teacher: NLITeacher, tmp_path: Path) -> None:
    sparsify(teacher, PAIRS, tmp_path / "out", sparsity=0.5, steps=2)
    made = load_teacher(str(tmp_path / "out"))
    assert (made.classes, made.max_length) == (teacher.classes, teacher.max_length)
    stored = json.loads((tmp_path / "out" / "tokenizer.json").read_text(encoding="utf-8"))
    assert stored["truncation"] is None
    assert stored["padding"] is None


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"method": "best"}, ConfigError, "unknown pruning method 'best'"),
        ({"sparsity": 1.0}, ConfigError, "sparsity 1.0 must be"),
        ({"sparsity": -0.1}, ConfigError, "sparsity -0.1 must be"),
        ({"steps": 0}, ConfigError, "needs at least 1"),
        ({"pairs": []}, CorpusError, "no premise/hypothesis pairs"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_written(
    changed: dict[str, Any], error: type[Exception], message: str, teacher: NLITeacher, tmp_path: Path
) -> None:
    call: dict[str, Any] = {"pairs": PAIRS, "sparsity": 0.5, "method": "gradual", "steps": 2} | changed
    with pytest.raises(error, match=message):
        sparsify(teacher, call.pop("pairs"), tmp_path / "out", **call)
    assert not (tmp_path / "out").exists()


def test_the_output_of_another_pruning_is_refused(
    teacher: NLITeacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sparsify(teacher, PAIRS, tmp_path / "done", sparsity=0.5, method="magnitude")
    with pytest.raises(OutputError, match="other inputs or settings"):
        sparsify(teacher, PAIRS, tmp_path / "done", sparsity=0.6, method="magnitude")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "thesis.txt").write_text("mine")
    with pytest.raises(OutputError, match="not empty"):
        sparsify(teacher, PAIRS, tmp_path / "foreign", sparsity=0.5, method="magnitude")
    with monkeypatch.context() as patch:
        kill_at(5, patch)
        with pytest.raises(KilledError):
            sparsify(teacher, PAIRS, tmp_path / "half", sparsity=0.5, steps=9)
    with pytest.raises(OutputError, match="unfinished pruning of other inputs"):
        sparsify(teacher, PAIRS[1:], tmp_path / "half", sparsity=0.5, steps=9)
    state = tmp_path / "half" / STATE
    state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(StoreError, match="is damaged"):
        sparsify(teacher, PAIRS, tmp_path / "half", sparsity=0.5, steps=9)
