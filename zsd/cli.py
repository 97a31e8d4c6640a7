"""The command line: ``zsd COMMAND``. Flags are the fields of the job's configuration; errors are one line.

Nothing heavy is imported before the flags are known to be right, so help and mistakes are answered at once.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import os
import sys
import typing
from collections.abc import Callable, Iterator, Sequence
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any, NoReturn

import zsd
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
from zsd.console import report_error, say
from zsd.errors import ConfigError, GateError, OutputError, ZsdError
from zsd.job_file import TRAINING, job_options, nightly_options, read_job_file, run_options
from zsd.nightly_config import NightlyConfig, RollbackConfig
from zsd.options import Options, flag, make, nearest, value_type
from zsd.push_config import PushConfig
from zsd.serve_config import ServeConfig

Command = Callable[[argparse.Namespace, list[str]], int]
NIGHTLY_ABOUT = (
    "label new rows, distill, and put the student into production if it passes the gate (exit code 3: it did not; 4: "
    "another run holds the lock)"
)
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
        _check_json(options.json)
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
    _add(commands, "run", RunConfig, _run, "label, distill and benchmark; with no arguments, the bundled example")
    _add(commands, "label", LabelConfig, _label, "soft labels for a corpus, from class names and an NLI teacher")
    label = commands.choices["label"]
    label.add_argument("--report", action="store_true", help=REPORT_HELP)
    label.get_default("flags").append("--report")
    _add(commands, "distill", DistillConfig, _distill, "a small student from soft labels")
    _add(commands, "evaluate", EvaluateConfig, _evaluate, "a student against gold labels")
    _add(commands, "predict", PredictConfig, _predict, "a corpus through a student")
    _add(
        commands, "annotate", AnnotateConfig, _annotate, "the teacher's labels for a corpus, from a sample of its pairs"
    )
    _add(commands, "benchmark", BenchmarkConfig, _benchmark, "what was gained: speed, quality, memory, as a report")
    _add(commands, "compile", CompileConfig, _compile, "a sparse or int8 form of an NLI teacher, with its card")
    _add(commands, "nightly", NightlyConfig, _nightly, NIGHTLY_ABOUT)
    _add(commands, "rollback", RollbackConfig, _rollback, "an earlier student back into production")
    _add(commands, "push", PushConfig, _push, "a student, with a model card, to the hub, a directory or a store")
    _add(commands, "serve", ServeConfig, _serve, "a student behind HTTP, to try it out")
    _add(commands, "ablation", AblationConfig, _ablation, "what each step of the training brings, on gold labels")
    about = "is a store what its manifest says?"
    verify = commands.add_parser("verify", help=about, description=about)
    verify.add_argument("store", metavar="DIR", help="output directory of zsd label or zsd predict")
    verify.add_argument("--json", metavar="FILE", help=JSON_HELP)
    again = "put damaged shards aside, so that the job's own command makes exactly those again"
    verify.add_argument("--repair", action="store_true", help=again)
    verify.set_defaults(run=_verify, takes_training=False, flags=["--json", "--repair"], config=None)
    about = "how a running, dead or finished job is doing"
    status = commands.add_parser("status", help=about, description=about)
    status.add_argument("output", metavar="DIR", help="output directory of zsd label or zsd predict")
    status.add_argument("--json", metavar="FILE", help=JSON_HELP)
    status.set_defaults(run=_status, takes_training=False, flags=["--json"], config=None)
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
        parser.add_argument(flag(one.name), type=kind, choices=one.metadata.get("choices"), metavar=metavar, **common)


def _default(value: Any) -> str:
    if value is MISSING or value is None or value is False or value == ():
        return ""
    shown = "yes" if value is True else " ".join(value) if isinstance(value, tuple) else value
    return f" (default: {shown})"


def _config(options: argparse.Namespace, config: type[Any], table: str) -> Any:
    """A job's configuration from its TOML table and the flags."""
    return _merged(options, config, job_options(options.job, table))


def _merged(options: argparse.Namespace, config: type[Any], asked: dict[str, Any]) -> Any:
    given = vars(options)
    if "label" in given or "labels" in given:  # two ways to say one thing: the flag wins over either in the file
        asked = {name: value for name, value in asked.items() if name not in ("label", "labels")}
    return make(config, asked, given)


def _training(options: argparse.Namespace, rest: list[str]) -> dict[str, Any]:
    table = options.job.get(TRAINING, {})
    if not rest and not table:
        return {}
    from zsd.training_flags import parse_training_flags

    return parse_training_flags(rest, table, own_flags=options.flags)


def _run(options: argparse.Namespace, rest: list[str]) -> int:
    config = _merged(options, RunConfig, run_options(options.job))
    arguments = _training(options, rest)
    from zsd.distributed.run import run

    with _figures(options.json) as report:
        report(run(config, arguments))
    return 0


def _label(options: argparse.Namespace, rest: list[str]) -> int:
    config = _config(options, LabelConfig, "label")
    from zsd.distributed.label import label

    with _figures(options.json) as report:
        manifest = label(config)
        figures = _label_report(config.output) if options.report else {}
        report({**manifest, **figures})
    say(
        f"label: {manifest['rows']:,} rows, {manifest['pairs']:,} pairs, {manifest['rows_per_second']:,} rows/s with "
        f"{manifest['engine']}; {manifest['rejected']:,} rejected, {manifest['duplicates']:,} duplicates"
    )
    return 0


def _label_report(output: str) -> dict[str, Any]:
    from zsd.label_report import label_report

    return {"corrections": label_report(output)}


def _distill(options: argparse.Namespace, rest: list[str]) -> int:
    config = _config(options, DistillConfig, "distill")
    arguments = _training(options, rest)
    from zsd.distributed.train import distill

    with _figures(options.json) as report:
        report(distill(config, arguments))
    return 0


