"""Training of the students that need no Ray Train: static and linear, from soft labels to a folder and its card."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zsd.evaluation import agreement, kl_divergence
from zsd.inference import probabilities
from zsd.students import load_student
from zsd.students.linear_fit import fit_linear
from zsd.students.rows import Rows, one_side
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
    common: dict[str, Any] = {
        "names": list(names),
        "multi_label": multi_label,
        "temperature": temperature,
        "heldout_fraction": heldout_fraction,
        "write": write,
    }
    if spec.kind == "linear":
        made = fit_linear(rows, directory, **common)
    else:
        made = fit_static(rows, directory, checkpoint=spec.checkpoint or teacher, seed=seed, **common)
    student = load_student(directory)
    found, wanted = [], []
    for some in one_side(rows, heldout=True, fraction=heldout_fraction):
        found.append(probabilities(student.logits(some.texts) / np.float32(temperature), multi_label=multi_label))
        wanted.append(some.probs)
    student_NK, teacher_NK = np.concatenate(found), np.concatenate(wanted)
    return {
        "kind": spec.kind,
        "train_rows": made["train_rows"],
        "heldout": {
            "rows": made["heldout_rows"],
            "fraction": heldout_fraction,
            "agreement": agreement(teacher_NK, student_NK, multi_label=multi_label),
            "kl": kl_divergence(teacher_NK, student_NK, multi_label=multi_label),
            "loss": made["heldout_loss"],
        },
        "parameters": made["parameters"],
        "training_arguments": made["training_arguments"],
    }
