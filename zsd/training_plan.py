"""What a distill job comes to: its students, the recipe of their labels, the reviewed rows, and what makes it this job.

Legend: N rows, K labels.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zsd import storage
from zsd.config import DistillConfig
from zsd.errors import ConfigError
from zsd.gold import GoldRows, read_gold, read_reviewed
from zsd.shards import Store, checksum, read_json
from zsd.soft_labels import Recipe, fit_recipe
from zsd.students.folder import CARD, STUDENT, checkpoint_here
from zsd.students.spec import default_encoder, parse_student
from zsd.teachers.nli import absolute_checkpoint, checkpoint_fingerprint
from zsd.training import Objective
from zsd.training_data import heldout_mask, text_keys
from zsd.training_job import CHECKPOINTS, TrainTask


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """A distill job.

    Args:
        tasks: one for each student, the first the one that goes to ``student/``.
        identity: what makes two runs the same job.
        remarks: what the user should know of it.
    """

    tasks: tuple[TrainTask, ...]
    identity: dict[str, Any]
    remarks: tuple[str, ...]


def plan_training(config: DistillConfig, arguments: dict[str, Any]) -> TrainingPlan:
    """Read what a job is given and fit the recipe.

    Raises:
        InputError: the store, a student or the reviewed rows are not what they should be.
    """
    store = soft_label_store(config.soft_labels)
    labels = store.manifest["labels"]
    if labels["multi_label"] and config.balance:
        raise ConfigError("--balance is for labels of which each row has one: leave it away with --multi-label")
    reviewed = _Reviewed(config, store)
    recipe = fit_recipe(store, method=config.calibrate, gold=reviewed.calibrating or None)
    task: dict[str, Any] = {
        "store": store.root,
        "teacher": str(store.manifest["teacher"]),
        "recipe": recipe,
        "gold": reviewed.probs,
        "new_gold": reviewed.unknown,
        "excluded": reviewed.excluded,
        "limit": config.limit,
        "heldout_fraction": config.heldout_fraction,
        "weight": config.weight,
        "balance": config.balance,
        "gold_weight": config.gold_weight,
        "arguments": arguments,
    }
    remarks = list(reviewed.remarks)
    if recipe.mixing is not None:
        losses = "log loss of those not fitted to {mixed_loss:.3f} instead of {loss:.3f}".format(**recipe.facts["gold"])
        remarks.append(f"{recipe.facts['gold_rows']:,} reviewed rows mix the logits of the classes: {losses}")
    tasks = []
    for number, name in enumerate(_students(config, store)):
        folder, spec = folder_name(name), parse_student(name)
        start = earlier_student(checkpoint_here(name))
        remarks += _about_start(name, start, labels["names"])
        frozen = config.freeze_embeddings
        if frozen is None:
            frozen = start["freeze_embeddings"] if start else spec.layers is not None
        objective = Objective(
            multi_label=labels["multi_label"],
            # A temperature that was fitted to reviewed rows is there to be learned, not to be taken off again.
            temperature=1.0 if reviewed.calibrating else recipe.temperature,
            hard_labels=config.hard_labels,
            freeze_embeddings=frozen,
            patience=config.patience,
        )
        output = storage.resolve(config.output).uri
        target = storage.join(output, STUDENT if number == 0 else f"{STUDENT}-{folder}")
        work = storage.join(output, CHECKPOINTS, folder)
        rounds = config.rounds
        if spec.kind != "encoder":
            rounds = 0
            unused = _only_encoders(config, arguments)
            remarks += [f"{name}: --{one} is for encoder students and changes nothing" for one in unused]
        events = storage.join(output, "tensorboard", *([folder] if number else []))
        own: dict[str, Any] = {"target": target, "work": work, "tensorboard": events, "rounds": rounds}
        tasks.append(TrainTask(student=name, objective=objective, **own, **task))
    _check_folders(tasks)
    return TrainingPlan(tasks=tuple(tasks), identity=_identity(config, store, tasks), remarks=tuple(remarks))


def soft_label_store(uri: str) -> Store:
    """A store that `zsd label` made.

    Raises:
        ConfigError: another job did.
        InputError: there is none.
    """
    store = Store(uri)
    if store.manifest["job"] != "label":
        raise ConfigError(f"{uri}: holds predictions, not soft labels: give the output of zsd label")
    return store


def _only_encoders(config: DistillConfig, arguments: dict[str, Any]) -> list[str]:
    """Options that were given and that only the training of an encoder knows."""
    names = [name for name in ("rounds", "balance", "hard_labels", "patience") if getattr(config, name)]
    if config.freeze_embeddings is not None:
        names.append("freeze_embeddings")
    return [name.replace("_", "-") for name in names] + [name for name in arguments if name != "seed"]


def _check_folders(tasks: list[TrainTask]) -> None:
    for one, other in itertools.combinations(tasks, 2):
        if one.work == other.work:
            name = folder_name(one.student)
            raise ConfigError(f"--students {one.student} {other.student}: both would be called {name}: rename one")


class _Reviewed:
    """Reviewed rows and test rows of a job.

    Attributes:
        probs: K probabilities by text id, of the reviewed rows.
        classes: their classes by text, as `fit_recipe` takes them.
        calibrating: those of `classes` that are not held out.
        unknown: texts of them that the store does not hold.
        excluded: text ids of the test rows.
        remarks: what was left out.
    """

    def __init__(self, config: DistillConfig, store: Store) -> None:
        self.probs: dict[str, tuple[float, ...]] = {}
        self.classes: dict[str, Any] = {}
        self.calibrating: dict[str, Any] = {}
        self.unknown: tuple[str, ...] = ()
        self.remarks: list[str] = []
        labels = store.manifest["labels"]
        names, multi_label = labels["names"], labels["multi_label"]
        self.excluded = frozenset(text_keys(_test_texts(config, names, multi_label)))
        gold = read_reviewed(config, names, multi_label=multi_label)
        if gold is None:
            return
        self._take(gold, len(names))
        if not self.classes:
            raise ConfigError(f"--gold {' '.join(config.gold)}: all its rows are among --test: give others")
        known = _stored_ids(store, self.probs)
        keys = text_keys(list(self.classes))
        self.unknown = tuple(text for text, key in zip(self.classes, keys, strict=True) if key not in known)
        held_N = heldout_mask([known.get(key, key) for key in keys], config.heldout_fraction)
        rows = zip(self.classes.items(), held_N, strict=True)
        self.calibrating = {text: row for (text, row), held in rows if not held}

    def _take(self, gold: GoldRows, labels: int) -> None:
        assert gold.gold is not None, "read_gold raises without a label column"
        one_hot = gold.gold if gold.gold.ndim == 2 else np.eye(labels, dtype=np.int64)[gold.gold]
        tested = 0
        for text, key, row in zip(gold.texts, text_keys(gold.texts), one_hot.tolist(), strict=True):
            if key in self.excluded:
                tested += 1
                continue
            if self.probs.setdefault(key, tuple(map(float, row))) != tuple(map(float, row)):
                raise ConfigError(f"--gold: {text[:60]!r} is there twice with different labels: keep one of them")
            self.classes[text] = row if gold.gold.ndim == 2 else int(np.argmax(row))
        if tested:
            self.remarks.append(f"{tested:,} row(s) of --gold are among --test and are not trained on")


def _stored_ids(store: Store, wanted: Collection[str]) -> dict[str, str]:
    """The row id of every text id that is wanted and in the store."""
    found: dict[str, str] = {}
    for table in store.tables(["id", "text"]):
        for key, row in zip(text_keys(table["text"].to_pylist()), table["id"].to_pylist(), strict=True):
            if key in wanted:
                found[key] = row
    return found


def _test_texts(config: DistillConfig, names: list[str], multi_label: bool) -> list[str]:
    if not config.test:
        return []
    return read_gold(
        config.test,
        text_column=config.test_text_column,
        label_column="",
        names=names,
        multi_label=multi_label,
        required=False,
        flags="--test-",
    ).texts


def _students(config: DistillConfig, store: Store) -> list[str]:
    """Every ``--student``, checkpoints named absolutely, or the default."""
    default = default_encoder(str(store.manifest["teacher"]))
    return [absolute_checkpoint(name) for name in config.students or (config.student or default,)]


def folder_name(student: str) -> str:
    """What a student is called in the output directory: ``layers:half`` is ``layers-half``."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", student.rstrip("/").rpartition("/")[2]).lstrip(".-") or "checkpoint"


