from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from zsd.errors import ConfigError, OutputError
from zsd.night import Night, forget_nights, open_plans, other_nights
from zsd.nightly_config import NightlyConfig
from zsd.registry import Registry
from zsd.run_lock import hold
from zsd.shards import read_json


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    file = tmp_path / "corpus.txt"
    file.write_text("one\ntwo\n")
    return file


def config(corpus: Path, **changes: Any) -> NightlyConfig:
    asked = {"data": (str(corpus),), "output": str(corpus.parent / "out"), "label": ("a", "b")}
    return NightlyConfig(**{**asked, **changes})


def night(corpus: Path, arguments: dict[str, Any] | None = None, **changes: Any) -> Night:
    return Night.of(config(corpus, **changes), arguments or {})


def test_a_night_without_a_name_is_named_by_what_is_asked_of_it(corpus: Path) -> None:
    first = night(corpus)
    assert night(corpus).name == first.name
    assert night(corpus, keep=9, mlflow="sqlite:///x.db", cpu_actors=1).name == first.name, "how is not what"
    assert night(corpus, max_rejected=0.5, target_file_rows=9).identity == first.identity, "it can go on with these"
    others = [night(corpus, max_regression=0.5), night(corpus, {"seed": 1}), night(corpus, label=("a", "c"))]
    corpus.write_text("one\ntwo\nthree\n")
    others.append(night(corpus))
    assert len({first.name, *(one.name for one in others)}) == 5
    assert night(corpus, night="monday").name == "monday"


def test_the_recipe_stays_as_the_corpus_grows_and_bounds_move(corpus: Path, tmp_path: Path) -> None:
    before = night(corpus).recipe
    more = tmp_path / "more.txt"
    more.write_text("three\n")
    assert night(corpus, data=(str(corpus), str(more)), max_ece=0.5).recipe == before
    assert night(corpus, temperature=2.0).recipe != before
    assert night(corpus, {"seed": 1}).recipe != before


def test_what_a_night_builds_on_is_decided_once(corpus: Path, tmp_path: Path) -> None:
    asked = config(corpus, night="one")
    registry = Registry(str(tmp_path / "registry"))
    one = Night.of(asked, {})
    plan = one.begin(asked, registry)
    assert plan == {"number": 1, "reuse": [], "start": None, "previous": None}
    _finish(one)
    second = config(corpus, night="two", reuse=(f"{tmp_path}/given/soft_labels/",))
    two = Night.of(second, {})
    with hold(registry.lock_folder, job="one", expiry=60) as lock:
        student = tmp_path / "student"
        student.mkdir()
        made = {"provenance": {"student_asked": None, "store": one.folder}}
        registry.promote(registry.publish(str(student), "one", made, key="one"), lock)
    plan = two.begin(second, registry)
    assert plan == {"number": 2, "reuse": [one.folder, str(tmp_path / "given")], "start": "0001-one", "previous": "one"}
    _finish(two)
    three = config(corpus, night="three", student="layers:1")
    plan_three = Night.of(three, {}).begin(three, registry)
    assert plan_three == {"number": 3, "reuse": [two.folder, one.folder], "start": None, "previous": "two"}
    assert two.begin(second, Registry(str(tmp_path / "elsewhere"))) == plan, "a rerun builds on what it built on"
    four = config(corpus, night="four", from_scratch=True)
    assert Night.of(four, {}).begin(four, registry)["start"] is None


def test_the_previous_night_is_the_latest_finished_one_and_stays_it(corpus: Path) -> None:
    registry = Registry(str(corpus.parent / "registry"))

    def begin(name: str) -> tuple[Night, Any]:
        asked = config(corpus, night=name)
        begun = Night.of(asked, {})
        return begun, begun.begin(asked, registry)["previous"]

    one, previous = begin("one")
    assert previous is None
    _finish(one)
    two, previous = begin("two")
    assert previous == "one"
    three, previous = begin("three")
    assert previous == "one", "two is not finished"
    _finish(three)
    four, previous = begin("four")
    assert previous == "three"
    _finish(two)
    forget_nights(str(corpus.parent / "out"), "four", 1, used=set())
    assert not Path(three.folder).exists()
    assert begin("four")[1] == "three", "a rerun has another previous night"
    assert read_json(four.path("previous.json")) == {"of": "three"}
    assert begin("five")[1] is None


def test_a_name_belongs_to_one_night(corpus: Path) -> None:
    asked = config(corpus, night="one")
    one = Night.of(asked, {})
    one.begin(asked, Registry(str(corpus.parent / "registry")))
    _finish(one)
    assert Night.of(asked, {}).result() == {"decision": "promoted"}
    with pytest.raises(OutputError, match=r"different nightly job: max_regression was 0.01, now 0.5"):
        night(corpus, night="one", max_regression=0.5).result()


def test_old_nights_are_forgotten_but_not_what_is_used_or_unfinished(corpus: Path) -> None:
    registry = Registry(str(corpus.parent / "registry"))
    output = str(corpus.parent / "out")
    made = []
    for name in "abcdef":
        asked = config(corpus, night=name)
        made.append(Night.of(asked, {}))
        made[-1].begin(asked, registry)
        if name not in "cf":
            _finish(made[-1])
    (third,) = open_plans(output, "f")
    assert third["reuse"] == [made[1].folder], "c builds on b"
    gone = forget_nights(output, "f", 2, used={made[0].folder})
    assert gone == [made[1].folder, made[3].folder]
    assert [Path(folder).name for _, folder in other_nights(output, "f")] == ["a", "c", "e"]


@pytest.mark.parametrize("name", ["../x", "a/b", ".hidden", "x" * 65, "a b"])
def test_a_name_is_no_path(corpus: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="--night is "):
        config(corpus, night=name)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"students": ("a", "b")}, "one student into production"),
        ({"max_regression": 1.5}, "--max-regression is 1.5"),
        ({"keep": 0}, "--keep is 0"),
        ({"lock_expiry": 1.0}, "--lock-expiry is 1"),
        ({"max_balance_drift": -1.0}, "--max-balance-drift is -1.0"),
    ],
)
def test_options_that_make_no_sense_are_refused(corpus: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config(corpus, **changes)


def _finish(one: Night) -> None:
    one.write("manifest.json", {})
    one.write("profile.json", {"of": one.name})
    one.write("night.json", {"decision": "promoted"})
