"""`zsd benchmark`: the last job; measures what was gained and writes the report."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import zsd
from zsd import storage
from zsd.assets import BUNDLED_TEACHER
from zsd.benchmark.contestants import Contestant, recipe_length
from zsd.benchmark.lineup import line_up
from zsd.benchmark.measure import measure
from zsd.benchmark.peak import SIZE
from zsd.benchmark.quality import compare, examples
from zsd.benchmark.race import is_reference
from zsd.benchmark_config import BenchmarkConfig
from zsd.console import say
from zsd.corpus import resolve_sources
from zsd.distributed.overhead import ray_overhead
from zsd.errors import ConfigError, ZsdError
from zsd.gold import read_gold
from zsd.labels import DEFAULT_TEMPLATE, LabelSet
from zsd.machine import available_cpus, describe_machine
from zsd.options import command_line
from zsd.output import claim
from zsd.report import SCHEMA, summary_table, write_report
from zsd.shards import MANIFEST, read_json, write_json
from zsd.students import load_student
from zsd.students.folder import CARD, all_students, local_student
from zsd.teachers.nli import absolute_checkpoint, checkpoint_fingerprint, load_teacher

FOLDER = "benchmark"
RESULT = "benchmark.json"
OVERHEAD_ROWS = 1000


def benchmark(config: BenchmarkConfig) -> dict[str, Any]:
    """Measure, write ``benchmark/`` below the output, print a short table; returns what benchmark.json holds.

    Raises:
        InputError: the student, the teacher, the rows or the output directory are not what they should be.
    """
    students = [uri for model in config.model for uri in all_students(model)]
    card_file = storage.join(students[0], CARD)
    card = read_json(card_file) if storage.exists(card_file) else {}
    teacher = absolute_checkpoint(config.teacher or card.get("teacher") or BUNDLED_TEACHER)
    labels = _labels(students, config.template or _card_templates(card))
    if not storage.resolve(config.output).is_local:
        raise ConfigError(f"--output {config.output}: the report can be written to a local or mounted folder only")
    folder = Path(storage.resolve(config.output).path) / FOLDER
    claim(config.output, "benchmark", _identity(config, teacher, labels, students))
    if (folder / RESULT).is_file():
        say(f"{config.output}: this benchmark is finished, nothing to do")
        result = read_json(str(folder / RESULT))
    else:
        result = _measure_all(config, teacher, labels, students)
        write_json(str(folder / RESULT), result)
    write_report(result, folder)
    print(summary_table(result))
    print(f"\nreport: {folder / 'report.html'}")
    return result


def _card_templates(card: dict[str, Any]) -> tuple[str, ...]:
    """Of the labels that the student was distilled from; zsd's own for a student that does not say."""
    known = card.get("labels", {})
    return (known.get("template") or DEFAULT_TEMPLATE, *known.get("more_templates", ()))


def _labels(students: Sequence[str], templates: tuple[str, ...]) -> LabelSet:
    """What is asked of the teacher: what the students answer, which must be the same."""
    asked = [_answers(uri) for uri in students]
    for uri, other in zip(students, asked, strict=True):
        if other != asked[0]:
            raise ConfigError(
                f"--model {uri}: its classes are {', '.join(other[0])}, those of {students[0]} are "
                f"{', '.join(asked[0][0])}: measure students of the same classes together"
            )
    names, multi_label = asked[0]
    return LabelSet(names=tuple(names), template=templates[0], multi_label=multi_label, more_templates=templates[1:])


def _answers(uri: str) -> tuple[tuple[str, ...], bool]:
    """Names of a student's classes, and whether they are independent of each other."""
    student = load_student(uri, threads=1)
    student.close()
    return student.names, student.multi_label


