"""What each command of `zsd.cli` does with its flags: configuration, job, figures. Returns the exit code.

Jobs are imported when they are called, so that help and mistakes are answered at once.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, TypeVar

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
from zsd.console import say
from zsd.errors import ConfigError, GateError
from zsd.figures import figures
from zsd.job_file import TRAINING, job_options, nightly_options, run_options
from zsd.nightly_config import NightlyConfig, RollbackConfig
from zsd.options import Options, make
from zsd.push_config import PushConfig
from zsd.serve_config import ServeConfig

Config = TypeVar("Config", bound=Options)
Figures = dict[str, Any]


def _config(options: argparse.Namespace, config: type[Config], table: str) -> Config:
    """A job's configuration from its TOML table and the flags."""
    return _merged(options, config, job_options(options.job, table))


def _merged(options: argparse.Namespace, config: type[Config], asked: dict[str, Any]) -> Config:
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


def _figures_of(
    options: argparse.Namespace, job: Callable[[], Figures], *, table: Callable[[Figures], str] | None = None
) -> Figures:
    """Do a job, print the table of its figures where it has one, and write them where ``--json`` says."""
    with figures(options.json) as report:
        result = job()
        if table is not None:
            print(table(result))
        report(result)
    return result


def run_command(options: argparse.Namespace, rest: list[str]) -> int:
    """``zsd run``."""
    config, arguments = _merged(options, RunConfig, run_options(options.job)), _training(options, rest)
    from zsd.distributed.run import run

    _figures_of(options, lambda: run(config, arguments))
    return 0


def label_command(options: argparse.Namespace, rest: list[str]) -> int:
    """``zsd label``."""
    config = _config(options, LabelConfig, "label")
    from zsd.distributed.label import label

    def labelled() -> Figures:
        manifest = label(config)
        return {**manifest, **_label_report(config.output)} if options.report else manifest

    manifest = _figures_of(options, labelled)
    say(
        f"label: {manifest['rows']:,} rows, {manifest['pairs']:,} pairs, {manifest['rows_per_second']:,} rows/s with "
        f"{manifest['engine']}; {manifest['rejected']:,} rejected, {manifest['duplicates']:,} duplicates"
    )
    return 0


def _label_report(output: str) -> Figures:
    from zsd.label_report import label_report

    return {"corrections": label_report(output)}


def distill_command(options: argparse.Namespace, rest: list[str]) -> int:
    """``zsd distill``."""
    config, arguments = _config(options, DistillConfig, "distill"), _training(options, rest)
    from zsd.distributed.train import distill

    _figures_of(options, lambda: distill(config, arguments))
    return 0


def ablation_command(options: argparse.Namespace, rest: list[str]) -> int:
    """``zsd ablation``."""
    config, arguments = _config(options, AblationConfig, "ablation"), _training(options, rest)
    from zsd.distributed.ablation import ablation

    _figures_of(options, lambda: ablation(config, arguments))
    return 0


def evaluate_command(options: argparse.Namespace, rest: list[str]) -> int:
    """``zsd evaluate``."""
    config = _config(options, EvaluateConfig, "evaluate")
    from zsd.evaluate import evaluate, evaluation_table

    _figures_of(options, lambda: evaluate(config), table=evaluation_table)
    return 0


def predict_command(options: argparse.Namespace, rest: list[str]) -> int:
    """``zsd predict``."""
    config = _config(options, PredictConfig, "predict")
    from zsd.distributed.predict import predict

    manifest = _figures_of(options, lambda: predict(config))
    say(f"predict: {manifest['rows']:,} rows, {manifest['rows_per_second']:,} rows/s{_answered_by(manifest)}")
    return 0


def annotate_command(options: argparse.Namespace, rest: list[str]) -> int:
    """``zsd annotate``."""
    config, arguments = _config(options, AnnotateConfig, "annotate"), _training(options, rest)
    from zsd.distributed.annotate import annotate

    manifest = _figures_of(options, lambda: annotate(config, arguments))
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


def benchmark_command(options: argparse.Namespace, rest: list[str]) -> int:
    """``zsd benchmark``."""
    config = _config(options, BenchmarkConfig, "benchmark")
    from zsd.distributed.benchmark import benchmark

    _figures_of(options, lambda: benchmark(config))
    return 0


def compile_command(options: argparse.Namespace, rest: list[str]) -> int:
    """``zsd compile``."""
    config = _config(options, CompileConfig, "compile")
    if config.student is None:
        from zsd.compile.job import compile_teacher as compile_model
    else:
        from zsd.students.compile_job import compile_student as compile_model

    _figures_of(options, lambda: compile_model(config))
    return 0


def nightly_command(options: argparse.Namespace, rest: list[str]) -> int:
    """``zsd nightly``."""
    config, arguments = _merged(options, NightlyConfig, nightly_options(options.job)), _training(options, rest)
    from zsd.distributed.nightly import REFUSED, nightly

    result = _figures_of(options, lambda: nightly(config, arguments))
    if result["decision"] == REFUSED:
        raise GateError(f"night {result['night']} is refused: {result['reason']}")
    return 0


def rollback_command(options: argparse.Namespace, rest: list[str]) -> int:
    """``zsd rollback``."""
    config = _config(options, RollbackConfig, "rollback")
    from zsd.rollback import rollback

    _figures_of(options, lambda: rollback(config))
    return 0


def push_command(options: argparse.Namespace, rest: list[str]) -> int:
    """``zsd push``."""
    config = _config(options, PushConfig, "push")
    from zsd.push import push

    _figures_of(options, lambda: push(config))
    return 0


def serve_command(options: argparse.Namespace, rest: list[str]) -> int:
    """``zsd serve``."""
    config = _config(options, ServeConfig, "serve")
    with figures(options.json) as report:
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


def verify_command(options: argparse.Namespace, rest: list[str]) -> int:
    """``zsd verify``."""
    from zsd.unfinished import verify
    from zsd.verify import repair_store, summary

    with figures(options.json) as report:
        result = verify(options.store)
        print(summary(result))
        again = repair_store(result) if options.repair else []
        report({**result.to_dict(), "repaired": again})
        if again or (options.repair and result.damaged):
            print(f"{result.uri}: {len(again):,} shard(s) to be made again: repeat the job's own command")
            return 0
    return 1 if result.problems else 0


def status_command(options: argparse.Namespace, rest: list[str]) -> int:
    """``zsd status``."""
    from zsd.monitor import job_status, status_text

    _figures_of(options, lambda: job_status(options.output), table=status_text)
    return 0
