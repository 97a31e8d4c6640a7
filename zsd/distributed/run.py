"""`zsd run`: label, distill and benchmark, one after another, in one output directory."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pyarrow as pa

from zsd import storage
from zsd.assets import sample_path
from zsd.benchmark_config import BenchmarkConfig
from zsd.config import DistillConfig, LabelConfig, RunConfig
from zsd.distill_config import TrainingChoices
from zsd.distributed.benchmark import FOLDER, benchmark
from zsd.distributed.label import label
from zsd.distributed.train import distill
from zsd.errors import ConfigError
from zsd.gold import read_gold, read_reviewed
from zsd.options import shared_options
from zsd.shards import Store, read_json
from zsd.students.folder import CARD, STUDENT
from zsd.students.spec import parse_student
from zsd.training_data import heldout_mask

HELDOUT_ROWS = 1000
"""Held-out rows to benchmark on where the user has no test rows."""

ROUND_SECONDS = 3.0
"""Seconds of a contestant in a round of the benchmark: the whole run is to take minutes."""

SPEED_ROWS = 48
"""Rows of one timed run: enough for a ratio, few enough for a first try."""


def run(config: RunConfig, arguments: dict[str, Any]) -> dict[str, Any]:
    """Run or resume the three jobs; returns what benchmark.json holds.

    Args:
        config: the corpus and what to do with it; the bundled example where it names none.
        arguments: transformers `TrainingArguments` by name.

    Raises:
        InputError: see the three jobs.
    """
    if config.output.startswith("file:"):  # a student is looked for by its path
        config = replace(config, output=storage.resolve(config.output).path)
    asked = shared_options(config, LabelConfig)
    test, label_column = config.test, config.label_column
    text_column = config.text_column if test else "text"
    if not config.data:
        asked |= {"data": (str(sample_path("corpus.txt")),), "labels": str(sample_path("labels.txt"))}
        test, label_column = (str(sample_path("test.csv")),), "label"
    labelling = LabelConfig(**asked)
    _check(config, labelling, test, text_column, label_column)
    label(labelling)
    distill(
        DistillConfig(
            soft_labels=config.output,
            output=config.output,
            test=test,
            test_text_column=text_column,
            ray_address=config.ray_address,
            **shared_options(config, TrainingChoices),
        ),
        arguments,
    )
    data = test or (_write_heldout(config.output),)
    return benchmark(
        BenchmarkConfig(
            model=(config.output,),
            data=data,
            output=config.output,
            teacher=config.teacher,
            template=config.template,
            nli_classes=config.nli_classes,
            text_column=text_column,
            label_column=label_column,
            speed_rows=SPEED_ROWS,
            engines=("torch:fp32", "openvino:bf16", "native:bf16"),
            round_seconds=ROUND_SECONDS,
            min_agreement=config.min_agreement,
            old_recipe=False,
            ray_overhead=False,
            ray_address=config.ray_address,
        )
    )


def _check(
    config: RunConfig, labelling: LabelConfig, test: tuple[str, ...], text_column: str, label_column: str
) -> None:
    """Find the mistakes in what the later jobs are given before the first one has run for hours."""
    if not storage.resolve(config.output).is_local:
        raise ConfigError(f"--output {config.output}: zsd run writes its report to a local or mounted folder only")
    for student in (config.student, *config.students):
        if student is not None:
            parse_student(student)
    labels = labelling.label_set()
    if test:
        read_gold(
            test,
            text_column=text_column,
            label_column=label_column,
            names=labels.names,
            multi_label=labels.multi_label,
            limit=HELDOUT_ROWS,
            required=False,
        )
    read_reviewed(config, labels.names, multi_label=labels.multi_label)


def _write_heldout(output: str) -> str:
    """Rows that the student was not trained on, as a file to benchmark on where the user has no test rows."""
    file = storage.join(output, FOLDER, "heldout.parquet")
    if not storage.exists(file):
        fraction = read_json(storage.join(output, STUDENT, CARD))["heldout"]["fraction"]
        kept: list[pa.Table] = []
        for rows in Store(output).tables(["id", "text"]):
            kept.append(rows.filter(pa.array(heldout_mask(rows["id"].to_pylist(), fraction))))
            if sum(len(table) for table in kept) >= HELDOUT_ROWS:
                break
        storage.write_table_atomic(file, pa.concat_tables(kept))
    return file
