from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from zsd.errors import ConfigError, InputError, LockError, StoreError
from zsd.nightly_config import RollbackConfig
from zsd.registry import Registry
from zsd.rollback import rollback
from zsd.run_lock import hold


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(str(tmp_path / "registry"))


@pytest.fixture
def student(tmp_path: Path) -> str:
    folder = tmp_path / "night" / "student"
    (folder / "deeper").mkdir(parents=True)
    for name in ("config.json", "model.safetensors", "zsd.json", "deeper/file"):
        (folder / name).write_text(name)
    return str(folder)


def promote(registry: Registry, student: str, *nights: str) -> list[str]:
    versions = []
    for night in nights:
        with hold(registry.lock_folder, job=night, expiry=60) as lock:
            versions.append(
                registry.publish(student, night, {"metrics": {"score": 0.5}, "provenance": {"night": night}}, key=night)
            )
            registry.promote(versions[-1], lock)
            registry.record("promoted", night=night, version=versions[-1], metrics={"score": 0.5})
    return versions


def current(registry: Registry) -> str:
    pointer = registry.current()
    assert pointer is not None
    assert (Path(registry.uri) / "current").resolve().name == pointer.version, "the link does not follow the pointer"
    return pointer.version


def back(registry: Registry, **options: Any) -> dict[str, Any]:
    return rollback(RollbackConfig(registry=registry.uri, **options))


def test_a_version_is_the_student_and_what_is_known_of_it(registry: Registry, student: str) -> None:
    (version,) = promote(registry, student, "monday")
    assert version == "0001-monday"
    assert current(registry) == version
    folder = Path(registry.student(version))
    assert {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()} == {
        *("config.json", "model.safetensors", "zsd.json", "deeper/file")
    }
    assert registry.document(version, "metrics") == {"score": 0.5}
    assert registry.publish(student, "monday", {}, key="monday") == version, "a night is published once"
    assert registry.versions() == [version]


def test_what_is_published_is_not_in_production_until_it_is_promoted(registry: Registry, student: str) -> None:
    promote(registry, student, "monday")
    version = registry.publish(student, "tuesday", {}, key="tuesday")
    assert current(registry) == "0001-monday"
    with hold(registry.lock_folder, job="tuesday", expiry=60) as lock:
        registry.promote(version, lock)
    assert current(registry) == version


def test_a_half_written_version_is_none_and_is_cleaned_up_visibly(
    registry: Registry, student: str, capsys: pytest.CaptureFixture[str]
) -> None:
    promote(registry, student, "monday")
    half = Path(registry.uri) / "versions" / "0002-tuesday"
    (half / "student").mkdir(parents=True)
    (half / "student" / "config.json").write_text("{")
    assert registry.versions() == ["0001-monday"]
    with pytest.raises(ConfigError, match="no such version"):
        back(registry, to="tuesday")
    capsys.readouterr()
    registry.clean()
    assert "0002-tuesday was never finished" in capsys.readouterr().err
    assert not half.exists()
    assert promote(registry, student, "tuesday") == ["0002-tuesday"]


def test_rollback_goes_back_step_by_step_and_to_any_version(registry: Registry, student: str) -> None:
    promote(registry, student, "a", "b", "c")
    result = back(registry)
    assert (result["version"], result["was"]) == ("0002-b", "0003-c")
    assert result["student"] == registry.student("0002-b")
    assert back(registry)["version"] == "0001-a"
    with pytest.raises(ConfigError, match="no version was in production before 0001-a"):
        back(registry)
    for asked in ("0003-c", "3", "c"):
        assert back(registry, to=asked)["version"] == "0003-c"
        assert back(registry)["version"] == "0001-a"
    with pytest.raises(ConfigError, match=r"--to 9: no such version .* it has 0001-a, 0002-b, 0003-c"):
        back(registry, to="9")
    events = [(line["event"], line["version"]) for line in registry.changelog()]
    assert events[:4] == [
        *(("promoted", f"000{n}-{night}") for n, night in enumerate("abc", 1)),
        ("rolled back", "0002-b"),
    ]


