"""Checkpoints of which the weights are pickled are refused: to unpickle a file is to run what it says."""

from __future__ import annotations

from pathlib import Path

SAFE = ("model.safetensors", "model.safetensors.index.json")
"""Names of the weights that transformers reads; under any other name it would look for pickled ones."""
PICKLED = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib"})


def pickled_only(directory: str | Path) -> str | None:
    """Name of a pickled file in a directory without safetensors weights; None for any other directory, or none."""
    folder = Path(directory)
    if not folder.is_dir() or any((folder / name).is_file() for name in SAFE):
        return None
    return next((file.name for file in sorted(folder.iterdir()) if file.suffix.lower() in PICKLED), None)


def refusal(file: str) -> str:
    """The end of a message about such a file."""
    return (
        f"holds no model.safetensors but only pickled weights ({file}), which can run code when they are loaded: "
        "convert them to safetensors"
    )
