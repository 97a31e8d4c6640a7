"""TensorBoard's events of a training, where its user looks for them: `OUT/tensorboard/`, not a scratch folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations import TensorBoardCallback

from zsd import storage

OWN_FOLDER = "TENSORBOARD_LOGGING_DIR"
"""Environment variable of transformers: a folder that the user chose."""


def keep_events(trainer: Trainer, uri: str, scratch: Path) -> None:
    """Have the events of ``--report_to tensorboard`` written to a folder; without that, or with `OWN_FOLDER`, nothing.

    Args:
        trainer: has not begun yet.
        uri: the folder. On a disk it is written to as the training goes on; in an object store, at every checkpoint
            and at the end.
        scratch: local folder that the events are gathered in for an object store.
    """
    if OWN_FOLDER in os.environ:
        return
    for callback in trainer.callback_handler.callbacks:
        if isinstance(callback, TensorBoardCallback):
            place = storage.resolve(uri)
            callback.logging_dir = place.path if place.is_local else str(scratch)
            if not place.is_local:
                trainer.add_callback(EventCopies(scratch, place))
            return


class EventCopies(TrainerCallback):  # type: ignore[misc]
    """Copies the events to an object store, where no file can be appended to.

    Args:
        folder: local folder that TensorBoard's callback, which comes before this one, writes to.
        place: where they are copied to.
    """

    def __init__(self, folder: Path, place: storage.Location) -> None:
        self.folder, self.place = folder, place

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Copy what is written so far."""
        self._copy(state)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Copy all: TensorBoard's callback has closed its file."""
        self._copy(state)

    def _copy(self, state: TrainerState) -> None:
        if state.is_world_process_zero:  # the one that has written some
            storage.persistently(self.place, self._put)

    def _put(self) -> None:
        here, there = pafs.LocalFileSystem(), self.place
        there.fs.create_dir(there.path, recursive=True)
        pafs.copy_files(str(self.folder), there.path, source_filesystem=here, destination_filesystem=there.fs)
