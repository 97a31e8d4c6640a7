"""The encoder student in use: a transformers sequence classifier.

Legend: N rows, K labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from zsd.engines.base import Placement
from zsd.errors import ConfigError
from zsd.inference import predict
from zsd.students.base import Answer, Student
from zsd.students.checkpoint import DTYPES, load_checkpoint, student_names

CPU_TOKEN_BUDGET = 2048
CUDA_TOKEN_BUDGET = 65536
"""Padded tokens a call."""


class EncoderStudent(Student):
    """A checkpoint of `zsd distill`, or any other sequence classifier of transformers.

    Args:
        directory: of the checkpoint.
        engine: an engine's name.
        precision: one that the engine has.
        placement: device and threads.

    Raises:
        StudentError: there is no classifier checkpoint in the directory.
        ConfigError: there is no such engine, or it has no such precision.
    """

    kind = "encoder"

    def __init__(self, directory: str | Path, *, engine: str, precision: str, placement: Placement) -> None:
        if engine != "torch" or precision not in DTYPES:
            raise ConfigError(f"a student does not run on engine {engine!r} in {precision!r}: use torch, fp32 or bf16")
        torch.set_num_threads(placement.threads)
        self.engine, self.precision, self.threads = engine, precision, placement.threads
        self._model, self._tokenizer = load_checkpoint(directory, precision)
        self._model.to(placement.device)
        names, self.multi_label = student_names(self._model)
        self.names = tuple(names)
        self._token_budget = CUDA_TOKEN_BUDGET if placement.device == "cuda" else CPU_TOKEN_BUDGET

    def answer(self, texts: Sequence[str]) -> Answer:
        """See `Student.answer`."""
        found = predict(self._model, self._tokenizer, texts, token_budget=self._token_budget)
        return Answer(
            logits=found.logits,
            multi_label=self.multi_label,
            tokens=found.tokens,
            truncated=found.truncated,
            padding_waste=found.padding_waste,
        )

    def close(self) -> None:
        """Free the weights."""
        del self._model
