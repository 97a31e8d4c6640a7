from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from zsd.engines import load_engine
from zsd.engines.base import Placement
from zsd.labels import LabelSet
from zsd.teachers.nli import load_teacher
from zsd.teachers.scoring import Scorer
from zsd.teachers.some_pairs import score_some

# Legend: N rows, H hypotheses.

TEXTS = [f"The winner {'scored late ' * n}" for n in range(1, 40, 3)]


@pytest.mark.parametrize("long_text", ["truncate", "window"])
@pytest.mark.parametrize("more_templates", [(), ("It is {}.",)])
def test_what_is_asked_is_answered_as_in_the_full_pass_and_nothing_else_is(
    teacher_of: Callable[..., str], long_text: str, more_templates: tuple[str, ...]
) -> None:
    labels = LabelSet(names=("sports", "business", "science"), more_templates=more_templates)
    teacher = load_teacher(teacher_of("bert"))
    scorer = Scorer(teacher, load_engine("torch", teacher, Placement(), "fp32"), labels, long_text=long_text)
    wanted_NK = np.random.default_rng(0).random((len(TEXTS), 3)) < 0.5
    wanted_NK[:, 0] |= ~wanted_NK.any(axis=1)
    wanted_NH = np.tile(wanted_NK, (1, scorer.templates))
    some, full = score_some(scorer, TEXTS, wanted_NH), scorer.score(TEXTS)
    np.testing.assert_allclose(some.raw_entailment[wanted_NH], full.raw_entailment[wanted_NH], atol=1e-4)
    np.testing.assert_allclose(some.entailment[wanted_NK], full.entailment[wanted_NK], atol=1e-4)
    assert np.isneginf(some.entailment[~wanted_NK]).all()
    if long_text == "truncate":
        assert some.pairs == wanted_NH.sum()
    assert some.pairs < full.pairs
    assert some.tokens < full.tokens
