"""The torch engine: the reference in fp32, and bf16, on CPU or a CUDA device."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification

from zsd.engines.base import FloatArray, IntArray, Placement
from zsd.errors import EngineError
from zsd.teachers.nli import NLITeacher

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
CPU_TOKEN_BUDGET = 2048
CUDA_TOKEN_BUDGET = 65536


class TorchEngine:
    """A checkpoint run by torch in inference mode, any length, padded to the batch.

    Args:
        teacher: what to load.
        placement: device and threads.
        precision: ``fp32`` or ``bf16`` (weights and activations).

    Raises:
        EngineError: CUDA was asked for and is not there, or the precision is unknown.
    """

    name = "torch"
    buckets = None

    def __init__(self, teacher: NLITeacher, placement: Placement, precision: str = "fp32") -> None:
        if precision not in DTYPES:
            raise EngineError(f"the torch engine has no precision {precision!r}: use one of {', '.join(DTYPES)}")
        if placement.device == "cuda" and not torch.cuda.is_available():
            raise EngineError("the torch engine was placed on a GPU and torch sees none on this node")
        torch.set_num_threads(placement.threads)
        self.precision = precision
        self.device = torch.device(placement.device)
        self.token_budget = CUDA_TOKEN_BUDGET if placement.device == "cuda" else CPU_TOKEN_BUDGET
        model = AutoModelForSequenceClassification.from_pretrained(teacher.path, dtype=DTYPES[precision])
        self.model = model.to(self.device).eval()

    def logits(self, inputs: Mapping[str, IntArray]) -> FloatArray:
        """Run one batch; on a CUDA out-of-memory error the batch is halved and both halves run.

        Raises:
            EngineError: a single pair does not fit the device.
        """
        try:
            return self._forward(inputs)
        except torch.cuda.OutOfMemoryError:
            torch.cuda.empty_cache()
        rows = len(inputs["input_ids"])
        if rows == 1:
            length = inputs["input_ids"].shape[1]
            raise EngineError(f"one pair of {length} tokens does not fit the GPU's memory: use a smaller teacher")
        self.token_budget = max(512, self.token_budget // 2)
        first = {name: array[: rows // 2] for name, array in inputs.items()}
        second = {name: array[rows // 2 :] for name, array in inputs.items()}
        return np.concatenate([self.logits(first), self.logits(second)])

    def _forward(self, inputs: Mapping[str, IntArray]) -> FloatArray:
        with torch.inference_mode():
            tensors = {name: torch.from_numpy(array) for name, array in inputs.items()}
            if self.device.type == "cuda":
                tensors = {name: t.pin_memory().to(self.device, non_blocking=True) for name, t in tensors.items()}
            logits: FloatArray = self.model(**tensors).logits.float().cpu().numpy()
            return logits

    def close(self) -> None:
        """Free the model."""
        del self.model
