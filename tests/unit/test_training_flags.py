from __future__ import annotations

import json
import sys
from dataclasses import fields
from typing import Any

import pytest
from transformers import TrainingArguments
from transformers.integrations import integration_utils

from zsd.errors import ConfigError
from zsd.training_flags import FlagParser, argument_hints, parse_training_flags


def test_every_field_is_a_flag() -> None:
    parser = FlagParser(TrainingArguments, allow_abbrev=False, add_help=False)
    flags = {option for action in parser._actions for option in action.option_strings}
    names = {one.name for one in fields(TrainingArguments) if one.init}
    assert {f"--{name}" for name in names} <= flags
    assert argument_hints().keys() == names


def test_nothing_given_is_nothing() -> None:
    assert parse_training_flags([], {}) == {}


def test_what_was_given_comes_back_typed_and_nothing_else() -> None:
    flags = ["--learning_rate", "3e-5", "--max-steps=7", "--fp16", "--no_dataloader_pin_memory", "--seed", "1"]
    flags += ["--label_names", "a", "b", "--tf32", "true", "--eval_strategy", "no", "--report_to", "none"]
    flags += ["--lr_scheduler_kwargs", '{"num_cycles": 2}', "--liger_kernel_config", '{"rope": true}', "--fsdp"]
    given = parse_training_flags(flags, {"seed": 9, "num_train_epochs": 3, "lr_scheduler_type": "cosine"})
    assert given == {
        "learning_rate": 3e-5,
        "max_steps": 7,
        "fp16": True,
        "dataloader_pin_memory": False,
        "seed": 1,
        "label_names": ["a", "b"],
        "tf32": True,
        "eval_strategy": "no",
        "report_to": "none",
        "fsdp": True,
        "lr_scheduler_kwargs": {"num_cycles": 2},
        "liger_kernel_config": {"rope": True},
        "num_train_epochs": 3.0,
        "lr_scheduler_type": "cosine",
    }
    assert type(given["num_train_epochs"]) is float
    assert json.loads(json.dumps(given)) == given


@pytest.mark.parametrize(
    ("flags", "table", "message"),
    [
        (["--learning_rat", "1"], {}, "'--learning_rat': did you mean '--learning_rate'"),
        (["--studnt", "x"], {}, "'--studnt': did you mean '--student'"),
        (["stray"], {}, "unknown argument 'stray'"),
        (["--learning_rate", "x"], {}, "--learning_rate.* invalid float value: 'x'"),
        (["--learning_rate", "nan"], {}, "--learning_rate is nan: it must be a finite number"),
        (["--bf16", "maybe"], {}, "--bf16"),
        (["--optim", "foo"], {}, "--optim.*'foo'"),
        (["--lr_scheduler_kwargs", "{a"], {}, "--lr_scheduler_kwargs is '{a': it must be a JSON object"),
        (["--lr_scheduler_kwargs", "a=1"], {}, "must be a JSON object"),
        (["--logging_steps", "0"], {}, "transformers refuses"),
        (["--warmup_steps", "-1"], {}, "transformers refuses"),
        (["--load_best_model_at_end", "--save_strategy", "epoch"], {}, "transformers refuses"),
        (["--output_dir", "x"], {}, "use --output"),
        (["--resume_from_checkpoint", "x"], {}, "not needed"),
        ([], {"learning_rat": 1}, r"unknown key 'learning_rat' in \[training\]: did you mean 'learning_rate'"),
        ([], {"num_train_epochs": "x"}, "--num_train_epochs is 'x': it must be of type float"),
        ([], {"max_steps": 1.5}, "--max_steps is 1.5: it must be of type int"),
        ([], {"seed": True}, "--seed is True"),
        ([], {"fp16": 1}, "--fp16 is 1: it must be of type bool"),
        ([], {"eval_strategy": "foo"}, "--eval_strategy is 'foo': use no, steps, epoch"),
        ([], {"label_names": "a"}, "--label_names is 'a'"),
    ],
)
def test_what_is_refused_is_one_line_that_names_it(flags: list[str], table: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        parse_training_flags(flags, table, own_flags=["--student"])
    assert "usage" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere", "--report_to nowhere: nowhere is not supported, only .*tensorboard"),
        ("azure_ml", "--report_to azure_ml: AzureMLCallback requires azureml to be installed. Run `pip install"),
        ("mlflow", "--report_to mlflow: MLflowCallback requires mlflow to be installed. Run `pip install mlflow`"),
        ("neptune", "--report_to neptune: NeptuneCallback requires the Neptune client library to be installed"),
    ],
)
def test_a_report_that_cannot_be_made_is_refused_before_any_work(
    name: str, message: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for library in ("azureml", "mlflow", "neptune"):
        monkeypatch.setattr(integration_utils, f"is_{library}_available", lambda: False)
    monkeypatch.setattr(sys, "unraisablehook", sys.__unraisablehook__)  # pytest's own keeps what a user would see
    with pytest.raises(ConfigError, match=message):
        parse_training_flags(["--report_to", name], {})
    assert capfd.readouterr() == ("", "")


def test_a_report_that_is_installed_is_taken() -> None:
    assert parse_training_flags([], {"report_to": ["tensorboard"]}) == {"report_to": ["tensorboard"]}
    assert parse_training_flags(["--report_to", "all"], {}) == {"report_to": "all"}


def test_other_defaults_count_in_what_goes_together() -> None:
    flags = ["--load_best_model_at_end"]
    assert parse_training_flags(flags, {}) == {"load_best_model_at_end": True}
    with pytest.raises(ConfigError, match="load_best_model_at_end"):
        parse_training_flags(flags, {}, defaults={"eval_strategy": "epoch"})
