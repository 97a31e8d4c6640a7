"""The encoder student in use: a transformers classifier on any engine that runs teachers.

Legend: N rows, K labels, L tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from zsd.buckets import LengthSample
from zsd.engines import load_engine
from zsd.engines.base import Placement
from zsd.engines.run import run_batches
from zsd.planning import padding_waste, plan_batches
from zsd.students.base import Answer, Student
from zsd.students.checkpoint import class_names, read_checkpoint
from zsd.text_batches import TextSet


class EncoderStudent(Student):
    """A checkpoint of `zsd distill`, or any sequence classifier of transformers.

    An engine of fixed shapes gets the lengths that suit the first texts it is given.

    Args:
        directory: of the checkpoint.
        engine: an engine's name.
        precision: one that the engine has.
        placement: device and threads.

    Raises:
        StudentError: there is no classifier checkpoint in the directory.
        ConfigError: there is no such engine.
        EngineError: the engine cannot run this student, in this precision, on this machine.
    """

    kind = "encoder"

    def __init__(self, directory: str | Path, *, engine: str, precision: str, placement: Placement) -> None:
        self._checkpoint = read_checkpoint(directory)
        names, self.multi_label = class_names(self._checkpoint.config)
        self.names = tuple(names)
        self._engine = load_engine(engine, self._checkpoint, placement, precision)
        self.engine, self.precision, self.threads = engine, precision, placement.threads
        self._buckets: tuple[int, ...] | None = None

    def answer(self, texts: Sequence[str]) -> Answer:
        """See `Student.answer`."""
        logits_NK = np.zeros((len(texts), len(self.names)), dtype=np.float32)
        if not len(texts):
            return Answer(logits=logits_NK, multi_label=self.multi_label, tokens=0)
        limit = self._checkpoint.max_length
        sequences = TextSet.build(self._checkpoint.tokenizer, texts, max_length=limit)
        if self._engine.buckets is not None and self._buckets is None:
            sample = LengthSample.of(sequences.lengths, max_length=limit)
            self._buckets = sample.buckets(self._engine.most_buckets)
        batches = plan_batches(
            sequences.lengths,
            token_budget=self._engine.token_budget,
            buckets=self._buckets,
            max_length=limit,
            lanes=self._engine.lanes.count,
        )
        with closing(run_batches(self._engine, sequences, batches, len(self.names))) as done:
            for batch, logits_BK in done:
                logits_NK[batch.pairs] = logits_BK
        return Answer(
            logits=logits_NK,
            multi_label=self.multi_label,
            tokens=int(sequences.lengths.sum()),
            truncated=sequences.truncated,
            padding_waste=padding_waste(sequences.lengths, batches) if self._engine.pads else 0.0,
        )

    def close(self) -> None:
        """Free the model and end the engine's threads."""
        self._engine.close()
