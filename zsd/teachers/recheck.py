"""The second look of a teacher: pairs between which int8 or a draft cannot decide are run again by the teacher itself.

Which those are says `zsd.soft_labels.close`. How close is close was measured when the form was made: see
`zsd.compile.quantize_openvino` and `zsd.compile.draft`. The teacher runs in bf16 where the processor has it, which
cannot always tell the best of 150 classes either (CLINC150: not in 2 of 256 rows): those run once more in fp32.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np

from zsd.buckets import LengthSample
from zsd.compile.compiled import RECHECK_DRAFT, RECHECK_OPENVINO, Widths, read_recheck
from zsd.engines import load_engine
from zsd.engines.base import Engine, FloatArray, Placement
from zsd.engines.draft import drafted, half_precision
from zsd.engines.registry import DRAFT, precisions_of
from zsd.errors import EngineError
from zsd.labels import LabelSet
from zsd.teachers.nli import NLITeacher

FEW_BUCKETS = 5
"""Lengths that are compiled for int8's: each takes a moment, and there are few pairs to save padding of."""

FEW_TOKENS = 256
"""Tokens of a call there: of a thousand pairs some three to six are close (CLINC150, AG News), shared out among the
lanes. So few are left to fp32, too. Of a draft's a hundred and more are close, which run as any others."""


EXACT = "torch"
"""What runs in fp32 the pairs of an engine that has none: the reference."""


@dataclass(frozen=True, kw_only=True)
class Recheck:
    """What runs close pairs again.

    Attributes:
        engine: the same teacher in more precision.
        buckets: lengths for it, where it is of fixed shapes.
        most_tokens: most padded tokens of a call, where that is less than the engine's own.
        within: how close is close, as a difference of raw logits.
        bias: [K] of the labels, or None: see `zsd.soft_labels.close`.
    """

    engine: Engine
    buckets: tuple[int, ...] | None
    most_tokens: int | None
    within: float
    bias: FloatArray | None = None

    @property
    def token_budget(self) -> int:
        """Padded tokens a call should have."""
        return min(self.most_tokens or self.engine.token_budget, self.engine.token_budget)


def load_rechecks(
    engine: str,
    precision: str,
    teacher: NLITeacher,
    labels: LabelSet,
    placement: Placement,
    lengths: LengthSample,
) -> tuple[Recheck, ...]:
    """The second look of an engine, and the third in fp32; none where its form decides alone.

    Args:
        engine: name of the one that looks first.
        precision: of that.
        teacher: what is run.
        labels: what is asked.
        placement: where.
        lengths: of the job's pairs.

    Raises:
        EngineError: the engine cannot run this teacher here, its draft was made for other labels, or what says how
            close is close is missing or damaged.
        TeacherError: the checkpoint's weights cannot be loaded.
    """
    draft, widths = precision == DRAFT, None
    if draft:
        widths = check_draft(teacher, labels)
    elif (engine, precision) == ("openvino", "int8"):
        widths = read_recheck(teacher, RECHECK_OPENVINO)
    if widths is None:
        return ()
    half = half_precision(engine, placement)
    second = half if widths.exactly_within is not None else "fp32"
    wanted = [(second, widths.within, draft)] if widths.within else []
    if widths.exactly_within and second != "fp32":
        wanted.append(("fp32", widths.exactly_within, False))
    with ExitStack() as loaded:
        found = []
        for more_precise, within, many in wanted:
            name = engine if more_precise in precisions_of(engine, placement.device) else EXACT
            one = load_engine(name, teacher, placement, more_precise)
            loaded.callback(one.close)
            most = max(1, one.most_buckets // 2)  # the memory for compiled shapes is shared with the first look
            few = not many and placement.device == "cpu"
            found.append(
                Recheck(
                    engine=one,
                    buckets=None if one.buckets is None else lengths.buckets(min(FEW_BUCKETS, most) if few else most),
                    most_tokens=FEW_TOKENS if few else None,
                    within=within,
                    bias=_bias_of(widths, labels),
                )
            )
        loaded.pop_all()
    return tuple(found)


def _bias_of(widths: Widths, labels: LabelSet) -> FloatArray | None:
    """[K] of the labels, in their order."""
    if not widths.bias:
        return None
    known = dict(zip(widths.hypotheses, widths.bias, strict=True))
    return np.array([known[hypothesis] for hypothesis in labels.hypotheses], dtype=np.float32)


def check_draft(teacher: NLITeacher, labels: LabelSet) -> Widths:
    """How close is close after a teacher's draft, which knows its answers to some hypotheses only.

    Raises:
        EngineError: the teacher has no draft, it was made for others, or what says how close is close is damaged.
    """
    drafted(teacher)
    widths = read_recheck(teacher, RECHECK_DRAFT)
    if widths is None or not widths.within > 0:
        raise EngineError(f"{teacher} has a draft without a sound {RECHECK_DRAFT}: make it again with zsd compile")
    told = None
    if widths.hypotheses and (other := {*labels.hypotheses} ^ {*widths.hypotheses}):
        told = f"not for these classes and templates ({min(other)!r} is in one of the two only)"
    elif labels.multi_label != widths.multi_label:
        told = "for --multi-label" if widths.multi_label else "not for --multi-label"
    elif widths.columns and widths.columns != (teacher.classes.entailment, teacher.classes.contradiction):
        told = "for other --nli-classes"
    if told:
        raise EngineError(f"{teacher} has a draft {told}: make one with zsd compile, or name another --precision")
    return widths
