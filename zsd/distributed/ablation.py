"""`zsd ablation`: students trained with one more step each, several seeds a step, scored on gold labels.

Every cell of the table is a distill job in a directory of its own, so that an interrupted ablation goes on where it
stopped. Gold labels are for scoring only; with ``--gold-curve`` some are given to the training, as reviewed rows.
"""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from zsd import storage
from zsd.ablation_config import AblationConfig
from zsd.config import DistillConfig
from zsd.console import say
from zsd.distributed.train import distill
from zsd.errors import ConfigError
from zsd.evaluation import classification_metrics
from zsd.gold import GoldRows, read_gold
from zsd.known_logits import KnownLogits
from zsd.report.ablation import write_ablation
from zsd.shards import Store, checksum, read_json, write_json
from zsd.soft_labels.fit import plain_recipe
from zsd.students import load_student
from zsd.training import bf16_is_fast
from zsd.training_plan import soft_label_store

CURVE = (0, 50, 200, 1000)
"""Reviewed rows of the gold curve."""

FIGURES = ("accuracy", "macro_f1", "expected_calibration_error")


@dataclass(frozen=True, kw_only=True)
class Step:
    """A line of the table.

    Args:
        name: what it is called; also the name of its directories.
        changes: options of `zsd distill`.
        ensemble: whether it takes the labels of several templates.
        reviewed: how many reviewed rows it is given; None: it is not about them.
    """

    name: str
    changes: dict[str, Any] = field(default_factory=dict)
    ensemble: bool = False
    reviewed: int | None = None


def ablation(config: AblationConfig, arguments: dict[str, Any]) -> dict[str, Any]:
    """Train and score every cell that is not done, and write the page; returns what ablation.json holds.

    Args:
        config: what to train on and to score on.
        arguments: transformers `TrainingArguments` of every training.

    Raises:
        InputError: the store, the gold rows or an argument is wrong.
    """
    source = soft_label_store(config.soft_labels)
    labels = source.manifest["labels"]
    if labels["multi_label"]:
        raise ConfigError(f"{config.soft_labels}: multi-label: the ablation scores accuracy, of one class a row")
    if not storage.resolve(config.output).is_local:
        raise ConfigError(f"--output {config.output}: the ablation writes to a local or mounted folder only")
    columns: dict[str, Any] = {"text_column": config.text_column, "label_column": config.label_column}
    test = read_gold(config.test, names=labels["names"], multi_label=False, limit=config.test_rows, **columns)
    steps = _curve(config, labels["names"], test) if config.gold_curve else _steps(config)
    results = []
    if config.teacher_labels is not None:
        results.append({"step": "teacher", "options": {}, **_spread([_teacher(config.teacher_labels, source, test)])})
        say(f"ablation: {table_line(results[-1], results[0])}")
    for step in steps:
        scores = [_cell(config, step, seed, test, arguments) for seed in range(config.seeds)]
        reviewed = {} if step.reviewed is None else {"reviewed": step.reviewed}
        results.append({"step": step.name, "options": step.changes, **reviewed, **_spread(scores)})
        say(f"ablation: {table_line(results[-1], results[0])}")
    rows = min(config.rows or source.manifest["rows"], source.manifest["rows"])
    epochs = arguments.get("num_train_epochs", config.epochs)
    made = {"test_rows": len(test.texts), "rows": rows, "epochs": epochs, "steps": results}
    name = "gold-curve" if config.gold_curve else "ablation"
    write_json(storage.join(config.output, f"{name}.json"), made)
    page = write_ablation(made, Path(storage.resolve(config.output).path), name)
    say(f"ablation: report: {page}")
    return made


def _steps(config: AblationConfig) -> list[Step]:
    """Each step with all before it; the template ensemble where there is one."""
    steps = [Step(name="plain", changes={"calibrate": "none"})]
    if config.ensemble is not None:
        steps.append(Step(name="ensemble", changes={"calibrate": "none"}, ensemble=True))
    ensemble = config.ensemble is not None
    steps.append(Step(name="calibration", changes={"calibrate": "auto"}, ensemble=ensemble))
    weighted = {"calibrate": "auto", "weight": "confidence"}
    steps.append(Step(name="weighting", changes=weighted, ensemble=ensemble))
    steps.append(Step(name="self-training", changes={**weighted, "rounds": config.rounds}, ensemble=ensemble))
    return steps


