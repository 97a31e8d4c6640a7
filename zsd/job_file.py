"""Job files: TOML with one table a job, and what each command takes from it.

::

    output = "out"      where label, distill and benchmark write, and find what the one before has written
    [label]             the fields of the job's configuration; so too [distill], [nightly] and each other of `TABLES`
    [training]          any field of transformers TrainingArguments

A flag given on the command line wins. An unknown table or key is an error that names the nearest valid one.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

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
from zsd.errors import ConfigError
from zsd.nightly_config import NightlyConfig, RollbackConfig
from zsd.options import Options, nearest
from zsd.push_config import PushConfig
from zsd.serve_config import ServeConfig

TRAINING = "training"
TABLES: dict[str, type[Options]] = {
    "label": LabelConfig,
    "distill": DistillConfig,
    "evaluate": EvaluateConfig,
    "predict": PredictConfig,
    "annotate": AnnotateConfig,
    "benchmark": BenchmarkConfig,
    "compile": CompileConfig,
    "ablation": AblationConfig,
    "nightly": NightlyConfig,
    "rollback": RollbackConfig,
    "push": PushConfig,
    "serve": ServeConfig,
}
FROM_OUTPUT = {
    "label": ("output",),
    "distill": ("output", "soft_labels"),
    "evaluate": ("model",),
    "predict": ("model",),
    "annotate": ("output",),
    "benchmark": ("output", "model"),
    "compile": (),
    "ablation": ("soft_labels",),
    "nightly": ("output",),
    "rollback": (),
    "push": ("model",),
    "serve": ("model",),
}
"""Options that are the ``output`` at the top where their table does not say otherwise."""
IN_RUN = {("benchmark", "data"): "test", ("benchmark", "label_column"): "label_column"}
"""Keys that `zsd run` knows by another name, or in one table only."""


def read_job_file(path: str) -> dict[str, Any]:
    """A job file as nested dictionaries, its tables and keys checked.

    Raises:
        ConfigError: the file cannot be read, is not TOML, or has a table or key that does not exist.
    """
    try:
        with Path(path).open("rb") as file:
            content = tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the job file: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None
    for name, value in content.items():
        if name == "output":
            continue
        if name != TRAINING and name not in TABLES:
            raise ConfigError(f"{path}: unknown key {name!r}{nearest(name, ['output', TRAINING, *TABLES])}")
        if not isinstance(value, dict):
            raise ConfigError(f"{path}: {name} must be a table, written [{name}]")
        known = {one.name for one in fields(TABLES[name])} if name in TABLES else value.keys()
        for key in sorted(value.keys() - known):
            raise ConfigError(f"{path}: unknown key {key!r} in [{name}]{nearest(key, known)}")
    return content


def job_options(content: Mapping[str, Any], table: str) -> dict[str, Any]:
    """What a job file says about one job."""
    top: dict[str, Any] = dict.fromkeys(FROM_OUTPUT[table], content["output"]) if "output" in content else {}
    return top | dict(content.get(table, {}))


def run_options(content: Mapping[str, Any]) -> dict[str, Any]:
    """What a job file says about `zsd run`: the tables of its three jobs, as one mapping.

    Raises:
        ConfigError: a table holds a key that `zsd run` decides itself: it must not be lost without a word.
    """
    known = {"label": LabelConfig, "distill": RunConfig, "benchmark": None}
    merged = {"output": content["output"]} if "output" in content else {}
    for table, config in known.items():
        names = {one.name for one in fields(config)} - {"output"} if config else set()
        for key, value in content.get(table, {}).items():
            if key not in names and (table, key) not in IN_RUN:
                hint = "give output at the top" if key in FROM_OUTPUT[table] else f"or run zsd {table} by itself"
                raise ConfigError(f"zsd run does not take [{table}] {key}: remove it, {hint}")
            merged[IN_RUN.get((table, key), key)] = value
    return merged


def nightly_options(content: Mapping[str, Any]) -> dict[str, Any]:
    """What a job file says about `zsd nightly`: how to label and distill, and its own table, as one mapping.

    Raises:
        ConfigError: a table holds a key that `zsd nightly` decides itself: it must not be lost without a word.
    """
    names = {one.name for one in fields(NightlyConfig)}
    merged: dict[str, Any] = {"output": content["output"]} if "output" in content else {}
    for table in ("label", "distill", "nightly"):
        for key, value in content.get(table, {}).items():
            if key not in names or (key == "output" and table != "nightly"):
                raise ConfigError(f"zsd nightly does not take [{table}] {key}: remove it, or give it in [nightly]")
            merged[key] = value
    return merged