def _identity(config: BenchmarkConfig, teacher: str, labels: LabelSet, students: Sequence[str]) -> dict[str, Any]:
    asked = {name: value for name, value in asdict(config).items() if name not in ("output", "model", "ray_address")}
    asked["data"] = [asdict(source) for source in resolve_sources(config.data)]
    return asked | {
        "teacher": teacher,
        "teacher_fingerprint": load_teacher(teacher, nli_classes=config.nli_classes).fingerprint,
        "compiled": {
            form: load_teacher(form, nli_classes=config.nli_classes).fingerprint
            for form in map(absolute_checkpoint, config.compiled)
        },
        "student_fingerprints": [checkpoint_fingerprint(local_student(uri)) for uri in students],
        "labels": labels.to_dict(),
    }


def _measure_all(config: BenchmarkConfig, teacher: str, labels: LabelSet, students: Sequence[str]) -> dict[str, Any]:
    rows = read_gold(
        config.data,
        text_column=config.text_column,
        label_column=config.label_column,
        names=labels.names,
        multi_label=labels.multi_label,
        limit=config.limit,
        required=False,
    )
    if rows.gold is None:
        say(f"benchmark: no column {config.label_column!r}: quality is agreement with the teacher only")
    contestants = line_up(
        teacher=teacher,
        compiled=[absolute_checkpoint(form) for form in config.compiled],
        students=[local_student(uri) for uri in students],
        labels=labels,
        nli_classes=config.nli_classes,
        engines=config.engines,
        threads=available_cpus(),
        recipe=config.old_recipe,
        student_engines=config.student_engines,
    )
    found = measure(
        contestants,
        rows.texts,
        rows.gold,
        speed_rows=config.speed_rows,
        rounds=config.rounds,
        round_seconds=config.round_seconds,
    )
    overhead = None
    if config.ray_overhead:
        reference = next(one for one in contestants if is_reference(one))
        overhead = _overhead(reference, rows.texts[:OVERHEAD_ROWS], config)
    names = labels.names
    return {
        "schema": SCHEMA,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "zsd_version": zsd.__version__,
        "command": command_line("benchmark", replace(config, output=f"{config.output}-again")),
        "machine": describe_machine(),
        "task": {
            "labels": list(names),
            "template": labels.template,
            "more_templates": list(labels.more_templates),
            "multi_label": labels.multi_label,
            "data": list(config.data),
            "rows": len(rows.texts),
            "speed_rows": min(config.speed_rows, len(rows.texts)),
            "rounds": config.rounds,
            "round_seconds": config.round_seconds,
            "min_agreement": config.min_agreement,
            "threads": available_cpus(),
            "device": "cpu",
            "recipe_length": recipe_length(load_teacher(teacher, nli_classes=config.nli_classes).max_length),
            "mean_tokens_per_pair": found.mean_tokens,
            "gold": rows.gold is not None,
            "teacher": teacher,
            "student": ", ".join(students),
        },
        "label_job": _label_job(config.output),
        "contestants": found.contestants,
        "left_out": found.left_out,
        "peak": {"size": SIZE, "operations_per_second": found.peak},
        "quality": compare(found.teacher, found.student, rows.gold, names, multi_label=labels.multi_label),
        "ray_overhead": overhead,
        "examples": examples(rows.texts, found.teacher, found.student, rows.gold, names),
    }


def _overhead(reference: Contestant, texts: list[str], config: BenchmarkConfig) -> dict[str, Any] | None:
    folder = storage.join(config.output, FOLDER, "overhead")
    try:
        return ray_overhead(reference, texts, folder=folder, ray_address=config.ray_address)
    except ZsdError as error:
        say(f"benchmark: the Ray overhead is left out: {error}")
        return None
    finally:
        storage.delete_folder(folder)


def _label_job(output: str) -> dict[str, Any] | None:
    """The figures of the label job that lives in the same output directory, where there is one."""
    file = storage.join(output, MANIFEST)
    if not storage.exists(file):
        return None
    manifest = read_json(file)
    keys = ("rows", "pairs", "rejected", "duplicates", "rows_per_second", "pairs_per_second", "engine")
    return {key: manifest[key] for key in keys}
