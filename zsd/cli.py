"""The command line: ``zsd COMMAND``. Flags are the fields of the job's configuration; errors are one line.

Nothing heavy is imported before the flags are known to be right, so help and mistakes are answered at once.
"""

from __future__ import annotations

import argparse
import functools
import os
import sys
import typing
from collections.abc import Callable, Sequence
from dataclasses import MISSING, Field, fields
from typing import Any, NoReturn

import zsd
from zsd import commands as do
from zsd.ablation_config import AblationConfig
from zsd.annotate_config import AnnotateConfig
from zsd.benchmark_config import BenchmarkConfig
from zsd.compile_config import CompileConfig
from zsd.config import (
    DistillConfig,
    EvaluateConfig,
    LabelConfig,
    PredictConfig,
    RunConfig,
)
from zsd.console import report_error
from zsd.errors import ConfigError, ZsdError
from zsd.figures import check_json
from zsd.job_file import read_job_file
from zsd.nightly_config import NightlyConfig, RollbackConfig
from zsd.options import Options, flag, nearest, value_type
from zsd.push_config import PushConfig
from zsd.serve_config import ServeConfig

Command = Callable[[argparse.Namespace, list[str]], int]
NIGHTLY_ABOUT = (
    "label new rows, distill, and put the student into production if it passes the gate (exit code 3: it did not; 4: "
    "another run holds the lock)"
)
COMMANDS: dict[str, tuple[type[Options], Command, str]] = {
    "run": (RunConfig, do.run_command, "label, distill and benchmark; with no arguments, the bundled example"),
    "label": (LabelConfig, do.label_command, "soft labels for a corpus, from class names and an NLI teacher"),
    "distill": (DistillConfig, do.distill_command, "a small student from soft labels"),
    "evaluate": (EvaluateConfig, do.evaluate_command, "a student against gold labels"),
    "predict": (PredictConfig, do.predict_command, "a corpus through a student"),
    "annotate": (
        AnnotateConfig,
        do.annotate_command,
        "the teacher's labels for a corpus, from a sample of its pairs",
    ),
    "benchmark": (BenchmarkConfig, do.benchmark_command, "what was gained: speed, quality, memory, as a report"),
    "compile": (
        CompileConfig,
        do.compile_command,
        "a sparse or int8 form of an NLI teacher, or one with a draft, with its card",
    ),
    "nightly": (NightlyConfig, do.nightly_command, NIGHTLY_ABOUT),
    "rollback": (RollbackConfig, do.rollback_command, "an earlier student back into production"),
    "push": (PushConfig, do.push_command, "a student, with a model card, to the hub, a directory or a store"),
    "serve": (ServeConfig, do.serve_command, "a student behind HTTP, to try it out"),
    "ablation": (AblationConfig, do.ablation_command, "what each step of the training brings, on gold labels"),
}
REPORT_HELP = "when done, show what each correction of the labels does to class balance and confidence"
JSON_HELP = "also write the figures to this file (- for standard output, and nothing else there)"


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are errors of zsd, without the usage block."""

    def __init__(self, **options: Any) -> None:
        width = functools.partial(argparse.HelpFormatter, max_help_position=30)
        super().__init__(**{"allow_abbrev": False, "formatter_class": width, **options})

    def error(self, message: str) -> NoReturn:
        """Raise a `ConfigError` instead of printing the usage and exiting."""
        raise ConfigError(f"{message.removeprefix('argument ')}: see {self.prog} --help")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code (0 done, 2 wrong input, others: `zsd.errors`, 1 anything else)."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        options, rest = build_parser().parse_known_args(argv)
        if rest and not options.takes_training:
            raise ConfigError(f"unknown argument {rest[0]!r}{nearest(rest[0], options.flags)}")
        check_json(options.json)
        options.job = read_job_file(options.config) if options.config else {}
        command: Command = options.run
        return command(options, rest)
    except ZsdError as error:
        return report_error(error)
    except KeyboardInterrupt:
        print("zsd: interrupted: the same command goes on from here", file=sys.stderr)
        return 130


def build_parser() -> Parser:
    """The whole command line."""
    parser = Parser(prog="zsd", description=zsd.__doc__)
    parser.add_argument("--version", action="version", version=f"zsd {zsd.__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name, (config, run, about) in COMMANDS.items():
        _add(commands, name, config, run, about)
    label = commands.choices["label"]
    label.add_argument("--report", action="store_true", help=REPORT_HELP)
    label.get_default("flags").append("--report")
    about = "is a store what its manifest says?"
    verify = commands.add_parser("verify", help=about, description=about)
    verify.add_argument("store", metavar="DIR", help="output directory of zsd label or zsd predict")
    verify.add_argument("--json", metavar="FILE", help=JSON_HELP)
    again = "put damaged shards aside, so that the job's own command makes exactly those again"
    verify.add_argument("--repair", action="store_true", help=again)
    verify.set_defaults(run=do.verify_command, takes_training=False, flags=["--json", "--repair"], config=None)
    about = "how a running, dead or finished job is doing"
    status = commands.add_parser("status", help=about, description=about)
    status.add_argument("output", metavar="DIR", help="output directory of zsd label or zsd predict")
    status.add_argument("--json", metavar="FILE", help=JSON_HELP)
    status.set_defaults(run=do.status_command, takes_training=False, flags=["--json"], config=None)
    return parser


def _add(commands: Any, name: str, config: type[Options], run: Command, about: str) -> None:
    takes_training = name in ("run", "distill", "annotate", "nightly", "ablation")
    more = (
        "Every flag of transformers TrainingArguments is taken too (--learning_rate 3e-5)." if takes_training else None
    )
    parser = commands.add_parser(name, help=about, description=about, epilog=more)
    parser.add_argument("--config", metavar="JOB.TOML", help="job file; a flag given here wins over it")
    hints = typing.get_type_hints(config)
    for one in fields(config):
        _add_flag(parser, one, value_type(hints[one.name]))
    parser.add_argument("--json", metavar="FILE", help=JSON_HELP)
    flags = [option for action in parser._actions for option in action.option_strings if option.startswith("--")]
    parser.set_defaults(run=run, takes_training=takes_training, flags=flags)


def _add_flag(parser: argparse.ArgumentParser, one: Field[Any], kind: type) -> None:
    told: str = one.metadata["help"] + _default(one.default)
    common: dict[str, Any] = {"dest": one.name, "default": argparse.SUPPRESS, "help": told.replace("%", "%%")}
    metavar = one.metadata.get("metavar", {int: "N", float: "X", tuple: "NAME"}.get(kind))
    if kind is bool:
        parser.add_argument(flag(one.name), action=argparse.BooleanOptionalAction, **common)
    elif one.metadata.get("repeat"):
        parser.add_argument(flag(one.name), action="append", metavar=metavar, **common)
    elif kind is tuple:
        parser.add_argument(flag(one.name), action="extend", nargs="+", metavar=metavar, **common)
    else:
        if "bare" in one.metadata:
            common |= {"nargs": "?", "const": one.metadata["bare"]}
        parser.add_argument(flag(one.name), type=kind, choices=one.metadata.get("choices"), metavar=metavar, **common)


def _default(value: Any) -> str:
    if value is MISSING or value is None or value is False or value == ():
        return ""
    shown = "yes" if value is True else " ".join(value) if isinstance(value, tuple) else value
    return f" (default: {shown})"


if __name__ == "__main__":
    sys.exit(main())
