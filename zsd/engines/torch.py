"""The torch engine: the reference in fp32, and bf16, on CPU; fp32, bf16 and fp16 on a CUDA device.

On a CPU batches run side by side in lanes of one thread (`zsd.engines.lanes`). On CUDA the two halves of a batch are
launched one after the other, each from pinned memory, and waited for together: the second one's transfer and launches
run under the first one's arithmetic. Attention is torch's scaled_dot_product_attention where the architecture has it:
on CUDA the flash kernel for a batch without padding, else the memory-efficient one; on CPU it was as fast as the plain
products or up to 8% faster. ``torch.compile`` is not used: on two threads, with dynamic shapes, the bundled teacher
gained 1% (bf16) to 2% (fp32), and its first pass took 16 to 46 s. CUDA was not measured.

Legend: B pairs in a batch, L tokens, C NLI classes.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from zsd.checkpoint import Checkpoint
from zsd.engines.base import FloatArray, IntArray, Placement
from zsd.engines.fixed_shapes import UNLIMITED
from zsd.engines.lanes import Lanes
from zsd.engines.model_file import engine_fingerprint
from zsd.errors import EngineError
from zsd.teachers.weights import input_names, load_weights

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
CPU_TOKEN_BUDGET = 1024
CUDA_TOKEN_BUDGET = 65536
LEAST_TOKEN_BUDGET = 512
"""Padded tokens a call. On CUDA a batch that does not fit is halved, and so are all after it."""

MOST_LANES = 8
"""Beyond it the lanes would wait for the interpreter, which launches some 300 operations a call in each."""


class TorchEngine:
    """A checkpoint run by torch in inference mode, any length, padded to the batch.

    Args:
        checkpoint: what to load.
        placement: device and threads.
        precision: ``fp32``, ``bf16`` or, on CUDA, ``fp16`` (weights and activations).

    Raises:
        EngineError: CUDA was asked for and is not there, or this GPU has no bf16.
        InputError: the weights are missing, damaged or not those of an NLI classifier.
    """

    name = "torch"
    buckets: tuple[int, ...] | None = None
    most_buckets = UNLIMITED
    pads = True

    def __init__(self, checkpoint: Checkpoint, placement: Placement, precision: str = "fp32") -> None:
        cuda = placement.device == "cuda"
        if cuda and not torch.cuda.is_available():
            raise EngineError("the torch engine was placed on a GPU and torch sees none on this node")
        if cuda and precision == "bf16" and not torch.cuda.is_bf16_supported(including_emulation=False):
            raise EngineError(f"{torch.cuda.get_device_name()} has no bf16: use --precision fp16 or fp32")
        torch.set_num_threads(placement.threads)
        self.precision = precision
        self.threads = placement.threads
        lanes = 1 if cuda else lanes_for(placement.threads)
        lane_threads = placement.threads // lanes
        self.lanes = Lanes(lanes, start=lambda: torch.set_num_threads(lane_threads))
        self.device = torch.device(placement.device)
        self.token_budget = CUDA_TOKEN_BUDGET if cuda else CPU_TOKEN_BUDGET
        self.fingerprint = engine_fingerprint(checkpoint, "torch", precision)
        self.model = load_weights(checkpoint, dtype=DTYPES[precision]).to(self.device)
        self._names = input_names(self.model, tuple(checkpoint.tokenizer.model_input_names))

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

    @torch.inference_mode()
    def _forward(self, inputs: Mapping[str, IntArray]) -> FloatArray:
        tensors = {name: torch.from_numpy(inputs[name]) for name in self._names}
        parts = halves(tensors) if self.device.type == "cuda" else [tensors]
        logits_BC = torch.cat([self._launch(part) for part in parts])
        array_BC: FloatArray = logits_BC.float().cpu().numpy()
        return array_BC

    def _launch(self, tensors: dict[str, torch.Tensor]) -> torch.Tensor:
        if self.device.type == "cuda":
            tensors = {name: t.pin_memory().to(self.device, non_blocking=True) for name, t in tensors.items()}
        logits_BC: torch.Tensor = self.model(**tensors).logits
        return logits_BC

    def close(self) -> None:
        """Free the model and end the threads."""
        self.lanes.close()
        del self.model


def lanes_for(threads: int) -> int:
    """As many lanes as share the threads evenly, up to `MOST_LANES`."""
    return max(lanes for lanes in range(1, min(threads, MOST_LANES) + 1) if threads % lanes == 0)


def halves(tensors: dict[str, torch.Tensor]) -> list[dict[str, torch.Tensor]]:
    """The first and the second half of a batch's rows; of one row, that row."""
    rows = len(next(iter(tensors.values())))
    middle = -(-rows // 2)
    cuts = [slice(middle), slice(middle, None)] if rows > 1 else [slice(None)]
    return [{name: tensor[cut] for name, tensor in tensors.items()} for cut in cuts]