def earlier_student(name: str) -> dict[str, Any] | None:
    """The card of the student that `zsd distill` left in a directory; None where it is something else."""
    card = Path(name) / CARD
    return read_json(str(card)) if card.is_file() else None


def _about_start(name: str, card: dict[str, Any] | None, names: list[str]) -> list[str]:
    """What a student that was trained before brings along; its output layer only fits the same classes."""
    if card is None:
        return []
    before = card["labels"]["names"]
    if before == names:
        return [f"going on with the student of {name}, output layer and all"]
    told = ", ".join(map(repr, before))
    return [f"the student of {name} knows other classes ({told}): its output layer starts afresh"]


def _identity(config: DistillConfig, store: Store, tasks: list[TrainTask]) -> dict[str, Any]:
    shards = "".join(shard["checksum"] for shard in store.manifest["shards"])
    task = tasks[0]
    reviewed = repr(sorted(task.gold.items())) if task.gold else ""
    return {
        "soft_labels": checksum(shards.encode()),
        "students": [task.student for task in tasks],
        "checkpoints": [_fingerprint(task.student) for task in tasks],
        "recipe": _rounded(task.recipe),
        "gold": checksum(reviewed.encode()) if task.gold else None,
        "test": checksum("".join(sorted(task.excluded)).encode()) if task.excluded else None,
        "limit": config.limit,
        "heldout_fraction": config.heldout_fraction,
        "objectives": [asdict(task.objective) for task in tasks],
        "weight": config.weight,
        "balance": config.balance,
        "gold_weight": config.gold_weight,
        "rounds": config.rounds,
        "training_arguments": task.arguments,
    }


def _rounded(recipe: Recipe) -> dict[str, Any]:
    """A recipe up to what another processor may compute differently."""
    prior = None if recipe.prior is None else [round(one, 3) for one in recipe.prior]
    mixed = {} if recipe.mixing is None else {"mixed": True}  # by how much follows from the gold rows
    return {"method": recipe.method, "temperature": round(recipe.temperature, 3), "prior": prior} | mixed


def _fingerprint(student: str) -> str | None:
    """What a checkpoint on this machine or in a store holds: one that changes under its name is another job."""
    here = Path(checkpoint_here(student))
    return checkpoint_fingerprint(here) if here.is_dir() else None