def _curve(config: AblationConfig, names: list[str], test: GoldRows) -> list[Step]:
    """Reviewed rows that are no test rows, the first of the file, written as files that `zsd distill` reads."""
    columns: dict[str, Any] = {"text_column": config.text_column, "label_column": config.label_column}
    known = set(test.texts)
    found = read_gold(config.gold, names=names, multi_label=False, limit=2 * CURVE[-1] + len(known), **columns)
    assert found.gold is not None, "read_gold raises without a label column"
    unique = dict(zip(found.texts, found.gold.tolist(), strict=True))
    rows = [(text, names[k]) for text, k in unique.items() if text not in known]
    steps = []
    for count in CURVE:
        if count > len(rows):
            raise ConfigError(f"--gold {' '.join(config.gold)}: {len(rows)} usable rows, {count} needed: give more")
        file = storage.join(storage.resolve(config.output).path, f"gold-{count}.jsonl")
        lines = (json.dumps({"text": text, "label": label}, ensure_ascii=False) for text, label in rows[:count])
        storage.write_bytes_atomic(file, "".join(f"{line}\n" for line in lines).encode())
        steps.append(Step(name=f"gold-{count}", changes={"gold": (file,)} if count else {}, reviewed=count))
    return steps


def _teacher(uri: str, source: Store, test: GoldRows) -> dict[str, float]:
    """The figures of the teacher's own answers to the test rows.

    Raises:
        ConfigError: the store is not of these rows, classes and teacher.
    """
    store = soft_label_store(uri)
    for name, same in (("teacher", "teacher_fingerprint"), ("classes, template or mode", "labels")):
        if store.manifest.get(same) != source.manifest.get(same):
            raise ConfigError(
                f"--teacher-labels {uri}: not the {name} of --soft-labels: label the --test rows as those"
            )
    known = KnownLogits(store)
    places_N = known.find(pa.chunked_array([pa.array(test.texts, pa.large_string())]))
    missing = int((places_N < 0).sum())
    if missing:
        raise ConfigError(
            f"--teacher-labels {uri}: lacks {missing:,} of the --test rows: label them with zsd label (rows that it "
            "rejected are in rejected/ there)"
        )
    assert test.gold is not None, "read_gold raises without a label column"
    probs_NK = plain_recipe(store).probs(*known.take(places_N))
    metrics = classification_metrics(test.gold, probs_NK, list(source.manifest["labels"]["names"]))
    return {name: metrics[name] for name in FIGURES}


def _cell(config: AblationConfig, step: Step, seed: int, test: GoldRows, arguments: dict[str, Any]) -> dict[str, float]:
    """Train and score one cell; what is done already, and on the same rows, is not done again.

    Raises:
        OutputError: its student was trained with other options.
    """
    folder = storage.join(config.output, f"{step.name}-seed{seed}")
    epochs = {} if config.epochs is None else {"num_train_epochs": config.epochs}
    store = config.ensemble if step.ensemble else config.soft_labels
    assert store is not None, "an ensemble step is there only where there is an ensemble"
    card = distill(
        DistillConfig(
            soft_labels=store,
            output=folder,
            student=config.student,
            test=config.test,
            test_text_column=config.text_column,
            limit=config.rows,
            ray_address=config.ray_address,
            **step.changes,
        ),
        {**epochs, **arguments, "seed": seed},
    )
    assert test.gold is not None, "read_gold raises without a label column"
    rows, file = checksum(repr((test.texts, test.gold.tolist())).encode()), storage.join(folder, "score.json")
    if storage.exists(file):
        score = read_json(file)
        if score.pop("scored_on", None) == rows:
            return score
    student = load_student(folder, precision="bf16" if bf16_is_fast(gpu=False) else "fp32")
    metrics = classification_metrics(test.gold, student.predict(test.texts), list(student.names))
    student.close()
    score = {name: metrics[name] for name in FIGURES}
    score["heldout_agreement"] = card["heldout"]["agreement"]
    write_json(file, {**score, "scored_on": rows})
    return score


def _spread(scores: list[dict[str, float]]) -> dict[str, Any]:
    """Mean and standard deviation of every figure over the seeds, and the single accuracies."""
    figures: dict[str, Any] = {"accuracies": [score["accuracy"] for score in scores]}
    for name in scores[0]:
        values = [score[name] for score in scores]
        figures[name] = statistics.fmean(values)
        figures[f"{name}_spread"] = statistics.stdev(values) if len(values) > 1 else None
    return figures


def table_line(result: dict[str, Any], first: dict[str, Any]) -> str:
    """One step as a line for a terminal."""
    spread = "" if result["accuracy_spread"] is None else f" ± {100 * result['accuracy_spread']:.1f}"
    gain = 100 * (result["accuracy"] - first["accuracy"])
    return f"{result['step']:<14} accuracy {100 * result['accuracy']:.1f}{spread}, {gain:+.1f} on {first['step']}"
