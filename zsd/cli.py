"""The command line: ``zsd COMMAND``. Flags are the fields of the job's configuration; errors are one line."""

from __future__ import annotations

import argparse
import json
import os
import sys
import types
import typing
from collections.abc import Callable, Sequence
from dataclasses import MISSING, fields
from typing import Any

import zsd
from zsd.config import (
    TRAINING,
    BenchmarkConfig,
    DistillConfig,
    EvaluateConfig,
    LabelConfig,
    PredictConfig,
    RunConfig,
    make,
    nearest,
    read_toml,
)
from zsd.console import say
from zsd.errors import ConfigError, ZsdError

Command = Callable[[argparse.Namespace, list[str]], int]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code (0 done, 2 wrong input, 1 anything else)."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    parser = build_parser()
    options, rest = parser.parse_known_args(argv)
    try:
        if rest and not options.takes_training:
            raise ConfigError(f"unknown argument {rest[0]!r}{nearest(rest[0], options.flags)}")
        command: Command = options.run
        return command(options, rest)
    except ZsdError as error:
        print(f"zsd: error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("zsd: interrupted: the same command goes on from here", file=sys.stderr)
        return 130


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = argparse.ArgumentParser(prog="zsd", description=zsd.__doc__, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"zsd {zsd.__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add(commands, "run", RunConfig, _run, "label, distill and benchmark; with no arguments, the bundled example")
    _add(commands, "label", LabelConfig, _label, "soft labels for a corpus, from class names and an NLI teacher")
    _add(commands, "distill", DistillConfig, _distill, "a small student from soft labels")
    _add(commands, "evaluate", EvaluateConfig, _evaluate, "a student against gold labels")
    _add(commands, "predict", PredictConfig, _predict, "a corpus through a student")
    _add(commands, "benchmark", BenchmarkConfig, _benchmark, "what was gained: speed, quality, memory, as a report")
    verify = commands.add_parser("verify", help="is a store what its manifest says?", allow_abbrev=False)
    verify.add_argument("store", metavar="DIR", help="output directory of zsd label or zsd predict")
    verify.add_argument("--json", metavar="FILE", help="also write the result to this file (- for standard output)")
    verify.set_defaults(run=_verify, takes_training=False, flags=["--json"])
    return parser


def _add(commands: Any, name: str, config: type, run: Command, about: str) -> None:
    takes_training = name in ("run", "distill")
    more = "Every flag of transformers TrainingArguments is taken too (--learning_rate 3e-5)." if takes_training else None
    parser = commands.add_parser(name, help=about, description=about, epilog=more, allow_abbrev=False)
    parser.add_argument("--config", metavar="JOB.TOML", help="job file; a flag given here wins over it")
    hints = typing.get_type_hints(config)
    for one in fields(config):
        _add_flag(parser, one, hints[one.name])
    flags = [option for action in parser._actions for option in action.option_strings]
    parser.set_defaults(run=run, takes_training=takes_training, flags=flags)


def _add_flag(parser: argparse.ArgumentParser, one: Any, hint: Any) -> None:
    if isinstance(hint, types.UnionType):
        hint = next(arg for arg in typing.get_args(hint) if arg is not type(None))
    shown = "" if one.default in (MISSING, None, (), False, True) else f" (default: {_shown(one.default)})"
    common: dict[str, Any] = {"dest": one.name, "default": argparse.SUPPRESS, "help": one.metadata["help"] + shown}
    flag = f"--{one.name.replace('_', '-')}"
    if hint is bool:
        parser.add_argument(flag, action=argparse.BooleanOptionalAction, **common)
    elif typing.get_origin(hint) is tuple and one.metadata.get("repeat"):
        parser.add_argument(flag, action="append", metavar="NAME", **common)
    elif typing.get_origin(hint) is tuple:
        parser.add_argument(flag, nargs="+", metavar="X", **common)
    else:
        choices = one.metadata.get("choices")
        metavar = None if choices else {int: "N", float: "X"}.get(hint, "S")
        parser.add_argument(flag, type=hint, choices=choices, metavar=metavar, **common)


def _shown(value: Any) -> str:
    return " ".join(value) if isinstance(value, tuple) else str(value).replace("%", "%%")


def _config(options: argparse.Namespace, config: type, table: str) -> Any:
    """A job's configuration from its TOML table and the flags."""
    content = read_toml(options.config) if options.config else {}
    top = {"output": content["output"]} if "output" in content else {}
    return make(config, top, content.get(table, {}), vars(options))


def _training(options: argparse.Namespace, rest: list[str]) -> dict[str, Any]:
    from zsd.training_flags import parse_training_flags

    content = read_toml(options.config) if options.config else {}
    return parse_training_flags(rest, content.get(TRAINING, {}), own_flags=options.flags)


def _run(options: argparse.Namespace, rest: list[str]) -> int:
    from zsd.distributed.run import run

    content = read_toml(options.config) if options.config else {}
    run(make(RunConfig, content.get("run", {}), _flat(content), vars(options)), _training(options, rest))
    return 0


def _flat(content: dict[str, Any]) -> dict[str, Any]:
    """The tables of a job file that `zsd run` reads, as one mapping."""
    known = {one.name for one in fields(RunConfig)}
    merged: dict[str, Any] = {"output": content["output"]} if "output" in content else {}
    for table in ("label", "distill"):
        merged |= {key: value for key, value in content.get(table, {}).items() if key in known}
    if "data" in content.get("benchmark", {}):
        merged["test"] = content["benchmark"]["data"]
    return merged


def _label(options: argparse.Namespace, rest: list[str]) -> int:
    from zsd.distributed.label import label

    manifest = label(_config(options, LabelConfig, "label"))
    say(
        f"label: {manifest['rows']:,} rows, {manifest['pairs']:,} pairs, {manifest['rows_per_second']:,} rows/s with "
        f"{manifest['engine']}; {manifest['rejected']:,} rejected, {manifest['duplicates']:,} duplicates"
    )
    return 0


def _distill(options: argparse.Namespace, rest: list[str]) -> int:
    from zsd.distributed.train import distill

    distill(_config(options, DistillConfig, "distill"), _training(options, rest))
    return 0


def _evaluate(options: argparse.Namespace, rest: list[str]) -> int:
    from zsd.evaluate import evaluate, evaluation_table

    config = _config(options, EvaluateConfig, "evaluate")
    result = evaluate(config)
    _report(result, evaluation_table(result), config.json)
    return 0


def _predict(options: argparse.Namespace, rest: list[str]) -> int:
    from zsd.distributed.predict import predict

    manifest = predict(_config(options, PredictConfig, "predict"))
    say(f"predict: {manifest['rows']:,} rows, {manifest['rows_per_second']:,} rows/s")
    return 0


def _benchmark(options: argparse.Namespace, rest: list[str]) -> int:
    from zsd.distributed.benchmark import benchmark

    benchmark(_config(options, BenchmarkConfig, "benchmark"))
    return 0


def _verify(options: argparse.Namespace, rest: list[str]) -> int:
    from zsd.verify import summary, verify_store

    result = verify_store(options.store)
    _report(result.to_dict(), summary(result), options.json)
    return 1 if result.problems else 0


def _report(result: dict[str, Any], text: str, target: str | None) -> None:
    """Print the text, and write the JSON where it was asked for; with ``-`` standard output holds only the JSON."""
    document = json.dumps(result, indent=2, ensure_ascii=False)
    print(document if target == "-" else text)
    if target not in (None, "-"):
        from zsd import storage

        storage.write_bytes_atomic(target, document.encode() + b"\n")


if __name__ == "__main__":
    sys.exit(main())
