"""Every flag of transformers `TrainingArguments`, from the command line and from a job file's ``[training]`` table."""

from __future__ import annotations

import argparse
import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from transformers import HfArgumentParser, TrainingArguments

from zsd.config import nearest
from zsd.errors import ConfigError


def parse_training_flags(
    flags: Sequence[str], table: Mapping[str, Any], *, own_flags: Sequence[str] = ()
) -> dict[str, Any]:
    """The arguments that were really given, by name and typed; flags win over the table.

    Raises:
        ConfigError: a flag or key does not exist (the nearest one is named), has a wrong value, or is zsd's to set.
    """
    known = {one.name for one in fields(TrainingArguments) if one.init}
    for key in table:
        if key not in known:
            raise ConfigError(f"unknown key {key!r} in [training]{nearest(key, known)}")
    given = dict(table) | _parse(flags, own_flags)
    if "output_dir" in given:
        raise ConfigError("--output_dir is set by zsd: use --output")
    return given


def _parse(flags: Sequence[str], own_flags: Sequence[str]) -> dict[str, Any]:
    parser = HfArgumentParser(TrainingArguments, allow_abbrev=False, add_help=False)
    for action in parser._actions:
        # What was not given must stay away, so that zsd's own defaults hold.
        action.default = argparse.SUPPRESS
        action.required = False
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            parsed, unknown = parser.parse_known_args(list(flags))
    except SystemExit:
        message = errors.getvalue().strip().splitlines()[-1].partition("error: ")[2]
        raise ConfigError(f"a training flag is wrong: {message}") from None
    if unknown:
        names = [option for action in parser._actions for option in action.option_strings]
        raise ConfigError(f"unknown argument {unknown[0]!r}{nearest(unknown[0], [*names, *own_flags])}")
    return dict(vars(parsed))
