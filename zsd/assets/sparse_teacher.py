"""The bundled teacher's sparse form: stored as what differs from the dense one, put together in the cache on first use.

A tensor that is mostly zeros is stored as two: one bit an entry that says whether it is kept (``NAME.kept``), and the
kept entries in order (``NAME.values``). Every other tensor that differs is stored whole; those that are equal are
taken from the dense teacher. ``python -m zsd.assets.sparse_teacher CHECKPOINT`` makes the file from a checkpoint that
`zsd compile` pruned.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file, save_file

from zsd.assets import bundled_teacher_path, sparse_teacher_path
from zsd.cache import cache_directory, new_directory

WEIGHTS = "model.safetensors"
DIFFERENCES = "differences.safetensors"
KEPT, VALUES = ".kept", ".values"
MOSTLY_ZEROS = 0.3
"""Share of zeros from which bits and values are smaller than the whole tensor."""
Tensors = dict[str, npt.NDArray[Any]]


def assembled_sparse_teacher() -> Path:
    """Directory of the sparse teacher as a plain transformers checkpoint, in the cache."""
    digest = hashlib.blake2b((sparse_teacher_path() / DIFFERENCES).read_bytes(), digest_size=16).hexdigest()
    directory = cache_directory() / "teachers" / f"bundled-sparse-{digest}"
    if not directory.is_dir():
        with new_directory(directory) as scratch:
            assemble(bundled_teacher_path(), sparse_teacher_path() / DIFFERENCES, scratch)
    return directory


def assemble(dense: Path, differences: Path, directory: Path) -> None:
    """Fill a directory with the dense checkpoint's files and the weights changed by the differences."""
    for file in dense.iterdir():
        if file.suffix == ".json":
            shutil.copyfile(file, directory / file.name)
    weights = load_file(dense / WEIGHTS)
    weights |= unpack(load_file(differences), weights)
    save_file(weights, directory / WEIGHTS, metadata={"format": "pt"})


def pack(sparse: Tensors, dense: Tensors) -> Tensors:
    """What of `sparse` differs from `dense`, in the dense one's number format."""
    packed: Tensors = {}
    for name, wanted in dense.items():
        tensor = sparse[name].astype(wanted.dtype)
        if np.array_equal(tensor, wanted):
            continue
        kept = tensor != 0
        if 1.0 - kept.mean() < MOSTLY_ZEROS:
            packed[name] = tensor
        else:
            packed[name + KEPT], packed[name + VALUES] = np.packbits(kept), tensor[kept]
    return packed


def unpack(packed: Tensors, dense: Tensors) -> Tensors:
    """The tensors that `pack` stored, in the shapes the dense ones have."""
    tensors = {name: tensor for name, tensor in packed.items() if not name.endswith((KEPT, VALUES))}
    for name in [name.removesuffix(KEPT) for name in packed if name.endswith(KEPT)]:
        tensor = np.zeros_like(dense[name])
        kept = np.unpackbits(packed[name + KEPT], count=tensor.size).astype(bool).reshape(tensor.shape)
        tensor[kept] = packed[name + VALUES]
        tensors[name] = tensor
    return tensors


def main(checkpoint: Path) -> None:
    """Write the asset from a pruned checkpoint of the bundled teacher."""
    packed = pack(load_file(checkpoint / WEIGHTS), load_file(bundled_teacher_path() / WEIGHTS))
    sparse_teacher_path().mkdir(exist_ok=True)
    save_file(packed, sparse_teacher_path() / DIFFERENCES)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
