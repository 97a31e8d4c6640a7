from __future__ import annotations

from dataclasses import FrozenInstanceError, dataclass
from typing import Any

import pytest

from zsd.errors import ConfigError
from zsd.options import Options, command_line, flag, make, nearest, option, shared_options


@dataclass(frozen=True, kw_only=True)
class Sample(Options):
    """For these tests."""

    name: str = option("a name")
    items: tuple[str, ...] = option("some", ())
    count: int | None = option("how many", None)
    share: float = option("how much", 0.5)
    fast: bool | None = option("whether", None)
    kind_of: str = option("which", "a", choices=("a", "b"))
    place: str | None = option("where", None, bare="here")


@dataclass(frozen=True, kw_only=True)
class Larger(Sample):
    """For these tests."""

    more: str = option("more", "m")


def test_a_configuration_hands_on_the_options_that_it_shares_with_another() -> None:
    asked = shared_options(Larger(name="x", count=3, more="n"), Sample)
    assert Sample(**asked) == Sample(name="x", count=3)


def test_the_later_source_wins_and_what_is_no_field_is_left_alone() -> None:
    made = make(Sample, {"name": "x", "count": 1, "share": 1}, {"count": 2, "items": ["p", "q"], "other": object()})
    assert made == Sample(name="x", count=2, share=1.0, items=("p", "q"))
    assert type(made.share) is float
    assert make(Sample, {"name": "x", "items": "one"}).items == ("one",)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "--name is missing: a name"),
        ({"name": 3}, "--name is 3: it must be a text"),
        ({"name": ""}, "--name is empty"),
        ({"name": "x", "items": ["p", ""]}, "--items is empty"),
        ({"name": "x", "items": ["p", 3]}, "--items is .*: it must be a list of texts"),
        ({"name": "x", "count": 1.0}, "--count is 1.0: it must be a whole number"),
        ({"name": "x", "count": True}, "--count is True: it must be a whole number"),
        ({"name": "x", "share": "1"}, "--share is '1': it must be a number"),
        ({"name": "x", "share": True}, "--share is True: it must be a number"),
        ({"name": "x", "share": float("nan")}, "--share is nan: it must be a finite number"),
        ({"name": "x", "share": float("-inf")}, "--share is -inf: it must be a finite number"),
        ({"name": "x", "fast": 1}, "--fast is 1: it must be true or false"),
        ({"name": "x", "kind_of": "c"}, "--kind-of is 'c': use a, b"),
    ],
)
def test_what_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(Sample, given)


def test_an_option_that_may_stand_bare_takes_true_and_false() -> None:
    assert make(Sample, {"name": "x", "place": True}).place == "here"
    assert make(Sample, {"name": "x", "place": "there"}).place == "there"
    assert make(Sample, {"name": "x", "place": True}, {"place": False}).place is None
    with pytest.raises(ConfigError, match="--place is 1: it must be a text"):
        make(Sample, {"name": "x", "place": 1})


def test_checked_when_made_by_hand_frozen_and_named() -> None:
    with pytest.raises(ConfigError, match="use a, b"):
        Sample(name="x", kind_of="c")
    with pytest.raises(TypeError):
        Sample("x")  # type: ignore[call-arg]
    with pytest.raises(FrozenInstanceError):
        Sample(name="x").name = "y"  # type: ignore[misc]


def test_names() -> None:
    assert flag("text_column") == "--text-column"
    assert nearest("temprature", ["template", "temperature"]) == ": did you mean 'temperature'?"
    assert nearest("zzz", ["b", "a"]) == ": known are a, b"
    assert len(nearest("zzz", map(str, range(1000)))) < 50


def test_a_command_line_makes_the_configuration_again() -> None:
    config = Sample(name="two words", items=("p", "q"), share=0.25, fast=False, kind_of="b")
    told = command_line("sample", config)
    assert told == "zsd sample --name 'two words' --items p q --share 0.25 --no-fast --kind-of b"
    assert command_line("sample", Sample(name="x", fast=True)) == "zsd sample --name x --fast"
