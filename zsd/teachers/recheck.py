"""The second look of an int8 teacher: pairs between which int8 cannot decide are run again in more precision.

Which those are says `zsd.soft_labels.close`. How close is close was measured when the int8 form was made: see
`zsd.compile.quantize_openvino`.
"""

from __future__ import annotations

from dataclasses import dataclass

from zsd.buckets import LengthSample
from zsd.compile.compiled import recheck_within
from zsd.compile.openvino_core import has_bf16, openvino_core
from zsd.engines import load_engine
from zsd.engines.base import Engine, Placement
from zsd.teachers.nli import NLITeacher

MOST_BUCKETS = 5
"""Lengths that are compiled for it: each takes a moment, and there are few pairs to save padding of."""

TOKEN_BUDGET = 256
"""Of a thousand pairs some three to six are close (CLINC150, AG News): they are shared out among the lanes."""


@dataclass(frozen=True, kw_only=True)
class Recheck:
    """What runs close pairs again.

    Attributes:
        engine: the same teacher in more precision.
        buckets: lengths for it, where it is of fixed shapes.
        token_budget: most padded tokens of a call.
        within: how close is close, as a difference of raw logits.
    """

    engine: Engine
    buckets: tuple[int, ...] | None
    token_budget: int
    within: float


def load_recheck(
    engine: str, precision: str, teacher: NLITeacher, placement: Placement, lengths: LengthSample | None = None
) -> Recheck | None:
    """What an engine's second look is to be; None where its form has none.

    Args:
        engine: name of the one that looks first.
        precision: of that.
        teacher: what is run.
        placement: where.
        lengths: of the job's pairs; where None, the engine's own buckets are taken.

    Raises:
        EngineError: the engine cannot run this teacher here.
        TeacherError: the checkpoint's weights cannot be loaded.
    """
    within = recheck_within(teacher) if (engine, precision) == ("openvino", "int8") else None
    if within is None:
        return None
    loaded = load_engine(engine, teacher, placement, "bf16" if has_bf16(openvino_core()) else "fp32")
    most = max(1, min(MOST_BUCKETS, loaded.most_buckets // 2))
    buckets = loaded.buckets if lengths is None else lengths.buckets(most)
    return Recheck(engine=loaded, buckets=buckets, token_budget=TOKEN_BUDGET, within=within)
