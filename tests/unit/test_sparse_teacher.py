from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from zsd.assets import bundled_teacher_path, sparse_teacher_path
from zsd.assets.sparse_teacher import DIFFERENCES, Tensors, assembled_sparse_teacher, pack, unpack
from zsd.compile.prune import encoder_linears, sparsity_of
from zsd.teachers.nli import load_teacher
from zsd.teachers.weights import load_weights


def some_tensors(zeros: float, seed: int) -> Tensors:
    rng = np.random.default_rng(seed)
    tensors = {"weight": rng.normal(size=(33, 7)), "bias": rng.normal(size=9), "same": np.ones((3, 3))}
    tensors["weight"][rng.random((33, 7)) < zeros] = 0.0
    return {name: tensor.astype(np.float16) for name, tensor in tensors.items()}


@pytest.mark.parametrize("zeros", [0.0, 0.8, 1.0])
def test_what_is_packed_comes_back_exactly_and_equal_tensors_are_not_stored(zeros: float) -> None:
    dense, sparse = some_tensors(0.0, 1), some_tensors(zeros, 2)
    packed = pack({name: tensor.astype(np.float32) for name, tensor in sparse.items()}, dense)
    assert not any(name.startswith("same") for name in packed)
    restored = dense | unpack(packed, dense)
    for name, tensor in sparse.items():
        assert restored[name].dtype == tensor.dtype
        assert np.array_equal(restored[name], tensor)


def test_the_bundled_sparse_teacher_is_the_dense_one_but_for_its_encoder(shared_cache: Path) -> None:
    path = assembled_sparse_teacher()
    assert path.is_relative_to(shared_cache)
    sparse, dense = load_file(path / "model.safetensors"), load_file(bundled_teacher_path() / "model.safetensors")
    assert sparse.keys() == dense.keys()
    changed = {name for name in dense if not np.array_equal(sparse[name], dense[name])}
    assert changed
    assert all(name.startswith("bert.encoder.layer.") for name in changed)
    model = load_weights(load_teacher(str(path)), dtype=torch.float32)
    assert sparsity_of(encoder_linears(model)) == pytest.approx(0.87, abs=1e-3)


def test_the_asset_is_small() -> None:
    assert (sparse_teacher_path() / DIFFERENCES).stat().st_size < 8_000_000
