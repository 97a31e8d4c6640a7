from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.store import NAMES, build, labelled
from zsd.corpus_profile import profile_store
from zsd.drift import chance_index, compare, jensen_shannon, stability_index
from zsd.learned_rows import LearnedRows
from zsd.report.drift import drift_page
from zsd.shards import Store

NOTHING = LearnedRows(unknown="nothing is in production")
COUNTS = st.lists(st.integers(0, 10_000), min_size=2, max_size=8).filter(any)


@given(COUNTS, COUNTS)
def test_divergences_are_0_for_equal_shares_symmetric_and_bounded(one: list[int], other: list[int]) -> None:
    size = min(len(one), len(other))
    p, q = one[:size], other[:size]
    if not any(p) or not any(q):
        return
    assert jensen_shannon(p, [3 * count for count in p]) == pytest.approx(0, abs=1e-9)
    assert stability_index(p, p) == pytest.approx(0, abs=1e-9)
    assert 0 <= jensen_shannon(p, q) <= 1 + 1e-9
    assert stability_index(p, q) >= 0
    for measure in (jensen_shannon, stability_index):
        assert measure(p, q) == pytest.approx(measure(q, p), rel=1e-6, abs=1e-9)


def test_nothing_in_common_is_one_bit() -> None:
    assert jensen_shannon([5, 0], [0, 7]) == pytest.approx(1)


def test_the_index_of_two_samples_of_one_distribution_stays_below_what_chance_gives() -> None:
    dice = np.random.default_rng(0)
    shares = [0.4, 0.3, 0.2, 0.1]
    above = 0
    for _ in range(1000):
        before, now = dice.multinomial(20_000, shares).tolist(), dice.multinomial(200, shares).tolist()
        above += stability_index(before, now) > chance_index(before, now)
    assert above <= 6  # 1 in 1000 is expected
    assert chance_index([1000] * 4, [1000] * 4) == pytest.approx(16.27 * 2 / 4000, rel=0.02)  # chi2(3) at 99.9 %


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    root = tmp_path_factory.mktemp("store")
    build(root)
    return Store(str(root))


def test_a_profile_counts_every_row_once(store: Store) -> None:
    found = profile_store(store, NOTHING)
    rows = store.read(["text", "probs", "score"])
    assert found["names"] == NAMES
    assert found["all"]["rows"] == found["unseen"]["rows"] == found["new_rows"] == len(rows) == 8
    top = np.array(rows["probs"].to_pylist()).argmax(axis=1)
    assert found["all"]["classes"] == np.bincount(top, minlength=3).tolist()
    for name in ("confidence", "lengths"):
        assert sum(found["all"][name]) == 8
    assert found["all"]["characters"] == sum(map(len, rows["text"].to_pylist()))
    assert found["all"]["words"]["text"] == 8
    assert found["all"]["tokens"] == 8 * 5  # "text of id-0-0"


def test_unseen_rows_are_those_that_production_was_not_distilled_from_whoever_labelled_them(
    store: Store, tmp_path: Path
) -> None:
    ids = ["id-0-0", "id-1-3", "id-1-1"]
    build(tmp_path, [labelled([*ids, "x"], seed=7), labelled(["y", "z"], seed=8)])
    learned = LearnedRows.of("0001-one", str(tmp_path), profile_store(Store(str(tmp_path)), NOTHING)["digest"])
    found = profile_store(store, learned)
    rows = store.read(["id", "probs"]).to_pylist()
    top = [int(np.argmax(row["probs"])) for row in rows if row["id"] not in ids]
    assert found["unseen"]["classes"] == np.bincount(top, minlength=3).tolist()
    assert (found["unseen"]["rows"], found["all"]["rows"], found["new_rows"], found["all_unseen"]) == (5, 8, 8, None)
    assert {**found["all"], "words": 0} == {**profile_store(store, NOTHING)["all"], "words": 0}


def test_the_digest_is_that_of_the_set_of_texts(store: Store, tmp_path: Path) -> None:
    ids = [[f"id-{u}-{n}" for n in range(4)] for u in range(2)]
    tables = [labelled(list(reversed(ids[1])), seed=7), labelled(ids[0], seed=8)]
    build(tmp_path / "same", tables)
    build(tmp_path / "other", [labelled(ids[0]), labelled([*ids[1][:3], "id-9"])])
    mine, same, other = (
        profile_store(one, NOTHING)["digest"] for one in (store, *(Store(str(tmp_path / n)) for n in ("same", "other")))
    )
    assert mine == same
    assert mine != other


def test_equal_rows_do_not_drift_and_a_page_shows_every_text_escaped(store: Store) -> None:
    found = profile_store(store, NOTHING)
    drift = compare(found, found)
    for side in ("unseen", "all"):
        for what in ("classes", "confidence", "length"):
            assert drift[side][what]["psi"] == pytest.approx(0, abs=1e-9)
        assert drift[side]["vocabulary"]["js"] == pytest.approx(0, abs=1e-9)
        assert drift[side]["vocabulary"]["unknown_share"] == 0
        assert drift[side]["classes"]["told"] == "no class went up or down by 0.1% of the rows"
    drift["unseen"]["vocabulary"]["new_words"] = ["<script>alert(1)</script>"]
    page = drift_page(
        {"against": "0001-<i>", **drift, "previous": {"against": "<u>", **compare(found, found)}}, night="<b>"
    )
    assert not any(tag in page for tag in ("<script>", "<i>", "<u>"))
    assert all(name in page for name in ("&lt;b&gt;", "0001-&lt;i&gt;", "&lt;u&gt;"))


def test_a_page_has_a_section_against_production_and_one_against_the_night_before(store: Store) -> None:
    found = profile_store(store, NOTHING)
    equal = compare(found, found)
    other = compare({**found, "all": {**found["all"], "words": {"garbage": 8}}}, found)
    tables = '<table>\n<thead><tr><th scope="col" class="name">of</th>'

    def page(production: str | None, against: dict[str, Any], previous: dict[str, Any] | None) -> str:
        return drift_page({"against": production, **against, "previous": previous}, night="four")

    both = page("0002-two", equal, {"against": "three", **other})
    assert both.count(tables) == 4
    assert both.index("0002-two") < both.index("<bdi>three</bdi>")
    same = page("0002-two", equal, {"against": "two", **equal})
    assert same.count(tables) == 2
    assert "the same figures as above" in same
    refused = page(None, dict.fromkeys(("unseen", "all", "all_unseen")), {"against": "one", **other})
    assert refused.count(tables) == 2
    assert "Nothing was in production" in refused
    assert "Every row counts as unseen: <bdi>nothing is in production</bdi>." in both
    assert "counts as unseen" not in page("0002-two", {**equal, "all_unseen": None}, None)
    moved = page("0002-two", equal, None)
    assert moved.count(tables) == 2
    assert "No earlier night was found" in moved


def test_new_words_and_longer_texts_are_told(store: Store) -> None:
    before = profile_store(store, NOTHING)
    now = {**before, "all": {**before["all"]}, "unseen": {**before["unseen"]}}
    now["unseen"] |= {"words": {"text": 5, "zzz": 15}, "tokens": 20, "lengths": [0] * 23 + [8], "characters": 8 * 2**24}
    drift = compare(before, now)["unseen"]
    assert drift["vocabulary"]["unknown_share"] == pytest.approx(0.75)
    assert drift["vocabulary"]["new_words"] == ["zzz"]
    assert drift["length"]["js"] == pytest.approx(1)
    assert math.isclose(drift["length"]["mean"], 2**24)
