"""What `zsd nightly` does around labelling and training, which are stood in for here: no cluster, no model."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.unit.store import build, labelled
from zsd.config import DistillConfig, LabelConfig
from zsd.distributed import nightly as steps
from zsd.errors import CorpusError, InputError, LockError, OutputError, StoreError
from zsd.gold import GoldRows
from zsd.night import Night
from zsd.nightly_config import NightlyConfig
from zsd.registry import Registry
from zsd.run_lock import hold
from zsd.shards import read_json, write_json


@dataclass
class Stand:
    """A place for nights whose students are as good as one says."""

    folder: Path
    accuracy: float = 0.8
    asked: list[tuple[str, Any]] = field(default_factory=list)

    def label(self, config: LabelConfig) -> dict[str, Any]:
        self.asked.append(("label", config))
        rows = Path(config.data[0]).read_text().split()
        build(Path(config.output), [labelled(rows[:4]), labelled(rows[4:], seed=2)])
        manifest = read_json(f"{config.output}/manifest.json") | {"teacher_fingerprint": "t"}
        write_json(f"{config.output}/manifest.json", manifest)
        return manifest

    def distill(self, config: DistillConfig, arguments: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(("distill", config))
        student = Path(config.output) / "student"
        student.mkdir(exist_ok=True)
        (student / "config.json").write_text("{}")
        (student / "accuracy").write_text(str(self.accuracy))
        write_json(str(student / "zsd.json"), {})
        return {}

    def judge(self, folder: str, rows: GoldRows, names: tuple[str, ...]) -> dict[str, Any]:
        accuracy = float((Path(folder) / "accuracy").read_text())
        per_class = {name: {"f1": accuracy, "support": 50} for name in names}
        return {"rows": 150, "accuracy": accuracy, "per_class": per_class, "expected_calibration_error": 0.05}

    def run(self, night: str | None, rows: str = "abcdefgh", **options: Any) -> dict[str, Any]:
        corpus = self.folder / f"{rows}.txt"
        if not corpus.exists():
            corpus.write_text(" ".join(rows))
        return steps.nightly(
            NightlyConfig(data=(str(corpus),), output=str(self.folder), label=("a", "b", "c"), night=night, **options),
            {"seed": 1},
        )

    @property
    def registry(self) -> Registry:
        return Registry(str(self.folder / "registry"))

    def events(self) -> list[str]:
        return [line["event"] for line in self.registry.changelog()]

    def jobs(self) -> list[str]:
        return [job for job, _ in self.asked]


@pytest.fixture
def stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stand:
    made = Stand(tmp_path)
    monkeypatch.setattr(steps, "label", made.label)
    monkeypatch.setattr(steps, "distill", made.distill)
    monkeypatch.setattr(steps, "judge_student", made.judge)
    monkeypatch.setattr(steps, "gate_rows", lambda *_: GoldRows(texts=[], gold=None))
    return made


def test_nights_build_on_those_before(stand: Stand) -> None:
    first = stand.run("one")
    assert (first["decision"], first["version"], first["start"], first["drift"]) == ("promoted", "0001-one", None, None)
    second = stand.run("two", "abcdefgi")
    assert (second["decision"], second["version"], second["start"]) == ("promoted", "0002-two", "0001-one")
    assert second["drift"]["against"] == "0001-one"
    (_, labelling), (_, training) = stand.asked[2:]
    assert labelling.reuse == (str(stand.folder / "nights" / "one"),)
    assert training.student == stand.registry.student("0001-one")
    third = stand.run("three", "abcdefgj", from_scratch=True)
    assert third["start"] is None
    assert stand.asked[-1][1].student is None
    assert stand.events() == ["promoted"] * 3


def test_a_worse_student_stays_out_and_the_same_question_gets_the_same_answer(stand: Stand) -> None:
    stand.run("one")
    stand.accuracy = 0.7
    result = stand.run("two", "abcdefgi")
    assert (result["decision"], result["version"], result["production"]) == ("refused", None, "0001-one")
    assert result["reason"].startswith("accuracy 0.7000 is 0.1000 below the 0.8000 of production")
    stand.accuracy = 0.9
    assert stand.run("two", "abcdefgi") == result
    assert stand.events() == ["promoted", "refused"]
    assert stand.run("three", "abcdefgi", max_regression=0.5)["decision"] == "promoted"


@pytest.mark.parametrize("where", ["label", "distill", "judge_student", "promote", "record", "retain", "write"])
def test_a_night_that_dies_anywhere_goes_on_and_promotes_once(
    stand: Stand, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand.run("one")
    with monkeypatch.context() as patch:
        place: Any = steps if hasattr(steps, where) else Registry if hasattr(Registry, where) else Night
        working = getattr(place, where)

        def die(*given: Any, **named: Any) -> Any:
            if where == "write" and given[1] != "night.json":
                return working(*given, **named)
            raise StoreError("the storage failed")

        patch.setattr(place, where, die)
        with pytest.raises(StoreError, match="the storage failed"):
            stand.run("two", "abcdefgi")
    result = stand.run("two", "abcdefgi")
    assert (result["decision"], result["version"]) == ("promoted", "0002-two")
    assert result["metrics"]["production"]["accuracy"] == 0.8
    assert result["drift"]["against"] == "0001-one", "compared with itself"
    assert stand.events() == ["promoted", "promoted"]
    assert stand.registry.versions() == ["0001-one", "0002-two"]


def test_a_night_after_a_refused_one_differs_from_that_and_not_from_production(stand: Stand) -> None:
    stand.run("one")
    stand.accuracy = 0.5
    bad = stand.run("two", "stuvwxyz")
    assert (bad["decision"], bad["drift"]["against"], bad["drift"]["previous"]["against"]) == (
        "refused",
        "0001-one",
        "one",
    )
    good = stand.run("three", "hgfedcba")
    drift = good["drift"]
    assert (good["decision"], drift["against"], drift["previous"]["against"]) == ("unchanged", "0001-one", "two")
    assert drift["all"]["vocabulary"]["unknown_share"] == pytest.approx(0)
    assert drift["previous"]["all"]["vocabulary"]["unknown_share"] > 0.1
    again = stand.run("four", "stuvwxyz")
    assert again["drift"]["previous"]["against"] == "three"
    assert again["gate"]["checks"][-1] == bad["gate"]["checks"][-1], "judged against another night than production's"
    folder = stand.folder / "nights" / "three"
    assert read_json(str(folder / "drift.json")) == drift
    page = (folder / "drift.html").read_text()
    assert page.index("0001-one") < page.index("<bdi>two</bdi>")


def test_where_nothing_is_in_production_nights_are_compared_all_the_same(stand: Stand) -> None:
    assert stand.run("one", min_score=0.9)["drift"] is None
    second = stand.run("two", "abcdefgi", min_score=0.9)
    assert (second["decision"], second["drift"]["against"], second["drift"]["unseen"]) == ("refused", None, None)
    assert second["drift"]["previous"]["against"] == "one"
    assert "is not judged" in second["gate"]["checks"][-1]["told"]


def test_a_rerun_finds_the_night_before_though_it_was_forgotten(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    stand.run("one")
    stand.accuracy = 0.5
    stand.run("two", "stuvwxyz")
    _die_in_labelling(stand, monkeypatch, "three", "abcdefgi")
    stand.run("four", "abcdefgj", keep=1)
    shutil.rmtree(stand.folder / "nights" / "two")
    drift = stand.run("three", "abcdefgi")["drift"]
    assert drift["previous"]["against"] == "two"
    assert drift["previous"]["all"]["vocabulary"]["unknown_share"] > 0.1


def test_what_an_unfinished_night_builds_on_is_kept(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    stand.run("one")
    _die_in_labelling(stand, monkeypatch, "two", "abcdefgi")
    for night, rows in (("three", "abcdefgj"), ("four", "abcdefgk"), ("five", "abcdefgl")):
        assert stand.run(night, rows, keep=1)["decision"] == "promoted"
    assert "0001-one" in stand.registry.versions() and "0002-three" not in stand.registry.versions()
    assert not (stand.folder / "nights" / "three").exists()
    assert (stand.folder / "nights" / "one").exists()
    stand.run("two", "abcdefgi")
    job, config = stand.asked[-1]
    assert (job, config.student) == ("distill", stand.registry.student("0001-one"))


def test_a_student_to_start_from_that_is_gone_is_told(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    stand.run("one")
    _die_in_labelling(stand, monkeypatch, "two", "abcdefgi")
    for night, rows in (("three", "abcdefgj"), ("four", "abcdefgk")):
        stand.run(night, rows)
    stand.registry.retain(1)
    with pytest.raises(
        StoreError, match=r"0001-one, from which night two was to start, is gone: run another --night, with --reuse"
    ):
        stand.run("two", "abcdefgi")


def test_rows_of_a_refused_night_are_unseen_until_a_night_with_them_is_promoted(stand: Stand) -> None:
    stand.run("one")
    stand.accuracy = 0.5
    assert stand.run("two", "abcdefghstuv")["drift"]["unseen"]["rows"] == 4
    stand.accuracy = 0.9
    third = stand.run("three", "abcdefghstuvw")
    assert (third["decision"], third["drift"]["unseen"]["rows"], third["drift"]["all_unseen"]) == ("promoted", 5, None)
    assert stand.run("four", "abcdefghstuvwx")["drift"]["unseen"]["rows"] == 1


@pytest.mark.parametrize("replaced", [False, True])
def test_where_the_store_of_production_is_gone_every_row_counts_as_unseen(stand: Stand, *, replaced: bool) -> None:
    stand.run("one")
    shutil.rmtree(stand.folder / "nights" / "one")
    told = "there is no store in"
    if replaced:
        stand.accuracy = 0.5
        stand.run("one", "stuvwxyz")
        told = "holds others"
    result = stand.run("two", "abcdefgi")
    assert result["drift"]["unseen"]["rows"] == 8
    assert "the rows of 0001-one are gone" in result["drift"]["all_unseen"]
    balance = result["gate"]["checks"][-1]
    assert balance["value"] is not None
    assert "class balance of all rows" in balance["told"]
    assert told in balance["told"]
    assert "Every row counts as unseen" in (stand.folder / "nights" / "two" / "drift.html").read_text()


def _die(*_: Any) -> None:
    raise StoreError("the storage failed")


def _die_in_labelling(stand: Stand, monkeypatch: pytest.MonkeyPatch, night: str, rows: str) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(steps, "label", _die)
        with pytest.raises(StoreError):
            stand.run(night, rows)


def test_inputs_that_are_put_right_may_have_the_same_name(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    stand.run("one")
    with monkeypatch.context() as patch:
        patch.setattr(steps, "label", _no_row)
        with pytest.raises(CorpusError, match="no row"):
            stand.run("two", "abcdefgi")
    stand.run("three", "abcdefgj", student="linear")
    result = stand.run("two", "abcdefgk", student="linear")
    assert (result["decision"], result["start"]) == ("promoted", "0002-three"), "what was decided for other options"
    with pytest.raises(OutputError, match=r"inputs was .*: choose a new --night"):
        stand.run("two", "abcdefgl", student="linear")


def test_rows_that_are_labelled_keep_the_name(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(steps, "label", lambda config: _no_row(stand.label(config)))
        with pytest.raises(CorpusError):
            stand.run("one")
    with pytest.raises(OutputError, match="belongs to a different nightly job"):
        stand.run("one", "abcdefgi")


def _no_row(*_: Any) -> None:
    raise CorpusError("holds no row")


def test_storage_that_fails_is_one_line(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(steps, "label", full)
    with pytest.raises(StoreError, match="the storage failed: no space left: what is done is kept"):
        stand.run("one")


def test_the_rows_and_recipe_of_production_are_not_trained_on_again(stand: Stand) -> None:
    stand.run("one")
    result = stand.run("two", "hgfedcba")
    assert (result["decision"], result["production"]) == ("unchanged", "0001-one")
    assert stand.jobs() == ["label", "distill", "label"]
    assert stand.run("three", "hgfedcba", temperature=2.0)["decision"] == "promoted", "another recipe"


@pytest.mark.parametrize("option", ["gold", "test"])
def test_reviewed_rows_that_changed_are_trained_with_though_the_corpus_is_the_same(stand: Stand, option: str) -> None:
    one, same, other = (stand.folder / f"{name}.csv" for name in ("one", "same", "other"))
    for file, answer in ((one, "a"), (same, "a"), (other, "b")):
        file.write_text(f"text,label\nsome text,{answer}\n")
    reviewed: dict[str, Any] = {option: (str(one),)}
    assert stand.run("one", **reviewed)["decision"] == "promoted"
    assert stand.run("two", **(reviewed | {option: (str(same),)}))["decision"] == "unchanged", "another name only"
    assert stand.run("three", **(reviewed | {option: (str(other),)}))["decision"] == "promoted"
    assert stand.run("four")["decision"] == "promoted", "without them"
    other.write_text("text,label\nsome text,nothing of the kind\n")
    asked = len(stand.asked)
    with pytest.raises(InputError, match="nothing of the kind"):
        stand.run("five", **(reviewed | {option: (str(other),)}))
    assert len(stand.asked) == asked, "labelled before the mistake was found"


def test_a_night_without_a_name_is_known_by_its_inputs(stand: Stand) -> None:
    result = stand.run(None)
    assert stand.run(None) == result
    assert stand.jobs() == ["label", "distill"]
    assert stand.run(None, "abcdefgi")["night"] != result["night"]


def test_the_lock_and_names_keep_nights_apart(stand: Stand) -> None:
    with hold(stand.registry.lock_folder, job="night zero", expiry=60), pytest.raises(LockError, match="night zero on"):
        stand.run("one")
    assert stand.asked == []
    stand.run("one")
    with pytest.raises(OutputError, match="belongs to a different nightly job"):
        stand.run("one", "abcdefgi")


def test_a_run_that_is_overtaken_while_it_trains_promotes_nothing(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand.run("one")

    def slow(config: DistillConfig, arguments: dict[str, Any]) -> dict[str, Any]:
        ticket = stand.folder / "registry" / "lock" / "00000002.json"
        write_json(str(ticket), read_json(str(ticket)) | {"expiry": -2.0})
        with hold(stand.registry.lock_folder, job="rollback", expiry=60):
            pass
        return stand.distill(config, arguments)

    monkeypatch.setattr(steps, "distill", slow)
    with pytest.raises(LockError, match=r"rollback on .* took the lock over"):
        stand.run("two", "abcdefgi")
    assert stand.registry.versions() == ["0001-one"]


def test_old_nights_and_versions_go_but_never_those_in_use(stand: Stand) -> None:
    for number, night in enumerate(("one", "two", "three", "four")):
        stand.run(night, f"abcdefg{'ijkl'[number]}", keep=1)
    assert stand.registry.versions() == ["0003-three", "0004-four"]
    assert sorted(one.name for one in (stand.folder / "nights").iterdir()) == ["four", "three"]
    assert stand.events().count("removed") == 2


def test_a_name_that_comes_again_when_its_night_is_forgotten_is_another_night(stand: Stand) -> None:
    for number, night in enumerate(("monday", "tuesday", "wednesday")):
        stand.run(night, f"abcdefg{'ijk'[number]}", keep=3)
    stand.accuracy = 0.5
    for number, night in enumerate(("thursday", "friday", "saturday")):
        assert stand.run(night, f"abcdefg{'lmn'[number]}", keep=3)["decision"] == "refused"
    assert not (stand.folder / "nights" / "monday").exists()
    stand.accuracy = 0.9
    result = stand.run("monday", "abcdefgo", keep=3)
    assert (result["version"], result["metrics"]["production"]["accuracy"]) == ("0004-monday", 0.8)
    assert (Path(stand.registry.student("0004-monday")) / "accuracy").read_text() == "0.9", "an old student"
    assert stand.events().count("promoted") == 4
