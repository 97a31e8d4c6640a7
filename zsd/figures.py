"""The figures of a command as JSON, where ``--json`` says."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from zsd.errors import OutputError


def check_json(target: str | None) -> None:
    """A place that cannot be written is found before hours of work, not after."""
    if target in (None, "-"):
        return
    file = Path(str(target))
    if not target or file.is_dir():
        raise OutputError(f"--json {target!r} is a directory: name a file in it, or - for standard output")
    if not file.parent.is_dir() or not os.access(file if file.exists() else file.parent, os.W_OK):
        raise OutputError(f"--json {target}: cannot write in {file.parent}: make the directory first, or name another")


@contextlib.contextmanager
def figures(target: str | None) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Gives a function that writes figures as JSON where ``--json`` says.

    With ``-`` standard output holds only that; all else printed inside goes to standard error.
    """
    output = sys.stdout

    def report(result: dict[str, Any]) -> None:
        document = json.dumps(result, indent=2, ensure_ascii=False) + "\n"
        if target == "-":
            output.write(document)
        elif target is not None:
            Path(target).write_text(document, encoding="utf-8")

    with contextlib.redirect_stdout(sys.stderr if target == "-" else output):
        yield report
