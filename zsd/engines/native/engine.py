"""The native engine: BERT, RoBERTa and DistilBERT in bf16 by kernels of our own (``encoder.cpp``), on x86-64.

What it does that general libraries do not: sequences of a batch go through the products one after the other, without
padding, so that any lengths make full tiles; both operands of a product stay in the caches for which they are laid out;
GELU, bias and softmax are computed beside the products; and what the classifier does not read is not computed
(`zsd.compile.first_token`). Sums, softmax, normalization and residuals are in fp32. No shape is compiled.

With Advanced Matrix Extensions a product of tiles is one instruction, else AVX512_BF16 computes it, which was tested
and not timed where it is all there is.

Legend: B pairs in a batch, L tokens, C NLI classes.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from zsd.checkpoint import Checkpoint
from zsd.compile.probes import stored_probes
from zsd.engines.base import FloatArray, IntArray, Placement
from zsd.engines.fixed_shapes import UNLIMITED
from zsd.engines.lanes import Lanes
from zsd.engines.native.library import load_library, processor_flags, source_digest
from zsd.engines.native.weights import check_fits, pack
from zsd.errors import EngineError
from zsd.teachers.weights import input_names, load_weights

TOKEN_BUDGET = 2048
"""Padded tokens a call: four blocks of the kernels. Of AG News 1024 did 3% fewer rows/s and 4096 1% more, of CLINC150
3% and 4% (medians of three passes in turn); with more, lanes wait for the last ones of a unit."""


TYPES = "token_type_ids"


class NativeEngine:
    """A checkpoint run by zsd's own kernels; any length, one thread a lane.

    Args:
        checkpoint: what to load.
        placement: a CPU and how many threads of it.
        precision: ``bf16``.

    Raises:
        EngineError: the processor has no bf16, there is no C++ compiler here, the architecture is another, or the
            kernels find other logits than torch.
        InputError: the checkpoint's weights cannot be loaded.
    """

    name = "native"
    buckets: tuple[int, ...] | None = None
    most_buckets = UNLIMITED
    pads = False
    token_budget = TOKEN_BUDGET

    def __init__(self, checkpoint: Checkpoint, placement: Placement, precision: str = "bf16") -> None:
        self.precision = precision
        self.threads = placement.threads
        check_fits(checkpoint.config)
        self._library = load_library(processor_flags())
        model = load_weights(checkpoint, dtype=torch.float32)
        self._weights = pack(model)
        # RoBERTa's tokenizer tells no types apart, whatever its configuration says.
        self._typed = TYPES in input_names(model, tuple(checkpoint.tokenizer.model_input_names))
        del model  # before the probes load it once more
        self.lanes = Lanes(placement.threads)
        self.fingerprint = f"native {source_digest()}, {precision}, {checkpoint.fingerprint}"
        probes = stored_probes(checkpoint)
        probes.check(self.name, precision, self.logits, rows=len(probes.lengths), length=int(probes.lengths[-1]))

    def logits(self, inputs: Mapping[str, IntArray]) -> FloatArray:
        """Run one batch, padded on the right.

        Raises:
            EngineError: a sequence is longer, or a token another, than the model knows, or memory does not suffice.
        """
        rows, length = inputs["input_ids"].shape
        weights = self._weights
        ids, mask = (np.ascontiguousarray(inputs[name], dtype=np.int64) for name in ("input_ids", "attention_mask"))
        typed = self._typed and weights.types and TYPES in inputs
        types = np.ascontiguousarray(inputs[TYPES], dtype=np.int64) if typed else None
        known = _within(ids, weights.words) and (types is None or _within(types, weights.types))
        padded = mask.shape == ids.shape and mask[:, 0].all() and (mask[:, 1:] <= mask[:, :-1]).all()
        if not (known and padded and mask.sum(axis=1).max() <= weights.longest):
            raise EngineError(
                f"the native engine runs right-padded sequences of up to {weights.longest} tokens of {weights.words} "
                f"kinds, and got a batch of {rows} x {length} with others"
            )
        logits_BC = np.empty((rows, weights.classes), dtype=np.float32)
        # ctypes lets other threads run meanwhile.
        failed = self._library.zsd_logits(
            ctypes.byref(weights.model),
            *(ctypes.c_int64(size) for size in (rows, length)),
            *(_pointer(array) for array in (ids, mask, types, logits_BC)),
        )
        if failed:
            raise EngineError(f"there is not enough memory for a batch of {rows} x {length} tokens")
        return logits_BC

    def close(self) -> None:
        """Free the weights and end the threads."""
        self.lanes.close()
        del self._weights


def _within(numbers: IntArray, size: int) -> bool:
    return bool(numbers.size and numbers.min() >= 0 and numbers.max() < size)


def _pointer(array: Any) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if array is None else array.ctypes.data)