def test_a_number_that_is_also_the_name_of_a_night_is_not_guessed_at(registry: Registry, student: str) -> None:
    promote(registry, student, "a", "b", "1")
    with pytest.raises(ConfigError, match="--to 1: may be 0001-a or 0003-1: give the whole name"):
        back(registry, to="1")
    assert back(registry, to="0001-a")["version"] == "0001-a"


@pytest.mark.parametrize("content", ["{}", '{"version": "0001-a"}', '{"version": "0001-a", "before": 3}'])
def test_a_pointer_that_somebody_has_damaged_is_one_line(registry: Registry, content: str) -> None:
    Path(registry.uri).mkdir(parents=True)
    (Path(registry.uri) / "current.json").write_text(content)
    with pytest.raises(StoreError, match=r"current\.json: does not hold version, before"):
        registry.current()


@pytest.mark.parametrize("line", ["{", "3", '{"version": "0001-a"}', "\xff"])
def test_a_damaged_line_of_the_changelog_is_named(registry: Registry, student: str, line: str) -> None:
    promote(registry, student, "a", "b")
    with (Path(registry.uri) / "changelog.jsonl").open("a", encoding="latin-1") as file:
        file.write(line + "\n")
    with pytest.raises(StoreError, match=r"changelog\.jsonl: line 3 is damaged"):
        back(registry)
    current = registry.current()
    assert current is not None
    assert current.version == "0002-b"


@pytest.mark.parametrize("dies", ["_link", "record"])
@pytest.mark.parametrize(("start", "to", "left"), [("c", None, "b"), ("c", "a", "a"), ("a", "c", "c")])
def test_a_rollback_that_dies_is_finished_by_the_same_command(
    registry: Registry, student: str, monkeypatch: pytest.MonkeyPatch, dies: str, start: str, to: str | None, left: str
) -> None:
    promote(registry, student, "a", "b", "c")
    back(registry, to=start)
    working = getattr(Registry, dies)

    def die(*given: Any, **named: Any) -> None:
        if named.get("version", given[1])[-1] == left:
            raise KeyboardInterrupt
        working(*given, **named)

    with monkeypatch.context() as patch:
        patch.setattr(Registry, dies, die)
        with pytest.raises(KeyboardInterrupt):
            back(registry, to=to)
    pointer = registry.current()
    assert pointer is not None
    assert pointer.version[-1] == left, "it died too early"
    result = back(registry, to=to)
    assert (result["version"][-1], result["was"][-1], current(registry)[-1]) == (left, start, left)
    line = registry.changelog()[-1]
    assert (line["event"], line["version"][-1], line["was"][-1]) == ("rolled back", left, start)
    before = len(registry.changelog())
    assert back(registry, to=left)["version"][-1] == left
    assert len(registry.changelog()) == before, "recorded twice"


def test_a_rollback_after_a_promotion_that_died_goes_back_from_it(registry: Registry, student: str) -> None:
    promote(registry, student, "a")
    version = registry.publish(student, "b", {}, key="b")
    with hold(registry.lock_folder, job="b", expiry=60) as lock:
        registry.promote(version, lock)  # and dies before it records that
    assert back(registry)["version"] == current(registry) == "0001-a"


def test_every_command_leads_the_link_back_to_what_is_in_production(registry: Registry, student: str) -> None:
    promote(registry, student, "a", "b")
    link = Path(registry.uri) / "current"
    for put_right in (registry.clean, lambda: back(registry, to="b")):
        link.unlink()
        link.symlink_to("versions/0001-a")
        put_right()
        assert current(registry) == "0002-b"


def test_what_was_rolled_back_is_not_where_the_next_rollback_leads(registry: Registry, student: str) -> None:
    promote(registry, student, "a", "b")
    back(registry)
    promote(registry, student, "c")
    assert back(registry)["version"] == "0001-a"


