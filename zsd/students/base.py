"""What a student is, whatever its kind: texts in, a number for each class out.

Legend: N rows, K labels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zsd.inference import probabilities

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a student says of some texts, and what that cost.

    Attributes:
        logits: [N, K] float32, in the order of the texts.
        multi_label: whether the labels are independent of each other.
        tokens: real tokens (or terms) read, padding not counted.
        truncated: texts that were cut.
        padding_waste: share of the computed tokens that was padding.
    """

    logits: FloatArray
    multi_label: bool
    tokens: int
    truncated: int = 0
    padding_waste: float = 0.0

    @property
    def probs(self) -> FloatArray:
        """[N, K] softmax over the labels, or a sigmoid of each label by itself where they are independent."""
        return probabilities(self.logits, multi_label=self.multi_label)


class Student(ABC):
    """A student loaded for use by one thread; `zsd.students.load_student` makes them.

    Attributes:
        kind: ``encoder``, ``static`` or ``linear``.
        names: the K class names, in the order of its outputs.
        multi_label: whether the labels are independent of each other.
        engine: what runs it.
        precision: what it computes with.
        threads: processor threads it uses.
    """

    kind: str
    names: tuple[str, ...]
    multi_label: bool
    engine: str
    precision: str
    threads: int

    @abstractmethod
    def answer(self, texts: Sequence[str]) -> Answer:
        """Classify N texts, which may be none; a row depends on its own text only, up to rounding.

        Raises:
            EngineError: the engine cannot run them here.
        """

    def predict(self, texts: Sequence[str]) -> FloatArray:
        """[N, K] float32 probabilities."""
        return self.answer(texts).probs

    def logits(self, texts: Sequence[str]) -> FloatArray:
        """[N, K] float32 raw logits."""
        return self.answer(texts).logits

    @abstractmethod
    def close(self) -> None:
        """Free what the student holds; it cannot be used after it."""
