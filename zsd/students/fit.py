"""Training of the students that need no Ray Train: static and linear, from soft labels to a folder and its card."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from zsd.evaluation import agreement, kl_divergence
from zsd.inference import probabilities
from zsd.losses import binary_cross_entropy, soft_cross_entropy
from zsd.students import load_student
from zsd.students.linear_fit import fit_linear
from zsd.students.rows import SIDES, Rows, Split
from zsd.students.spec import StudentSpec
from zsd.students.static_fit import fit_static
from zsd.training_data import HELDOUT_FRACTION


def fit(
    spec: StudentSpec,
    rows: Rows,
    directory: Path,
    *,
    teacher: str,
    names: Sequence[str],
    multi_label: bool,
    temperature: float = 1.0,
    heldout_fraction: float = HELDOUT_FRACTION,
    seed: int = 0,
    write: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Train a ``static`` or ``linear`` student on this machine and write it, but for its card.

    Args:
        spec: which.
        rows: with soft labels; gone through a few times.
        directory: a local folder.
        teacher: checkpoint whose token embeddings a static student starts from, where `spec` names no other.
        names: K class names.
        multi_label: whether the labels are independent of each other.
        temperature: the one the soft labels were softened with: the student's logits divided by it say what they say.
        heldout_fraction: see `zsd.training_data.heldout_mask`.
        seed: everything random depends on it alone.
        write: takes progress lines.

    Returns:
        For the card: ``kind``, ``train_rows``, ``heldout`` (``rows``, ``fraction``, ``agreement``, ``kl``, ``loss``),
        ``parameters`` and ``training_arguments``.

    Raises:
        InputError: the rows leave one side of the split empty, or the checkpoint does not serve.
    """
    split = Split.of(rows, heldout_fraction)
    for side in SIDES:
        next(split.side(rows, side))  # an error now if it has none, not after the training
    common: dict[str, Any] = {
        "names": list(names),
        "multi_label": multi_label,
        "temperature": temperature,
        "split": split,
        "write": write,
    }
    if spec.kind == "linear":
        made = fit_linear(rows, directory, **common)
    else:
        made = fit_static(rows, directory, checkpoint=spec.checkpoint or teacher, seed=seed, **common)
    student = load_student(directory)
    heldout = [(student.logits(some.texts), some.probs) for some in split.side(rows, "held-out")]
    logits_NK, teacher_NK = (np.concatenate(parts) for parts in zip(*heldout, strict=True))
    student_NK = probabilities(logits_NK / np.float32(temperature), multi_label=multi_label)
    row_loss = binary_cross_entropy if multi_label else soft_cross_entropy
    losses_N = row_loss(torch.from_numpy(logits_NK), torch.from_numpy(teacher_NK), temperature)
    return {
        "kind": spec.kind,
        "train_rows": made["train_rows"],
        "heldout": {
            "rows": len(teacher_NK),
            "fraction": heldout_fraction,
            "agreement": agreement(teacher_NK, student_NK, multi_label=multi_label),
            "kl": kl_divergence(teacher_NK, student_NK, multi_label=multi_label),
            "loss": float(losses_N.mean()),
        },
        "parameters": made["parameters"],
        "training_arguments": made["training_arguments"],
    }
