"""A process of its own: its answers, its errors and its death reach the one who asked."""

import os
from typing import Any

import pytest

from zsd.benchmark.contestants import make_contestant
from zsd.benchmark.remote import COMMON, Answer, Remote
from zsd.errors import EngineError, TeacherError


def make_adder(start: int) -> tuple[int, Answer]:
    if start < 0:
        raise EngineError("cannot count from below")

    def answer(question: Any) -> Any:
        if question == "die":
            os._exit(3)
        if question == "refuse":
            raise TeacherError("no")
        return start + question

    return os.getpid(), answer


def test_what_is_imported_once_for_all_is_there() -> None:
    assert make_contestant.__module__ == COMMON, "the server that forks passes over a module that it does not find"


def test_answers_come_from_another_process() -> None:
    remote = Remote("adder", make_adder, 5)
    try:
        assert remote.loaded != os.getpid()
        assert [remote.ask(n) for n in (1, 2)] == [6, 7]
    finally:
        remote.close()


def test_what_it_raises_is_raised_here() -> None:
    with pytest.raises(EngineError, match="from below"):
        Remote("adder", make_adder, -1)
    remote = Remote("adder", make_adder, 5)
    try:
        with pytest.raises(TeacherError, match="no"):
            remote.ask("refuse")
    finally:
        remote.close()


def test_its_death_is_an_error_that_names_it() -> None:
    remote = Remote("adder", make_adder, 5)
    try:
        with pytest.raises(EngineError, match=r"adder: its process died \(exit code 3\)"):
            remote.ask("die")
        with pytest.raises(EngineError, match="adder: its process died"):
            remote.ask(1)
    finally:
        remote.close()
