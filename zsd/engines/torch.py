"""The torch engine: the reference in fp32, and bf16, on CPU or a CUDA device."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from zsd.engines.base import FloatArray, IntArray, Placement
from zsd.errors import EngineError
from zsd.teachers.nli import NLITeacher
from zsd.teachers.weights import input_names, load_weights

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
CPU_TOKEN_BUDGET = 2048
CUDA_TOKEN_BUDGET = 65536
LEAST_TOKEN_BUDGET = 512
"""Padded tokens a call. On CUDA a batch that does not fit is halved, and so are all after it."""


class TorchEngine:
    """A checkpoint run by torch in inference mode, any length, padded to the batch.

    Args:
        teacher: what to load.
        placement: device and threads.
        precision: ``fp32`` or ``bf16`` (weights and activations).

    Raises:
        EngineError: CUDA was asked for and is not there, or the precision is unknown.
        TeacherError: the weights are missing, damaged or not those of an NLI classifier.
    """

    name = "torch"
    buckets: tuple[int, ...] | None = None

    def __init__(self, teacher: NLITeacher, placement: Placement, precision: str = "fp32") -> None:
        if precision not in DTYPES:
            raise EngineError(f"the torch engine has no precision {precision!r}: use one of {', '.join(DTYPES)}")
        if placement.device == "cuda" and not torch.cuda.is_available():
            raise EngineError("the torch engine was placed on a GPU and torch sees none on this node")
        torch.set_num_threads(placement.threads)
        self.precision = precision
        self.device = torch.device(placement.device)
        self.token_budget = CUDA_TOKEN_BUDGET if placement.device == "cuda" else CPU_TOKEN_BUDGET
        self.model = load_weights(teacher, dtype=DTYPES[precision]).to(self.device)
        self._names = input_names(self.model, tuple(teacher.tokenizer.model_input_names))

    def logits(self, inputs: Mapping[str, IntArray]) -> FloatArray:
        """Run one batch; on a CUDA out-of-memory error the batch is halved and both halves run.

        Raises:
            EngineError: a single pair does not fit the device.
        """
        try:
            return self._forward(inputs)
        except torch.cuda.OutOfMemoryError:
            rows, length = inputs["input_ids"].shape
        if rows == 1:
            raise EngineError(f"one pair of {length} tokens does not fit the GPU's memory: use a smaller teacher")
        torch.cuda.empty_cache()  # only now: while the error is handled, its traceback holds the tensors
        self.token_budget = min(self.token_budget, max(LEAST_TOKEN_BUDGET, rows * length // 2))
        first = {name: array[: rows // 2] for name, array in inputs.items()}
        second = {name: array[rows // 2 :] for name, array in inputs.items()}
        return np.concatenate([self.logits(first), self.logits(second)])

    def _forward(self, inputs: Mapping[str, IntArray]) -> FloatArray:
        with torch.inference_mode():
            tensors = {name: torch.from_numpy(inputs[name]) for name in self._names}
            if self.device.type == "cuda":
                tensors = {name: t.pin_memory().to(self.device, non_blocking=True) for name, t in tensors.items()}
            logits: FloatArray = self.model(**tensors).logits.float().cpu().numpy()
            return logits

    def close(self) -> None:
        """Free the model."""
        del self.model