def _ablation(options: argparse.Namespace, rest: list[str]) -> int:
    config = _config(options, AblationConfig, "ablation")
    arguments = _training(options, rest)
    from zsd.distributed.ablation import ablation

    with _figures(options.json) as report:
        report(ablation(config, arguments))
    return 0


def _evaluate(options: argparse.Namespace, rest: list[str]) -> int:
    config = _config(options, EvaluateConfig, "evaluate")
    from zsd.evaluate import evaluate, evaluation_table

    with _figures(options.json) as report:
        result = evaluate(config)
        print(evaluation_table(result))
        report(result)
    return 0


def _predict(options: argparse.Namespace, rest: list[str]) -> int:
    config = _config(options, PredictConfig, "predict")
    from zsd.distributed.predict import predict

    with _figures(options.json) as report:
        manifest = predict(config)
        report(manifest)
    say(f"predict: {manifest['rows']:,} rows, {manifest['rows_per_second']:,} rows/s{_answered_by(manifest)}")
    return 0


def _annotate(options: argparse.Namespace, rest: list[str]) -> int:
    config = _config(options, AnnotateConfig, "annotate")
    arguments = _training(options, rest)
    from zsd.distributed.annotate import annotate

    with _figures(options.json) as report:
        manifest = annotate(config, arguments)
        report(manifest)
    paid = manifest["annotation"]
    say(
        f"annotate: {manifest['rows']:,} rows for {paid['teacher_pairs']:,} teacher pairs, {paid['times_fewer']} times "
        f"fewer than the full pass; agreement with it at least {paid['agreement_bound']:.1%} (confidence "
        f"{1 - paid['alpha']:.0%}){_answered_by(manifest)}"
    )
    return 0


def _answered_by(manifest: dict[str, Any]) -> str:
    """Who answered, of a job with deferral."""
    if "deferral" not in manifest:
        return ""
    by, asked = manifest["answered_by"], manifest["teacher_rows"]
    return (
        f"; {by['student']:,} answered by the student, {by['teacher']:,} by the teacher ({asked:,} of them asked now, "
        f"{manifest['teacher_pairs']:,} pairs)"
    )


def _benchmark(options: argparse.Namespace, rest: list[str]) -> int:
    config = _config(options, BenchmarkConfig, "benchmark")
    from zsd.distributed.benchmark import benchmark

    with _figures(options.json) as report:
        report(benchmark(config))
    return 0


def _compile(options: argparse.Namespace, rest: list[str]) -> int:
    config = _config(options, CompileConfig, "compile")
    if config.student is None:
        from zsd.compile.job import compile_teacher as compile_model
    else:
        from zsd.students.compile_job import compile_student as compile_model

    with _figures(options.json) as report:
        report(compile_model(config))
    return 0


def _nightly(options: argparse.Namespace, rest: list[str]) -> int:
    config = _merged(options, NightlyConfig, nightly_options(options.job))
    arguments = _training(options, rest)
    from zsd.distributed.nightly import REFUSED, nightly

    with _figures(options.json) as report:
        result = nightly(config, arguments)
        report(result)
    if result["decision"] == REFUSED:
        raise GateError(f"night {result['night']} is refused: {result['reason']}")
    return 0


def _rollback(options: argparse.Namespace, rest: list[str]) -> int:
    config = _config(options, RollbackConfig, "rollback")
    from zsd.rollback import rollback

    with _figures(options.json) as report:
        report(rollback(config))
    return 0


def _push(options: argparse.Namespace, rest: list[str]) -> int:
    config = _config(options, PushConfig, "push")
    from zsd.push import push

    with _figures(options.json) as report:
        report(push(config))
    return 0


def _serve(options: argparse.Namespace, rest: list[str]) -> int:
    config = _config(options, ServeConfig, "serve")
    with _figures(options.json) as report:
        if config.check:
            from zsd.serving import check_server

            found = check_server(config.url)
            print(f"{config.url}: ok: {found['kind']} student, {len(found['labels'])} classes")
            report(found)
            return 0
        try:
            from zsd.distributed.serve import run_server
        except ModuleNotFoundError as error:
            raise ConfigError(f"zsd serve needs {error.name}: install it with pip install 'zsd[serve]'") from None
        run_server(config)
    return 0


def _verify(options: argparse.Namespace, rest: list[str]) -> int:
    from zsd.unfinished import verify
    from zsd.verify import repair_store, summary

    with _figures(options.json) as report:
        result = verify(options.store)
        print(summary(result))
        again = repair_store(result) if options.repair else []
        report({**result.to_dict(), "repaired": again})
        if again or (options.repair and result.damaged):
            print(f"{result.uri}: {len(again):,} shard(s) to be made again: repeat the job's own command")
            return 0
    return 1 if result.problems else 0


def _status(options: argparse.Namespace, rest: list[str]) -> int:
    from zsd.monitor import job_status, status_text

    with _figures(options.json) as report:
        status = job_status(options.output)
        print(status_text(status))
        report(status)
    return 0


def _check_json(target: str | None) -> None:
    """A place that cannot be written is found before hours of work, not after."""
    if target in (None, "-"):
        return
    file = Path(str(target))
    if not target or file.is_dir():
        raise OutputError(f"--json {target!r} is a directory: name a file in it, or - for standard output")
    if not file.parent.is_dir() or not os.access(file if file.exists() else file.parent, os.W_OK):
        raise OutputError(f"--json {target}: cannot write in {file.parent}: make the directory first, or name another")


@contextlib.contextmanager
def _figures(target: str | None) -> Iterator[Callable[[dict[str, Any]], None]]:
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


if __name__ == "__main__":
    sys.exit(main())
