from __future__ import annotations

from pathlib import Path

import pytest

from zsd.cache import cache_directory, cached_file, new_directory


def test_the_place_is_chosen_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZSD_CACHE", "/somewhere/else")
    assert cache_directory() == Path("/somewhere/else")
    monkeypatch.delenv("ZSD_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_directory() == Path("/xdg/zsd")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_directory() == Path.home() / ".cache" / "zsd"


def test_a_directory_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    final = tmp_path / "a" / "b"
    with pytest.raises(RuntimeError), new_directory(final) as scratch:
        (scratch / "half").write_text("x")
        raise RuntimeError
    assert list(final.parent.iterdir()) == []
    with new_directory(final) as scratch:
        (scratch / "whole").write_text("x")
        assert not final.exists()
    assert [path.name for path in final.iterdir()] == ["whole"]
    assert list(final.parent.iterdir()) == [final]


def test_the_first_to_finish_wins(tmp_path: Path) -> None:
    final = tmp_path / "made"
    with new_directory(final) as late:
        (late / "by").write_text("late")
        with new_directory(final) as early:
            (early / "by").write_text("early")
    assert (final / "by").read_text() == "early"
    assert list(tmp_path.iterdir()) == [final]


def test_a_file_is_made_once_for_all_that_it_follows_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZSD_CACHE", str(tmp_path))
    made: list[Path] = []

    def make(file: Path) -> None:
        file.write_text(str(len(made)))
        made.append(file)

    first = cached_file("kind", "a.txt", "teacher", 1, make=make)
    assert first == cached_file("kind", "a.txt", "teacher", 1, make=make)
    assert cached_file("kind", "a.txt", "teacher", 2, make=make) != first
    assert cached_file("kind", "a.txt", "teacher1", make=make) != first
    assert (len(made), first.read_text(), first.parents[1]) == (3, "0", tmp_path / "kind")