def test_a_rollback_needs_something_to_roll_back_and_the_lock(registry: Registry, student: str) -> None:
    with pytest.raises(InputError, match="nothing is in production"):
        back(registry)
    assert not Path(registry.uri).exists()
    promote(registry, student, "a", "b")
    with hold(registry.lock_folder, job="night c", expiry=60), pytest.raises(LockError, match="night c on"):
        back(registry)
    assert current(registry) == "0002-b"


def test_a_rollback_tells_what_was_in_production_when_it_got_the_lock(
    registry: Registry, student: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    promote(registry, student, "a", "b")

    def hold_late(*args: Any, **options: Any) -> Any:
        promote(registry, student, "c")
        return hold(*args, **options)

    monkeypatch.setattr("zsd.rollback.hold", hold_late)
    assert (back(registry)["was"], current(registry)) == ("0003-c", "0002-b")
    assert registry.changelog()[-1]["was"] == "0003-c"


def test_a_run_that_was_overtaken_promotes_nothing(registry: Registry, student: str) -> None:
    promote(registry, student, "a")
    late = registry.publish(student, "late", {}, key="late")
    with hold(registry.lock_folder, job="late", expiry=60) as lock:
        ticket = Path(registry.lock_folder) / f"{lock.token:08d}.json"
        ticket.write_text(json.dumps(json.loads(ticket.read_text()) | {"expiry": -2.0}))
        promote(registry, student, "b")
        with pytest.raises(LockError, match="took the lock over"):
            registry.promote(late, lock)
        ticket.with_name(f"{lock.token + 1:08d}.json").unlink()  # even if nothing tells of the other run but its token
        with pytest.raises(LockError, match="a later run"):
            registry.promote(late, lock)
    assert registry.versions()[-1] == current(registry) == "0003-b"


@pytest.mark.parametrize(("keep", "left"), [(1, "cde"), (2, "cde"), (4, "bcde"), (9, "abcde")])
def test_retention_never_takes_what_is_in_production_or_was_before_it(
    registry: Registry, student: str, keep: int, left: str
) -> None:
    promote(registry, student, *"abcde")
    back(registry)  # d, and c before it
    gone = registry.retain(keep)
    assert "".join(name[-1] for name in registry.versions()) == left
    assert {name[-1] for name in gone} == set("abcde") - set(left)
    assert not any((Path(registry.uri) / "versions" / name).exists() for name in gone)
    assert back(registry)["version"] == "0003-c"


def test_retention_never_takes_what_is_in_use(registry: Registry, student: str) -> None:
    promote(registry, student, *"abcde")
    assert registry.retain(1, {"0002-b", None}) == ["0001-a", "0003-c"]
    assert registry.versions() == ["0002-b", "0004-d", "0005-e"]


def test_numbers_are_not_used_again_when_the_newest_versions_are_gone(registry: Registry, student: str) -> None:
    promote(registry, student, "a", "b", "c")
    back(registry, to="a")
    registry.retain(1)
    for name in registry.versions()[1:]:
        for file in (Path(registry.uri) / "versions" / name).glob("version.json"):
            file.unlink()
    registry.clean()
    assert promote(registry, student, "d") == ["0004-d"]


def test_the_changelog_is_lines_and_a_table_that_no_text_can_break(registry: Registry, student: str) -> None:
    promote(registry, student, "a")
    registry.record("refused", night="b", version=None, metrics={"score": 0.25}, reason="F1 of 'x | <b>y' fell\nbelow")
    lines = registry.changelog()
    assert [line["event"] for line in lines] == ["promoted", "refused"]
    page = (Path(registry.uri) / "CHANGELOG.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("|")]
    assert len(rows) == 4
    assert "refused" in rows[2]
    assert "x \\| &lt;b>y' fell below" in rows[2]
