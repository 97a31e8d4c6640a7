"""What there is to do: how many tokens each contestant's texts and pairs have, counted apart from the timing.

Legend: N rows, K labels, P = N * K pairs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from zsd.batching import PairSet, pair_layout
from zsd.benchmark.contestants import PIPELINE_BATCH, Contestant, recipe_length
from zsd.students.workload import student_workload
from zsd.teachers.nli import load_teacher

IntArray = npt.NDArray[np.int64]


def sequence_lengths(contestant: Contestant, texts: Sequence[str]) -> IntArray:
    """Tokens of everything the contestant's model reads: [N, K] pairs of a teacher, [N, 1] texts of a student
    (of one that is no encoder, the tokens or terms whose weights it sums)."""
    if contestant.kind == "student":
        return student_workload(contestant.model).lengths(texts)[:, None]
    teacher = load_teacher(contestant.model, nli_classes=contestant.nli_classes)
    limit = recipe_length(teacher.max_length) if contestant.kind == "recipe" else teacher.max_length
    layout, hypotheses = pair_layout(teacher.tokenizer), contestant.labels.hypotheses
    pairs = PairSet.build(teacher.tokenizer, layout, texts, hypotheses, max_length=limit)
    return pairs.lengths.reshape(len(texts), len(hypotheses))


def pipeline_waste(lengths_NK: IntArray) -> float:
    """Share of the transformers pipeline's tokens that is padding: each batch, in order, to its own longest pair."""
    lengths_P = lengths_NK.reshape(-1)
    batches = [lengths_P[start : start + PIPELINE_BATCH] for start in range(0, len(lengths_P), PIPELINE_BATCH)]
    return 1.0 - float(lengths_P.sum()) / sum(len(batch) * int(batch.max()) for batch in batches)
