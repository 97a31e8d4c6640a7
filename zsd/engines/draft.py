"""A teacher's draft as an engine of its own: a layer or two that were trained to give the teacher's own logits.

Most rows are easy, and a small model sees which are not: as in cascades (Viola & Jones 2001) and speculative decoding
(Leviathan et al. 2023) the draft goes first, over all pairs, and the teacher decides between the classes that it leaves
close to each other (`zsd.teachers.recheck`). `zsd.compile.draft` trains it, and measures how close is close.

Legend: B pairs in a batch, L tokens, C NLI classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from zsd.compile.compiled import draft_of
from zsd.compile.openvino_core import has_bf16, openvino_core
from zsd.engines.registry import DRAFT
from zsd.errors import EngineError
from zsd.machine import cpu_has_bf16

if TYPE_CHECKING:
    from zsd.checkpoint import Checkpoint
    from zsd.engines.base import Engine, FloatArray, IntArray, Placement


class DraftEngine:
    """An engine that runs the draft; by its precision and its fingerprint it is told from the teacher on that engine.

    Args:
        draft: the draft, loaded.
        teacher: whose draft it is.
    """

    precision = DRAFT

    def __init__(self, draft: Engine, teacher: Checkpoint) -> None:
        self._draft = draft
        self.name = draft.name
        self.threads = draft.threads
        self.fingerprint = f"{draft.fingerprint}, draft of {teacher.fingerprint}"
        self.buckets = draft.buckets
        self.most_buckets = draft.most_buckets
        self.pads = draft.pads
        self.lanes = draft.lanes

    @property
    def token_budget(self) -> int:
        """Padded tokens a batch should have, which a GPU that runs out of memory lowers."""
        return self._draft.token_budget

    def logits(self, inputs: Mapping[str, IntArray]) -> FloatArray:
        """The draft's [B, C] logits of one batch.

        Raises:
            EngineError: see `zsd.engines.base.Engine`.
        """
        return self._draft.logits(inputs)

    def close(self) -> None:
        """Free the draft."""
        self._draft.close()


def drafted(checkpoint: Checkpoint) -> Checkpoint:
    """A checkpoint's draft.

    Raises:
        EngineError: it has none.
    """
    draft = draft_of(checkpoint)
    if draft is None:
        told = "a draft is made of a teacher only"
        if checkpoint.role == "teacher":
            told = f"make one with zsd compile --teacher {checkpoint.name} --draft 1 --data ... --output DIR"
        raise EngineError(f"{checkpoint} has no draft: {told}")
    return draft


def half_precision(name: str, placement: Placement) -> str:
    """The fastest floating point that an engine has where it is placed: bf16 or fp16, or fp32 without either.

    The native engine has nothing else: it refuses a processor without bf16 when it is loaded.

    Raises:
        EngineError: the engine is not installed here.
    """
    if placement.device == "cuda":
        import torch

        there = torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
        return "bf16" if there else "fp16"
    if name == "native":
        return "bf16"
    halves = has_bf16(openvino_core()) if name == "openvino" else name == "torch" and cpu_has_bf16()
    return "bf16" if halves else "fp32"
