"""zsd's own kernels: the same logits as torch's, for every shape of model and batch, with AMX and without."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.families import tiny_teacher
from zsd.engines import load_engine
from zsd.engines.base import Placement
from zsd.engines.native import engine as native
from zsd.engines.native import library
from zsd.engines.native.weights import LayerStruct, ModelStruct, panels
from zsd.errors import EngineError
from zsd.labels import LabelSet
from zsd.machine import has_amx
from zsd.teachers.nli import NLITeacher, load_teacher
from zsd.teachers.scoring import Scorer

SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "heads of 8": ("bert", {}),
    "nothing divides by 32": ("bert", {"hidden_size": 90, "num_attention_heads": 5, "intermediate_size": 100}),
    "heads of 64, two chunks": ("bert", {"hidden_size": 128, "num_attention_heads": 2, "intermediate_size": 400}),
    "one layer": ("bert", {"hidden_size": 64, "num_hidden_layers": 1}),
    "wider than a chunk": ("bert", {"hidden_size": 416, "num_attention_heads": 4, "intermediate_size": 768}),
    "RoBERTa": ("roberta", {"hidden_size": 48, "num_attention_heads": 3}),
    "DistilBERT": ("distilbert", {"dim": 48, "n_heads": 3, "hidden_dim": 96}),
}
TILES = [True, False]
Batch = dict[str, Any]


@pytest.fixture(autouse=True)
def of_this_processor(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, shared_cache: Path) -> None:
    """What runs where there is no AMX is run everywhere; where there is none, twice."""
    if "tiles" in request.fixturenames:
        flags = library.processor_flags(tiles=request.getfixturevalue("tiles") and has_amx())
        monkeypatch.setattr(native, "processor_flags", lambda: flags)


@pytest.fixture
def fresh_library() -> Iterator[None]:
    library.load_library.cache_clear()
    yield
    library.load_library.cache_clear()


def teacher_of_shape(folder: Path, shape: str, **more: Any) -> NLITeacher:
    family, sizes = SHAPES[shape]
    width = sizes.get("hidden_size") or sizes.get("dim") or 16
    spread = 1.2 / width**0.5  # products of all widths alike: a random model of large ones has no answer in any bf16
    return load_teacher(str(tiny_teacher(folder, family, initializer_range=spread, **sizes, **more)))


def batch_of(teacher: NLITeacher, lengths: list[int], padded_to: int | None = None) -> Batch:
    drawn = np.random.default_rng(sum(lengths))
    padding = int(teacher.config.pad_token_id or 0)
    shape = (len(lengths), padded_to or max(lengths))
    mask = (np.arange(shape[1]) < np.array(lengths)[:, None]).astype(np.int64)
    ids = np.where(mask, drawn.integers(5, teacher.config.vocab_size, shape), padding)
    types = np.where(mask, np.arange(shape[1]) > np.array(lengths)[:, None] // 2, 0).astype(np.int64)
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}


def logits_of(engine: str, precision: str, teacher: NLITeacher, batch: Batch) -> Any:
    with closing(load_engine(engine, teacher, Placement(), precision)) as loaded:
        return loaded.logits(batch)


@pytest.mark.parametrize("tiles", TILES)
@pytest.mark.parametrize("shape", SHAPES)
def test_logits_are_closer_to_torchs_than_its_own_bf16(shape: str, tiles: bool, tmp_path: Path) -> None:
    teacher = teacher_of_shape(tmp_path, shape)
    longest = teacher.max_length
    batch = batch_of(teacher, [1, 2, 15, 16, 17, 31, 32, 33, longest, *range(3, 60)])  # more than a block of tokens
    exact = logits_of("torch", "fp32", teacher, batch)
    off = logits_of("native", "bf16", teacher, batch) - exact
    assert off.any()
    assert np.sqrt(np.mean(off**2)) <= np.sqrt(np.mean((logits_of("torch", "bf16", teacher, batch) - exact) ** 2))


@pytest.mark.parametrize("tiles", TILES)
def test_a_rows_logits_depend_on_the_row_alone(tiles: bool, tmp_path: Path) -> None:
    teacher = teacher_of_shape(tmp_path, "nothing divides by 32")
    lengths = [7, 40, 33, 1, 64, *([50] * 40)]
    batch = batch_of(teacher, lengths)
    with closing(load_engine("native", teacher, Placement(), "bf16")) as engine:
        together = engine.logits(batch)
        for row, length in enumerate(lengths[:6]):
            alone = {name: array[row : row + 1, :length] for name, array in batch.items()}
            np.testing.assert_array_equal(engine.logits(alone)[0], together[row])
        backwards = engine.logits({name: np.pad(array, ((0, 0), (0, 1)))[::-1] for name, array in batch.items()})
    np.testing.assert_array_equal(backwards[::-1], together)


def test_padding_is_no_work(tmp_path: Path) -> None:
    teacher = teacher_of_shape(tmp_path, "heads of 8")
    labels = LabelSet(names=("sports", "business"))
    for name, precision, wasted in (("native", "bf16", False), ("torch", "fp32", True)):
        with closing(
            Scorer(teacher, load_engine(name, teacher, Placement(), precision), labels, buckets=None)
        ) as scorer:
            assert (scorer.score(["One.", "A longer one, of several words."]).padding_waste > 0) == wasted


def test_lanes_give_what_one_thread_does(tmp_path: Path) -> None:
    teacher = teacher_of_shape(tmp_path, "heads of 8")
    batches = [batch_of(teacher, [3 + number, 60, 5 * number + 1]) for number in range(12)]
    with closing(load_engine("native", teacher, Placement(threads=2), "bf16")) as engine:
        alone = [engine.logits(batch) for batch in batches]
        assert engine.lanes.pool is not None
        for found, expected in zip(engine.lanes.pool.map(engine.logits, batches * 3), alone * 3, strict=True):
            np.testing.assert_array_equal(found, expected)


def test_padding_within_a_text_has_the_place_that_roberta_gives_it(tmp_path: Path) -> None:
    teacher = teacher_of_shape(tmp_path, "RoBERTa")
    batch = batch_of(teacher, [9, 30])
    batch["input_ids"][:, 4] = teacher.config.pad_token_id  # as the word <pad> in a text is
    exact = logits_of("torch", "fp32", teacher, batch)
    np.testing.assert_allclose(logits_of("native", "bf16", teacher, batch), exact, atol=0.02 * float(np.ptp(exact)))


def test_token_types_that_the_tokenizer_does_not_tell_are_all_the_first(tmp_path: Path) -> None:
    teacher = teacher_of_shape(tmp_path, "heads of 8")
    batch = batch_of(teacher, [9, 20])
    none = {name: array for name, array in batch.items() if name != "token_type_ids"}
    with closing(load_engine("native", teacher, Placement(), "bf16")) as engine:
        zeros = engine.logits(none | {"token_type_ids": np.zeros_like(batch["input_ids"])})
        np.testing.assert_array_equal(engine.logits(none), zeros)
        assert not np.array_equal(engine.logits(batch), zeros)


@pytest.mark.parametrize(
    ("name", "number"), [("input_ids", 1 << 30), ("input_ids", -1), ("token_type_ids", 2), ("attention_mask", 0)]
)
def test_a_token_that_the_model_does_not_know_is_one_line(name: str, number: int, tmp_path: Path) -> None:
    teacher = teacher_of_shape(tmp_path, "heads of 8")
    batch = batch_of(teacher, [9, 20])
    batch[name][1, 0] = number
    with (
        closing(load_engine("native", teacher, Placement(), "bf16")) as engine,
        pytest.raises(
            EngineError, match=r"the native engine runs right-padded sequences of up to \d+ tokens of \d+ kinds"
        ),
    ):
        engine.logits(batch)


def test_a_batch_that_is_longer_than_the_model_is_one_line(tmp_path: Path) -> None:
    teacher = teacher_of_shape(tmp_path, "RoBERTa")  # 66 positions, the first two of which are no token's
    with closing(load_engine("native", teacher, Placement(), "bf16")) as engine:
        assert np.isfinite(engine.logits(batch_of(teacher, [64 - teacher.config.pad_token_id]))).all()
        with pytest.raises(EngineError, match=r"sequences of up to \d+ tokens .* a batch of 1 x 66"):
            engine.logits(batch_of(teacher, [66]))


@pytest.mark.parametrize("family", ["electra", "deberta-v2", "modernbert"])
def test_another_architecture_is_refused(family: str, teacher_of: Callable[..., str]) -> None:
    with pytest.raises(EngineError, match=rf"runs BERT, RoBERTa and DistilBERT .*, not {family} with gelu: use"):
        load_engine("native", load_teacher(teacher_of(family)), Placement(), "bf16")


def test_another_activation_is_refused(tmp_path: Path) -> None:
    teacher = teacher_of_shape(tmp_path, "heads of 8", hidden_act="relu")
    with pytest.raises(EngineError, match="not bert with relu: use another --engine"):
        load_engine("native", teacher, Placement(), "bf16")


@pytest.mark.parametrize("tiles", TILES)
def test_a_sequence_longer_than_a_block_of_tokens_is_a_block_of_its_own(tiles: bool, tmp_path: Path) -> None:
    teacher = load_teacher(str(tiny_teacher(tmp_path, "bert", positions=700)))
    batch = batch_of(teacher, [600, 5, 700, 512, 513, 31, 1])
    exact = logits_of("torch", "fp32", teacher, batch)
    np.testing.assert_allclose(logits_of("native", "bf16", teacher, batch), exact, atol=0.02 * float(np.ptp(exact)))


def test_a_student_that_reads_the_class_names_is_refused(tmp_path: Path) -> None:
    teacher = teacher_of_shape(tmp_path, "heads of 8")
    teacher.config.class_places = [[1], [2, 3]]
    with pytest.raises(EngineError, match="whose first token is read, not a joint student: use another --engine"):
        load_engine("native", teacher, Placement(), "bf16")


def test_weights_are_stored_as_tiles_of_pairs_of_rows() -> None:
    weight_KN = torch.arange(64 * 96, dtype=torch.float32).reshape(64, 96) % 251  # bf16 has them all
    stored = panels(weight_KN).float()
    assert stored.shape == (3, 2, 2, 16, 16, 2)
    for row, column in ((0, 0), (1, 0), (0, 1), (33, 17), (63, 95), (40, 64)):
        place = (column // 32, row // 32, column % 32 // 16, row % 32 // 2, column % 16, row % 2)
        assert stored[place] == weight_KN[row, column]
    assert panels(weight_KN[:40, :70]).shape == stored.shape


def test_the_structs_are_those_of_the_kernels() -> None:
    found = (ctypes.c_int64 * 9)()
    library.load_library(library.processor_flags()).zsd_layout(found)
    model, layer = ModelStruct, LayerStruct
    ours = [ctypes.sizeof(model), model.epsilon.offset, model.types.offset, model.class_bias.offset, model.layer.offset]
    ours += [model.first_place.offset, ctypes.sizeof(layer), layer.up.offset, layer.norm2_bias.offset]
    assert list(found) == ours


def test_a_processor_without_bf16_is_one_line(teacher_of: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "describe_machine", lambda: {"cpu_flags": ["avx512f"]})
    with pytest.raises(EngineError, match="this processor has no AVX512_BF16, which the native engine needs: use"):
        load_engine("native", load_teacher(teacher_of("bert")), Placement(), "bf16")


def test_the_kernels_are_compiled_once(fresh_library: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZSD_CACHE", str(tmp_path))
    library.load_library(library.processor_flags())
    (file,) = tmp_path.rglob("encoder.so")
    library.load_library.cache_clear()
    monkeypatch.setattr(library, "_compile", lambda *_: pytest.fail("compiled twice"))
    library.load_library(library.processor_flags())
    assert file.is_file()


def test_kernels_that_are_damaged_are_one_line(
    fresh_library: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZSD_CACHE", str(tmp_path))
    monkeypatch.setattr(library, "_compile", lambda *given: given[-1].write_bytes(b"half of it"))
    with pytest.raises(EngineError, match=r"encoder.so cannot be loaded \(.*\): delete it, and run the same command"):
        library.load_library(library.processor_flags())


def script(folder: Path, *lines: str) -> str:
    folder.mkdir(exist_ok=True)
    file = folder / "c++"
    file.write_text("\n".join(["#!/bin/sh", *lines]) + "\n")
    file.chmod(0o755)
    return str(file)


def test_without_a_sound_compiler_it_is_one_line(
    fresh_library: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZSD_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CXX", raising=False)

    def refused(match: str) -> None:
        with pytest.raises(EngineError, match=match):
            library.load_library(library.processor_flags())
        assert not list((tmp_path / "cache").rglob("*.so"))

    compiler = script(tmp_path / "bin", "echo encoder.cpp:1: error: what is AMX >&2", "exit 1")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    refused(r"c\+\+ cannot compile the native engine \(encoder.cpp:1: error: what is AMX\): g\+\+ 12 and clang\+\+ 22")
    script(tmp_path / "bin", "exit 0")
    refused(r"cannot compile the native engine \(exit 0\)")
    Path(compiler).write_text("no program")
    refused(r"the C\+\+ compiler .* does not run \(.*\): set CXX to another")
    Path(compiler).unlink()
    refused(r"each node compiles the native engine, and there is no C\+\+ compiler here: install g\+\+, or use")
    monkeypatch.setenv("CXX", f"{tmp_path / 'nowhere'} -m64")
    refused(r"\$CXX names '.*nowhere', which is not there")
    monkeypatch.setenv("CXX", "'g++")
    refused(r"\$CXX is no command \(No closing quotation\): set it to a C\+\+ compiler, or unset it")


def test_a_compiler_may_be_a_command_of_several_words(
    fresh_library: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZSD_CACHE", str(tmp_path))
    monkeypatch.setenv("CXX", "env g++")
    library.load_library(library.processor_flags())
    library.load_library.cache_clear()
    monkeypatch.setenv("ZSD_CACHE", str(tmp_path / "other"))
    monkeypatch.setenv("CXX", "gcc")  # it does not link C++'s own library
    with pytest.raises(EngineError, match=r"gcc cannot compile the native engine \(.*undefined"):
        library.load_library(library.processor_flags())
