"""Raw logits of some rows, and what of them decides the answer.

Legend: N rows, K labels.
"""

from __future__ import annotations

from dataclasses import dataclass

from zsd.batching import FloatArray


@dataclass(frozen=True, kw_only=True)
class Logits:
    """Raw NLI logits, the mean over the templates where there are several.

    Attributes:
        entailment: [N, K] raw logits.
        contradiction: [N, K] raw logits.
    """

    entailment: FloatArray
    contradiction: FloatArray

    def __len__(self) -> int:
        return len(self.entailment)

    def deciding(self, *, multi_label: bool) -> FloatArray:
        """[N, K] what the answer depends on: entailment, or for multi-label how far it is above contradiction."""
        return self.entailment - self.contradiction if multi_label else self.entailment
