"""Command lines found in files, and whether the real parsers take them: a flag that is renamed is found here.

Known are ``zsd ...``, ``python jobs/NAME.py ...`` and ``ray ...`` (its own command line, and of ``ray job submit`` the
command that it submits); of ``docker run``, the ``zsd`` command inside the container; of others, that the files of the
repository which they name are there.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
from ray.scripts.scripts import cli as ray_cli

from zsd.cli import build_parser
from zsd.config import RunConfig
from zsd.job_file import TABLES, TRAINING, job_options, nightly_options, read_job_file, run_options
from zsd.nightly_config import NightlyConfig
from zsd.options import make
from zsd.training_flags import parse_training_flags

ROOT = Path(__file__).parents[1]
_STARTS = re.compile(
    r"(?:[A-Z_]+=\S+ )*((?:[\w./-]+/)?zsd|ray|python3? jobs/\S+\.py|kubectl|docker|cluster/local\.sh)\s"
)
_SHELL = re.compile(r"\s*(?:&&|\|\||[;|])\s*")
_EXEC = re.compile(r"\s*(?:CMD|ENTRYPOINT)\s+(\[.*\])\s*")  # a Dockerfile's


def commands(text: str) -> Iterator[list[str]]:
    """The commands in a script, a manifest, a Dockerfile or a Markdown text, also those in its comments."""
    for line in text.replace("\\\n", " ").splitlines():
        exec_form = _EXEC.fullmatch(line)
        if exec_form:
            yield json.loads(exec_form[1])
            continue
        bare = re.sub(r"^\s*(?:#|-|\w+:|>)?\s*(?:.*Run with:\s+)?", "", line)
        for part in _SHELL.split(bare):
            if _STARTS.match(part):
                words = shlex.split(re.sub(r"\s+#\s.*|\s+>\S*.*|\s+2>.*", "", part))
                yield [word for n, word in enumerate(words) if not _assigns(words[: n + 1])]


def _assigns(words: Sequence[str]) -> bool:
    return all(re.fullmatch(r"[A-Z_]+=.*", word) for word in words)


def check(words: Sequence[str]) -> None:
    """Parse a command as the program that it names would.

    Raises:
        AssertionError, ZsdError, click.UsageError: it would be refused.
    """
    for word in words:
        if re.match(r"(cluster|jobs)/[\w./-]+\.\w+$", word):
            assert (ROOT / word).is_file(), f"{word} is not in the repository: {shlex.join(words)}"
    if Path(words[0]).name == "zsd":
        check_zsd(words[1:])
    elif words[0] == "ray":
        check_ray(words[1:])
    elif words[:2] == ["docker", "run"] and "zsd" in words:
        check_zsd(words[words.index("zsd") + 1 :])
    elif words[0].startswith("python"):
        name = Path(words[1]).stem
        if name != "distill_classifier":
            check_zsd([name, *words[2:]])


def check_zsd(words: Sequence[str]) -> None:
    """Parse the arguments of ``zsd``; with a job file of the repository, make the configuration too."""
    options, rest = build_parser().parse_known_args(list(words))
    assert not rest or options.takes_training, f"zsd {shlex.join(words)}: does not take {rest}"
    if rest:
        parse_training_flags(rest, {}, own_flags=options.flags)
    if options.config and (ROOT / options.config).is_file():
        check_job_file(ROOT / options.config, words[0], vars(options))


def check_job_file(file: Path, command: str, given: dict[str, object] | None = None) -> None:
    """Make the configuration of a command from a job file, and of its training arguments where it has some."""
    content = read_job_file(str(file))
    if command == "run":
        make(RunConfig, run_options(content), given or {})
    elif command == "nightly":
        make(NightlyConfig, nightly_options(content), given or {})
    else:
        make(TABLES[command], job_options(content, command), given or {})
    if command in ("run", "distill", "nightly") and TRAINING in content:
        parse_training_flags([], content[TRAINING], own_flags=[])


def check_ray(words: Sequence[str]) -> None:
    """Parse the arguments of ``ray``."""
    command: click.Command = ray_cli
    rest = list(words)
    context = click.Context(command)
    while isinstance(command, click.Group):
        found = command.get_command(context, rest[0])
        assert found is not None, f"ray {shlex.join(words)}: there is no {rest[0]}"
        command, rest = found, rest[1:]
    parsed = command.make_context(command.name, rest)
    entrypoint = parsed.params.get("entrypoint")
    if entrypoint:
        check(entrypoint)
