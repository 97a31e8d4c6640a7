"""How much a student has to do for a text, counted apart from the doing.

Legend: N rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zsd.students.checkpoint import read_checkpoint
from zsd.students.folder import student_kind
from zsd.students.linear import LinearStudent
from zsd.students.static import StaticStudent
from zsd.text_batches import TextSet

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Workload:
    """What a student reads of texts, and what that costs one that is no encoder.

    Attributes:
        lengths: texts to [N]: tokens of each, or of a linear student terms.
        arithmetic: FLOP of each token or term, and of a text besides; (0, 0) of an encoder: see
            `zsd.benchmark.flops`.
    """

    lengths: Callable[[Sequence[str]], IntArray]
    arithmetic: tuple[float, float] = (0.0, 0.0)


def student_workload(directory: str) -> Workload:
    """The workload of the student in a directory.

    Raises:
        StudentError: there is none.
    """
    kind = student_kind(directory)
    if kind == "static":
        static = StaticStudent(directory, threads=1)
        return Workload(lengths=static.lengths, arithmetic=static.arithmetic)
    if kind == "linear":
        linear = LinearStudent(directory)
        return Workload(lengths=linear.lengths, arithmetic=linear.arithmetic)
    checkpoint = read_checkpoint(directory)

    def lengths(texts: Sequence[str]) -> IntArray:
        return TextSet.build(checkpoint.tokenizer, texts, max_length=checkpoint.max_length).lengths

    return Workload(lengths=lengths)
