"""Where TensorBoard's events of a training go, with a tiny student."""

from pathlib import Path
from typing import Any

import pytest
from transformers import TrainerCallback

from tests.unit.test_training import Setup
from zsd import storage
from zsd.distributed.train_worker import _training_arguments
from zsd.errors import ConfigError
from zsd.training_events import OWN_FOLDER, keep_events

STEPS: dict[str, Any] = {
    "report_to": "tensorboard",
    "max_steps": 4,
    "save_strategy": "steps",
    "save_steps": 2,
    "eval_strategy": "steps",
    "eval_steps": 2,
}


def events(uri: str) -> list[str]:
    return storage.list_names(uri, prefix="events.out.tfevents.")


class Seen(TrainerCallback):  # type: ignore[misc]
    """What is there at every checkpoint."""

    def __init__(self, uri: str) -> None:
        self.uri, self.found = uri, list[int]()

    def on_save(self, *_: Any, **__: Any) -> None:
        self.found.append(len(events(self.uri)))


@pytest.fixture(autouse=True)
def no_own_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(OWN_FOLDER, raising=False)


@pytest.mark.parametrize("kind", ["disk", "store"])
def test_events_are_in_the_folder_during_and_after_the_training(kind: str, tmp_path: Path) -> None:
    base = str(tmp_path) if kind == "disk" else f"fsspec+memory://bucket/{tmp_path.name}"
    uri = storage.join(base, "tensorboard", "round-1")
    trainer = Setup(tmp_path, rows=60).trainer(**STEPS)
    keep_events(trainer, uri, tmp_path / "scratch" / "events")
    seen = Seen(uri)
    trainer.add_callback(seen)
    trainer.train()
    assert seen.found == [1, 1]
    (name,) = events(uri)
    assert b"eval/agreement" in storage.read_bytes(storage.join(uri, name))
    assert (tmp_path / "scratch").exists() == (kind == "store")


def test_a_folder_of_the_user_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(OWN_FOLDER, str(tmp_path / "mine"))
    trainer = Setup(tmp_path, rows=60).trainer(**STEPS)
    keep_events(trainer, str(tmp_path / "tensorboard"), tmp_path / "scratch")
    trainer.train()
    assert len(events(str(tmp_path / "mine"))) == 1
    assert not (tmp_path / "tensorboard").exists()


def test_nothing_is_written_where_nobody_asked_for_it(tmp_path: Path) -> None:
    trainer = Setup(tmp_path, rows=60).trainer(max_steps=1)
    before = list(trainer.callback_handler.callbacks)
    keep_events(trainer, str(tmp_path / "tensorboard"), tmp_path / "scratch")
    assert trainer.callback_handler.callbacks == before


def test_a_report_that_does_not_exist_or_is_not_installed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--report_to nowhere: nowhere is not supported"):
        _training_arguments(str(tmp_path), {"report_to": "nowhere", "use_cpu": True})
    with pytest.raises(ConfigError, match="--report_to azure_ml: AzureMLCallback requires azureml to be installed"):
        _training_arguments(str(tmp_path), {"report_to": "azure_ml", "use_cpu": True})
    args = _training_arguments(str(tmp_path), {"report_to": "tensorboard", "use_cpu": True})
    assert args.report_to == ["tensorboard"]
