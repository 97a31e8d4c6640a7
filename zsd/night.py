"""One night: its name, its folder, what it was decided to build on, and what came of it.

::

    OUTPUT/nights/NIGHT/
      job-nightly.json       what this night was asked to do
      plan.json              what it builds on, decided once: stores to reuse, a student to start from, the night before
      previous.json          profile of the night before, as it was then: a rerun compares with the same rows
      soft_labels/, student/ and the rest of what zsd label and zsd distill leave
      profile.json           of tonight's rows
      drift.json, drift.html tonight's rows against production's, and against the night before; not of a first night
      gate.json
      night.json             what came of it; written last
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import PurePosixPath
from typing import Any

from zsd import storage
from zsd.corpus import resolve_sources
from zsd.nightly_config import NightlyConfig
from zsd.output import WORK, claim
from zsd.registry import Registry
from zsd.shards import MANIFEST, checksum, read_json, store_root, write_json

NIGHTS = "nights"
PLAN = "plan.json"
PROFILE = "profile.json"
PREVIOUS = "previous.json"
RESULT = "night.json"
HOW = frozenset(
    {"output", "registry", "night", "keep", "lock_expiry", "mlflow", "ray_address", "cpu_actors", "gpu_actors"}
    | {"cpus_per_actor", "num_workers", "min_workers", "reuse", "max_rejected", "target_file_rows"}
)
"""Options that say where and how a night runs: they do not make it another night."""
INPUTS = frozenset({"data", "labels", "label", "test", "label_column", "text_column", "gold"})
"""Options that name inputs: what these hold counts, or makes a new night of the same recipe."""


@dataclass(frozen=True, kw_only=True)
class Night:
    """A night that is asked for.

    Attributes:
        name: given, or made of its inputs and options.
        folder: where it works.
        identity: what makes two runs the same night; JSON values.
        recipe: what of it does not change from night to night as the corpus grows; JSON values.
    """

    name: str
    folder: str
    identity: dict[str, Any]
    recipe: dict[str, Any]

    @classmethod
    def of(cls, config: NightlyConfig, arguments: dict[str, Any]) -> Night:
        """The night that these options mean.

        Raises:
            InputError: the corpus, the test rows or the class names cannot be found.
        """
        options = {one.name: getattr(config, one.name) for one in fields(config) if one.name not in HOW}
        recipe = {name: value for name, value in options.items() if name not in INPUTS | set(asdict(config.bounds))}
        recipe |= {"labels": config.label_set().to_dict(), "training_arguments": arguments}
        inputs = {
            name: [asdict(source) for source in resolve_sources(getattr(config, name), output=config.output)]
            for name in ("data", "test", "gold")
            if getattr(config, name)
        }
        identity: dict[str, Any] = json.loads(json.dumps({**options, **recipe, "inputs": inputs}))
        name = config.night or f"night-{checksum(json.dumps(identity, sort_keys=True).encode())[:10]}"
        return cls(
            name=name,
            folder=storage.join(config.output, NIGHTS, name),
            identity=identity,
            recipe=json.loads(json.dumps(recipe)),
        )

    @property
    def key(self) -> str:
        """Tells it from a night of the same name elsewhere, or of other inputs after its folder is gone."""
        return checksum(json.dumps([self.folder, self.identity], sort_keys=True).encode())

    def result(self) -> dict[str, Any] | None:
        """What came of it; None while it is not finished.

        Raises:
            OutputError: another night of this name was.
        """
        file = self.path(RESULT)
        if not storage.exists(file):
            return None
        claim(self.folder, "nightly", self.identity)
        return read_json(file)

    def begin(self, config: NightlyConfig, registry: Registry) -> dict[str, Any]:
        """Decide what it builds on, or read what an earlier attempt decided.

        Returns:
            ``number`` (nights are counted), ``reuse`` (stores whose logits are taken), ``start`` (the version whose
            student is trained on, or None) and ``previous`` (the latest finished night, or None). The profile of that
            night is copied, since `--keep` may delete it before a rerun asks for it.

        Raises:
            OutputError: the folder belongs to another night.
            StoreError: the profile of the previous night is damaged.
        """
        claim(self.folder, "nightly", self.identity)
        file = self.path(PLAN)
        if storage.exists(file):
            return read_json(file)
        others = other_nights(config.output, self.name)
        labelled = [folder for _, folder in others if storage.exists(storage.join(folder, MANIFEST))]
        pointer = registry.current()
        version = pointer.version if pointer else None
        made = registry.document(version, "provenance") if version else {}
        same_student = made.get("student_asked") == config.student
        reuse = dict.fromkeys([*labelled[-1:], *(one for one in labelled if one == made.get("store"))])
        reuse |= dict.fromkeys(store_root(one) for one in config.reuse)
        previous = _latest_with_profile([folder for _, folder in others])
        if previous is not None:
            self.write(PREVIOUS, read_json(storage.join(previous, PROFILE)))
        plan = {
            "number": 1 + max((number for number, _ in others), default=0),
            "reuse": list(reuse),
            "start": version if same_student and not config.from_scratch else None,
            "previous": PurePosixPath(previous).name if previous else None,
        }
        write_json(file, plan)
        return plan

    def give_way(self) -> None:
        """Forget what was decided where not a row is labelled yet: inputs that are put right may have the same name."""
        if not any(storage.exists(self.path(name)) for name in WORK["label"]):
            for name in (PLAN, PREVIOUS):
                storage.delete_file(self.path(name))

    def write(self, name: str, content: dict[str, Any]) -> None:
        """Keep a document of the night."""
        write_json(self.path(name), content)

    def path(self, name: str) -> str:
        """Where a file or folder of the night lies."""
        return storage.join(self.folder, name)


def other_nights(output: str, name: str) -> list[tuple[int, str]]:
    """Number and folder of every other night that was begun, oldest first."""
    folder = storage.join(output, NIGHTS)
    found = []
    for info in storage.infos(storage.resolve(folder)):
        night = storage.join(folder, info.base_name)
        if not info.is_file and info.base_name != name and storage.exists(storage.join(night, PLAN)):
            found.append((int(read_json(storage.join(night, PLAN))["number"]), night))
    return sorted(found)


def open_plans(output: str, name: str) -> list[dict[str, Any]]:
    """What the other nights that are begun and not finished decided: run again, they build on it."""
    nights = [night for _, night in other_nights(output, name)]
    return [read_json(storage.join(one, PLAN)) for one in nights if not storage.exists(storage.join(one, RESULT))]


def _latest_with_profile(folders: list[str]) -> str | None:
    """The last of these nights that is finished and has a profile; promoted or refused, its rows were there."""
    there = [one for one in folders if all(storage.exists(storage.join(one, name)) for name in (RESULT, PROFILE))]
    return there[-1] if there else None


def forget_nights(output: str, name: str, keep: int, used: set[str]) -> list[str]:
    """Delete the folders of all but the newest nights; returns them. Nights that are not finished are kept.

    Args:
        output: where the nights work.
        name: the night that is running; it counts as one that is kept.
        keep: how many.
        used: folders that are kept whatever their age.
    """
    finished = [one for _, one in other_nights(output, name) if storage.exists(storage.join(one, RESULT))]
    gone = [one for one in finished[: max(0, len(finished) - (keep - 1))] if one not in used]
    for folder in gone:
        storage.delete_folder(folder)
    return gone
