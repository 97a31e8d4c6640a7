"""The second look of a teacher: pairs between which int8 or a draft cannot decide are run again by the teacher itself.

Which those are says `zsd.soft_labels.close`. How close is close was measured when the form was made: see
`zsd.compile.quantize_openvino` and `zsd.compile.draft`. The teacher runs in bf16 where the processor has it, which
cannot always tell the best of 150 classes either (CLINC150: not in 2 of 256 rows): those run once more in fp32.
"""

from __future__ import annotations

from dataclasses import dataclass

from zsd.buckets import LengthSample
from zsd.compile.compiled import RECHECK_DRAFT, RECHECK_OPENVINO, read_recheck
from zsd.engines import load_engine
from zsd.engines.base import Engine, Placement
from zsd.engines.draft import half_precision
from zsd.engines.registry import DRAFT
from zsd.errors import EngineError
from zsd.teachers.nli import NLITeacher

FEW_BUCKETS = 5
"""Lengths that are compiled for int8's: each takes a moment, and there are few pairs to save padding of."""

FEW_TOKENS = 256
"""Tokens of a call there: of a thousand pairs some three to six are close (CLINC150, AG News), shared out among the
lanes. So few are left to fp32, too. Of a draft's a hundred and more are close, which run as any others."""


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


def load_rechecks(
    engine: str, precision: str, teacher: NLITeacher, placement: Placement, lengths: LengthSample | None = None
) -> tuple[Recheck, ...]:
    """The second look of an engine, and the third in fp32; none where its form decides alone.

    Args:
        engine: name of the one that looks first.
        precision: of that.
        teacher: what is run.
        placement: where.
        lengths: of the job's pairs; where None, the engine's own buckets are taken.

    Raises:
        EngineError: the engine cannot run this teacher here, or what says how close is close is missing or damaged.
        TeacherError: the checkpoint's weights cannot be loaded.
    """
    form = RECHECK_DRAFT if precision == DRAFT else RECHECK_OPENVINO
    looks = precision == DRAFT or (engine, precision) == ("openvino", "int8")
    widths = read_recheck(teacher, form) if looks else None
    if widths is None and precision == DRAFT:
        raise EngineError(f"{teacher} has a draft without {RECHECK_DRAFT}: make it again with zsd compile")
    if widths is None:
        return ()

    def look(precision: str, within: float, *, few: bool) -> Recheck:
        loaded = load_engine(engine, teacher, placement, precision)
        most = max(1, min(FEW_BUCKETS, loaded.most_buckets // 2)) if few else loaded.most_buckets
        buckets = loaded.buckets if lengths is None else lengths.buckets(most)
        token_budget = FEW_TOKENS if few else loaded.token_budget
        return Recheck(engine=loaded, buckets=buckets, token_budget=token_budget, within=within)

    half = half_precision(engine, placement)
    found = []
    if widths.within:
        found.append(look(half, widths.within, few=precision != DRAFT))
    if widths.exactly_within and half != "fp32":
        found.append(look("fp32", widths.exactly_within, few=True))
    return tuple(found)
