"""The teacher asked about some classes of each row, which need not be the same for two rows.

Legend: N rows, H hypotheses, W premises (N, and more where long texts are windowed), P = W * H pairs, C NLI classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from zsd.planning import padding_waste, plan_batches
from zsd.teachers.scoring import Scorer, Scores
from zsd.windows import pool_windows


def score_some(scorer: Scorer, texts: Sequence[str], wanted_NH: npt.NDArray[np.bool_]) -> Scores:
    """Logits of N texts against some of the hypotheses of each; minus infinity for those that were not asked.

    Of every row at least one must be wanted. A softmax over the entailment logits then is one over what was asked.

    Raises:
        EngineError: the engine returned a number that is not finite, or the wrong number of classes.
    """
    prepared = scorer.prepare(texts)
    pairs, classes = prepared.pairs, scorer.teacher.classes
    wanted_P = np.flatnonzero(wanted_NH[pairs.rows].reshape(-1))
    planned = plan_batches(
        pairs.lengths[wanted_P],
        token_budget=scorer.engine.token_budget,
        buckets=scorer.buckets,
        max_length=scorer.teacher.max_length,
        lanes=scorer.engine.lanes,
    )
    batches = [replace(batch, pairs=wanted_P[batch.pairs]) for batch in planned]
    logits_PC = np.full((len(pairs), classes.count), -np.inf, dtype=np.float32)
    for batch, logits_BC in scorer.batches(replace(prepared, batches=batches)):
        logits_PC[batch.pairs] = logits_BC
    shape_WH = (len(pairs.rows), wanted_NH.shape[1])
    entailment_NH, contradiction_NH = pool_windows(
        np.ascontiguousarray(logits_PC[:, classes.entailment]).reshape(shape_WH),
        np.ascontiguousarray(logits_PC[:, classes.contradiction]).reshape(shape_WH),
        pairs.rows,
    )
    return Scores(
        raw_entailment=entailment_NH,
        raw_contradiction=contradiction_NH,
        templates=scorer.templates,
        pairs=len(wanted_P),
        tokens=int(pairs.lengths[wanted_P].sum()),
        padding_waste=padding_waste(pairs.lengths[wanted_P], planned),
        truncated=pairs.truncated,
        windowed=pairs.windowed,
        windows=len(pairs.rows) - (prepared.rows - pairs.windowed) if pairs.windowed else 0,
    )
