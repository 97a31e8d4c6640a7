"""The directory that `zsd compile` makes: whole or not at all, once for the same job, and never over something else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from zsd.cache import new_directory
from zsd.compile.card import forms_table
from zsd.compile.checkpoint import RESULT
from zsd.compile.rows import Rows, read_compile_rows
from zsd.compile_config import CompileConfig
from zsd.console import say
from zsd.errors import OutputError
from zsd.machine import available_cpus
from zsd.output import shown
from zsd.storage import first_line

CARD = "README.md"

Fill = Callable[[Path, Rows, int], dict[str, Any]]
"""Makes all that a directory holds, of rows, with so many threads; returns what compile.json holds."""


def compile_into(config: CompileConfig, identity: dict[str, Any], fill: Fill) -> dict[str, Any]:
    """Make ``--output``, or say that it was done; returns what compile.json holds.

    Args:
        config: of the job.
        identity: what makes two runs the same job, as JSON reads it back.
        fill: what it comes to.

    Raises:
        CorpusError: the rows are not what they should be.
        OutputError: the output is something else's, or cannot be made.
    """
    output = Path(config.output)
    before = _finished(output, identity)
    if before is not None:
        say(f"compile: {output} is done already")
        return before
    rows = read_compile_rows(config)
    threads = available_cpus()
    torch.set_num_threads(threads)
    try:
        with new_directory(output.resolve()) as scratch:
            figures = fill(scratch, rows, threads)
    except OSError as error:
        raise OutputError(f"{output}: cannot be made: {first_line(error)}: choose another --output") from None
    print(forms_table(figures))
    if (output / CARD).is_file():
        print(f"\ncard: {output / CARD}")
    return figures


def _finished(output: Path, identity: dict[str, Any]) -> dict[str, Any] | None:
    """The figures of the same job, done before; None where nothing is there.

    Raises:
        OutputError: something else is there.
    """
    if output.is_file():
        raise OutputError(f"{output} is a file: --output must be a new directory")
    if not output.is_dir() or not any(output.iterdir()):
        return None
    try:
        figures: dict[str, Any] = json.loads((output / RESULT).read_text(encoding="utf-8"))
        before = figures["job"]
    except (OSError, ValueError, KeyError):
        raise OutputError(f"{output} is not empty and zsd compile did not make it: choose a new --output") from None
    differing = [key for key in {**identity, **before} if before.get(key) != identity.get(key)]
    if not differing:
        return figures
    told = "; ".join(f"{key} was {shown(before.get(key))}, now {shown(identity.get(key))}" for key in differing)
    raise OutputError(f"{output} was compiled differently: {told}: choose a new --output")
