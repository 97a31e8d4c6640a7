"""How a frozen dataclass becomes options: each field a TOML key and a command-line flag, typed, checked when made."""

from __future__ import annotations

import difflib
import math
import shlex
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, TypeVar

from zsd.errors import ConfigError
from zsd.redaction import refuse_secrets

T = TypeVar("T", bound="Options")
MOST_LISTED = 40
TYPE_NAMES = {str: "a text", int: "a whole number", float: "a number", bool: "true or false", tuple: "a list of texts"}


def option(help_text: str, default: Any = MISSING, **metadata: Any) -> Any:
    """A dataclass field that is also a command-line flag and a TOML key.

    Args:
        help_text: what ``--help`` says.
        default: left away: the option is required.
        metadata: ``choices`` (a tuple), ``metavar``, ``repeat`` (a list given as one flag an item), ``bare`` (what the
            flag without a value means, and ``true`` in a job file; ``false`` there is the default).
    """
    return field(default=default, metadata={"help": help_text, **metadata})


def flag(name: str) -> str:
    """The command-line flag of a field: ``text_column`` to ``--text-column``."""
    return f"--{name.replace('_', '-')}"


def command_line(command: str, config: Options) -> str:
    """The shell command that makes a configuration; what is at its default is left away."""
    words = ["zsd", command]
    for one in fields(config):
        value, name = getattr(config, one.name), flag(one.name)
        if value == one.default:
            continue
        if isinstance(value, bool):
            words.append(name if value else name.replace("--", "--no-", 1))
        elif one.metadata.get("repeat"):
            words += [word for item in value for word in (name, item)]
        else:
            words += [name, *(value if isinstance(value, tuple) else [str(value)])]
    return shlex.join(words)


def shared_options(config: Options, cls: type[Any]) -> dict[str, Any]:
    """Values, by name, of a configuration for the fields of another dataclass, all of which it has too."""
    return {one.name: getattr(config, one.name) for one in fields(cls)}


@dataclass(frozen=True, kw_only=True)
class Options:
    """Base of all configurations: no text is empty or holds a secret, numbers are finite, choices kept.

    Raises:
        ConfigError: one of these does not hold.
    """

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            for item in value if isinstance(value, tuple) else (value,):
                self._check(item != "", one.name, "empty: give a value, or leave the flag away")
                if isinstance(item, str):
                    refuse_secrets(item, flag(one.name))
                number = isinstance(item, float)
                self._check(not number or math.isfinite(item), one.name, f"{item}: it must be a finite number")
            choices = one.metadata.get("choices")
            fits = choices is None or value is None or value in choices
            self._check(fits, one.name, f"{value!r}: use {', '.join(choices or ())}")

    def _check(self, holds: bool, name: str, told: str) -> None:
        self._refuse(name, None if holds else told)

    def _refuse(self, name: str, told: str | None) -> None:
        if told is not None:
            raise ConfigError(f"{flag(name)} is {told}")

    def _at_least(self, least: int, *names: str) -> None:
        for name in names:
            value = getattr(self, name)
            self._check(value is None or value >= least, name, f"{value}: it must be {least} or more")


def value_type(hint: Any) -> Any:
    """What a field holds when it is not None: ``str``, ``int``, ``float``, ``bool`` or ``tuple``."""
    if isinstance(hint, types.UnionType):
        hint = next(arm for arm in typing.get_args(hint) if arm is not types.NoneType)
    return typing.get_origin(hint) or hint


def make(cls: type[T], *sources: Mapping[str, Any]) -> T:
    """A configuration from several mappings; the later one wins, keys that are no fields are left alone.

    Raises:
        ConfigError: a value is missing, of the wrong type, or refused by the configuration itself.
    """
    hints = typing.get_type_hints(cls)
    merged = {name: value for source in sources for name, value in source.items() if name in hints}
    for one in fields(cls):
        if "bare" in one.metadata and isinstance(merged.get(one.name), bool):
            asked = merged.pop(one.name)
            merged |= {one.name: one.metadata["bare"]} if asked else {}
        if one.name not in merged and _required(one):
            raise ConfigError(f"{flag(one.name)} is missing: {one.metadata['help']}")
    return cls(**{name: _typed(name, value, value_type(hints[name])) for name, value in merged.items()})


def _required(one: Field[Any]) -> bool:
    return one.default is MISSING and one.default_factory is MISSING


def _typed(name: str, value: Any, wanted: type) -> Any:
    if wanted is tuple:
        items = [value] if isinstance(value, str) else value
        if isinstance(items, list | tuple) and all(isinstance(item, str) for item in items):
            return tuple(items)
    elif wanted is float and type(value) is int:
        return float(value)
    elif type(value) is wanted:
        return value
    raise ConfigError(f"{flag(name)} is {value!r}: it must be {TYPE_NAMES[wanted]}")


def nearest(word: str, known: Iterable[str]) -> str:
    """``: did you mean 'x'?``, or the list of what is known."""
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=1)
    if close:
        return f": did you mean {close[0]!r}?"
    return f": known are {', '.join(known)}" if len(known) <= MOST_LISTED else ": --help lists what is known"
