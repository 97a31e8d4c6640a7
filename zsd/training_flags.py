"""Every flag of transformers `TrainingArguments`, from the command line and from a job file's ``[training]`` table.

What was given is checked here, before any work: its type, and whether `TrainingArguments` takes it all together.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import math
import tempfile
import types
import typing
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import fields
from enum import Enum
from typing import Any, NoReturn

from transformers import HfArgumentParser, TrainingArguments
from transformers.integrations import get_reporting_integration_callbacks

from zsd.errors import ConfigError
from zsd.options import nearest
from zsd.quiet import quiet_transformers
from zsd.training import default_training_arguments

OURS = {
    "hub_token": "would be written into the student's card: set HF_TOKEN in the environment",
    "output_dir": "is set by zsd: use --output",
    "resume_from_checkpoint": "is not needed: the same command with the same --output goes on from its last checkpoint",
}
"""What `TrainingArguments` has and zsd decides."""

FSDP = bool | str | list[str] | None
"""Its annotation is narrower than what it takes."""

FILE_OR_DICT = frozenset({"accelerator_config", "deepspeed", "fsdp_config"})
"""Texts that may also be the path of a JSON file."""

HARDWARE = frozenset(
    {"accelerator_config", "bf16", "bf16_full_eval", "ddp_backend", "deepspeed", "fp16", "fp16_full_eval", "fsdp"}
    | {"fsdp_config", "local_rank", "parallelism_config", "tf32", "torch_compile", "use_cpu"}
)
"""What only the machine that trains can judge: its devices, and the libraries that drive them."""


class FlagParser(HfArgumentParser):  # type: ignore[misc]
    """A parser of dataclass flags whose complaints are errors of zsd, without the usage block."""

    def error(self, message: str) -> NoReturn:
        """Raise a `ConfigError` instead of printing the usage and exiting."""
        raise ConfigError(message.removeprefix("argument "))


def parse_training_flags(
    flags: Sequence[str],
    table: Mapping[str, Any],
    *,
    own_flags: Sequence[str] = (),
    defaults: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The arguments that were really given, by name and typed; flags win over the table.

    Args:
        flags: what is left of the command line, ``--learning_rate 3e-5``.
        table: the same by name, from a file.
        own_flags: flags of the command itself, for naming the nearest of an unknown one.
        defaults: what holds where nothing is given, over zsd's own defaults.

    Raises:
        ConfigError: a flag or key does not exist (the nearest one is named), has a wrong value, is zsd's to set, or
            `TrainingArguments` refuses what was given.
    """
    hints = argument_hints()
    for key in table:
        if key not in hints:
            raise ConfigError(f"unknown key {key!r} in [training]{nearest(key, hints)}")
    given = dict(table) | _parse(flags, own_flags)
    for name, told in OURS.items():
        if name in given:
            raise ConfigError(f"--{name} {told}")
    typed = check_types(given, hints)
    _check_together(default_training_arguments(1, use_cpu=True) | dict(defaults or {}) | typed)
    return typed


def argument_hints() -> dict[str, Any]:
    """The fields of `TrainingArguments` that can be given, with their types."""
    hints = typing.get_type_hints(TrainingArguments)
    return {one.name: hints[one.name] for one in fields(TrainingArguments) if one.init} | {"fsdp": FSDP}


def _parse(flags: Sequence[str], own_flags: Sequence[str]) -> dict[str, Any]:
    parser = FlagParser(TrainingArguments, allow_abbrev=False, add_help=False)
    for action in parser._actions:
        # What was not given must stay away, so that zsd's own defaults hold.
        action.default = argparse.SUPPRESS
        action.required = False
        if (typing.get_origin(action.type) or action.type) is dict:
            action.type = str  # read as JSON below
    parsed, unknown = parser.parse_known_args(list(flags))
    if unknown:
        names = [option for action in parser._actions for option in action.option_strings]
        raise ConfigError(f"unknown argument {unknown[0]!r}{nearest(unknown[0], [*names, *own_flags])}")
    return dict(vars(parsed))


def check_types(given: Mapping[str, Any], hints: Mapping[str, Any]) -> dict[str, Any]:
    """Values by name, each of the type that its hint allows: whole numbers as floats, JSON texts as dictionaries.

    Raises:
        ConfigError: a value is of another type, none of the choices, or no JSON object where one is wanted.
    """
    typed = {}
    for name, value in given.items():
        arms = _arms(hints[name])
        if (
            any(_plain(arm) is dict for arm in arms)
            and isinstance(value, str)
            and (value.startswith("{") or name not in FILE_OR_DICT)
        ):
            value = _json_object(name, value)
        choices = [one.value for arm in arms if _is_enum(arm) for one in arm]
        if isinstance(value, str) and choices and value not in choices:
            raise ConfigError(f"--{name} is {value!r}: use {', '.join(choices)}")
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"--{name} is {value}: it must be a finite number")
        if not any(_fits(value, arm) for arm in arms):
            wanted = " or ".join(getattr(arm, "__name__", str(arm)) for arm in arms if arm is not types.NoneType)
            raise ConfigError(f"--{name} is {value!r}: it must be of type {wanted}")
        typed[name] = float(value) if type(value) is int and float in arms and int not in arms else value
    return typed


def _arms(hint: Any) -> tuple[Any, ...]:
    """What a hint allows, one by one."""
    union = isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union
    return typing.get_args(hint) if union else (hint,)


def _plain(arm: Any) -> Any:
    return typing.get_origin(arm) or arm


def _is_enum(arm: Any) -> bool:
    return isinstance(arm, type) and issubclass(arm, Enum)


def _fits(value: Any, arm: Any) -> bool:
    if _plain(arm) is typing.Literal:
        return value in typing.get_args(arm)
    if isinstance(value, bool):
        return arm is bool
    if _is_enum(arm):
        return isinstance(value, str)
    return isinstance(value, (float, int) if arm is float else _plain(arm))


def _json_object(name: str, text: str) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise ConfigError(f"--{name} is {text!r}: it must be a JSON object, as in '{{\"key\": 1}}'")
    return content


def _check_together(arguments: Mapping[str, Any]) -> None:
    portable = {name: value for name, value in arguments.items() if name not in HARDWARE}
    with tempfile.TemporaryDirectory(prefix="zsd-") as folder, quiet_transformers(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with contextlib.redirect_stderr(io.StringIO()):
                args = TrainingArguments(output_dir=folder, use_cpu=True, **portable)
        except (ValueError, TypeError, ImportError) as error:
            raise ConfigError(f"transformers refuses the training arguments: {error}") from None
        check_reports(args)


def check_reports(args: TrainingArguments) -> None:
    """See that what ``--report_to`` names exists and is installed here, as it is on every node (cluster/Dockerfile).

    Raises:
        ConfigError: it is not; transformers' own words say what to install.
    """
    with contextlib.redirect_stderr(io.StringIO()):  # one that is refused complains again as it is thrown away
        refusal = _refusal(args.report_to)
    if refusal is not None:
        raise ConfigError(f"--report_to {' '.join(args.report_to)}: {refusal}")


def _refusal(reports: list[str]) -> str | None:
    try:
        for report in get_reporting_integration_callbacks(reports):
            report()  # the trainer makes one of its own: here it only says whether its library is installed
    except (ValueError, RuntimeError, ImportError) as error:
        return str(error)
    return None
