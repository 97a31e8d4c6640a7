"""Drop-in for Hugging Face's research script ``distill_classifier.py``: its flags, its defaults, its output directory.

What it could not do comes along: labelling and training run on Ray, soft labels are kept, an interrupted run resumes,
agreement is measured on held-out rows, ``--multi_label`` trains with binary cross-entropy, an unknown entailment class
is an error.
"""

from __future__ import annotations

import datetime
import json
import shutil
import sys
import typing
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from zsd import storage
from zsd.config import DistillConfig, LabelConfig
from zsd.console import report_error, say
from zsd.corpus import resolve_sources
from zsd.distributed.label import label
from zsd.distributed.train import distill
from zsd.errors import ConfigError, ZsdError
from zsd.options import nearest
from zsd.students.folder import STUDENT
from zsd.training_flags import FlagParser, argument_hints, check_types, parse_training_flags

DEFAULTS: dict[str, Any] = {
    "per_device_train_batch_size": 32,
    "per_device_eval_batch_size": 128,
    "num_train_epochs": 1.0,
    # The Trainer's own values, where zsd's defaults differ.
    "learning_rate": 5e-5,
    "warmup_steps": 0,
    "weight_decay": 0.0,
    "bf16": False,
    "train_sampling_strategy": "random",
    "seed": 42,
}
RENAMED = {"no_cuda": "use_cpu", "evaluation_strategy": "eval_strategy", "warmup_ratio": "warmup_steps"}
"""Flags of the script's time that `TrainingArguments` has renamed since."""


@dataclass(kw_only=True)
class ScriptArguments:
    """The flags of the script that are not `TrainingArguments`."""

    data_file: str = field(metadata={"help": "Text file with one unlabeled instance per line."})
    class_names_file: str = field(metadata={"help": "Text file with one class name per line."})
    output_dir: str = field(metadata={"help": "Where the student and the soft labels are written."})
    teacher_name_or_path: str = field(default="roberta-large-mnli", metadata={"help": "NLI teacher."})
    student_name_or_path: str = field(default="distilbert-base-uncased", metadata={"help": "Student to fine-tune."})
    hypothesis_template: str = field(default="This example is {}.", metadata={"help": "Must include {{}}."})
    multi_label: bool = field(default=False, metadata={"help": "Several classes may be true of one text."})
    multi_class: bool = field(default=False, metadata={"help": "The same as --multi_label."})
    temperature: float = field(default=1.0, metadata={"help": "Temperature of the soft labels."})
    teacher_batch_size: int | None = field(
        default=None, metadata={"help": "Accepted; zsd batches by tokens, so it has no effect."}
    )
    use_fast_tokenizer: bool = field(default=True, metadata={"help": "Must stay true: zsd needs fast tokenizers."})
    overwrite_output_dir: bool = field(
        default=False, metadata={"help": "Move what is in --output_dir aside instead of resuming it."}
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; returns the exit code (0 done, 2 wrong input, 1 anything else)."""
    try:
        _main(list(sys.argv[1:] if argv is None else argv))
    except ZsdError as error:
        return report_error(error, "distill_classifier")
    except KeyboardInterrupt:
        say("interrupted: the same command goes on from here")
        return 130
    return 0


def _main(argv: list[str]) -> None:
    script, training = parse(argv)
    _check(script)
    if script.teacher_batch_size is not None:
        say("--teacher_batch_size has no effect: zsd batches by tokens and chooses the size itself")
    do_train, do_eval = (bool(training.pop(name, True)) for name in ("do_train", "do_eval"))
    config = LabelConfig(
        data=(script.data_file,),
        output=script.output_dir,
        labels=script.class_names_file,
        template=(script.hypothesis_template,),
        multi_label=script.multi_label or script.multi_class,
        temperature=script.temperature,
        teacher=script.teacher_name_or_path,
    )
    config.label_set()
    resolve_sources(config.data)
    output = Path(storage.resolve(script.output_dir).path)
    if script.overwrite_output_dir:  # only now: a mistake above must leave everything where it is
        _move_aside(output)
    label(config)
    if not do_train:
        return
    card = distill(
        DistillConfig(
            soft_labels=script.output_dir,
            output=script.output_dir,
            student=script.student_name_or_path,
            calibrate="none",
        ),
        DEFAULTS | training,
    )
    for file in sorted((output / STUDENT).iterdir(), key=lambda file: file.name == "config.json"):
        shutil.copy2(file, output / file.name)
    if do_eval:
        held_out = card["heldout"]
        print(
            f"Agreement of student and teacher predictions: {held_out['agreement'] * 100:0.2f}% "
            f"(on {held_out['rows']:,} rows kept out of training)"
        )


def parse(argv: list[str]) -> tuple[ScriptArguments, dict[str, Any]]:
    """The script's flags, or its one JSON file, as its own arguments and the training arguments that were given.

    Raises:
        ConfigError: a flag or key is missing, unknown or wrong.
    """
    if len(argv) == 1 and argv[0].endswith(".json"):
        return _parse_json(argv[0])
    epilog = "Every flag of transformers TrainingArguments is taken too."
    parser = FlagParser(ScriptArguments, prog="distill_classifier", allow_abbrev=False, epilog=epilog)
    script, rest = parser.parse_args_into_dataclasses(argv, return_remaining_strings=True)
    own_flags = [f"--{one.name}" for one in fields(ScriptArguments)]
    flags = [_renamed(word) for word in rest]
    return script, parse_training_flags(flags, {}, own_flags=own_flags, defaults=DEFAULTS)


def _parse_json(path: str) -> tuple[ScriptArguments, dict[str, Any]]:
    own_hints = typing.get_type_hints(ScriptArguments)
    known = own_hints | argument_hints()
    own: dict[str, Any] = {}
    training: dict[str, Any] = {}
    for key, value in _read_json(path).items():
        name = RENAMED.get(key, key)
        if name not in known:
            raise ConfigError(f"{path}: unknown key {key!r}{nearest(key, known)}")
        (own if name in own_hints else training)[name] = value
    for name in ("data_file", "class_names_file", "output_dir"):
        if name not in own:
            raise ConfigError(f"{path}: {name} is missing")
    script = ScriptArguments(**check_types(own, own_hints))
    return script, parse_training_flags([], training, defaults=DEFAULTS)


def _check(script: ScriptArguments) -> None:
    """Refuse what the script took and zsd would take for something else."""
    if not script.use_fast_tokenizer:
        raise ConfigError("--use_fast_tokenizer false: zsd needs fast tokenizers: leave the flag away")
    if not storage.resolve(script.output_dir).is_local:
        raise ConfigError(
            f"--output_dir {script.output_dir}: must be a local directory (zsd label and distill take URIs)"
        )
    file = Path(script.data_file)
    if file.is_file() and file.suffix != ".txt":
        raise ConfigError(f"--data_file {file}: holds one text a line: name it .txt (zsd label reads other formats)")


def _renamed(word: str) -> str:
    name, equals, value = word.removeprefix("--").partition("=")
    return f"--{RENAMED[name]}{equals}{value}" if word.startswith("--") and name in RENAMED else word


def _read_json(path: str) -> dict[str, Any]:
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(f"{path}: cannot be read as JSON: {error}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: must hold one JSON object with the flags as keys")
    return content


def _move_aside(directory: Path) -> None:
    directory = directory.resolve()
    if directory.is_dir() and any(directory.iterdir()):
        stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%S")
        aside = directory.with_name(f"{directory.name}.before-{stamp}")
        directory.rename(aside)
        say(f"--overwrite_output_dir: what was in {directory} is now in {aside}")
