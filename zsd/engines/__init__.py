"""How a model runs. A teacher or a student says what a text means, an engine runs the tensor program.

Families run on the four engines with fp32 by `tests/unit/test_engines.py`, with small models, every row within 1e-3 of
torch's logits: BERT (so MiniLM), RoBERTa, DistilBERT, ELECTRA, DeBERTa-v2 (so v3), ModernBERT. Any other runs in torch;
the other engines take it if torch exports it to ONNX (`zsd.compile.export`), and hold what they compile to torch's
logits before they use it (`zsd.compile.probes`).

OpenVINO, and ONNX Runtime in fp32, run the last layer for the first token only, where that is all a classifier reads
(`zsd.compile.first_token`), and so do our own kernels (`zsd.engines.native`: BERT, RoBERTa, DistilBERT, in bf16);
torch, DeepSparse and the int8 form that it shares with ONNX Runtime run it whole.

Two threads of an AMD Zen 5 (AVX-512 with bf16 and VNNI, no AMX), the bundled teacher, every layer whole, 48 rows of AG
News, K = 4, medians of 5 alternating passes of three runs, rows/s: torch fp32 24-27, torch bf16 67-76, ONNX Runtime
fp32 49, DeepSparse fp32 57, OpenVINO fp32 66, OpenVINO bf16 104-119, OpenVINO int8 143. The dense bf16 one does
0.48-0.55 TFLOP/s; ``torch.mm`` of 1024 x 1024 bf16 matrices beside it 0.74-0.86.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from zsd.engines.registry import DRAFT, check_combination, find_engine, precisions_of, runs_on
from zsd.errors import ConfigError, EngineError

if TYPE_CHECKING:
    from zsd.checkpoint import Checkpoint
    from zsd.engines.base import Engine, Placement


def load_engine(name: str, checkpoint: Checkpoint, placement: Placement, precision: str = "fp32") -> Engine:
    """Load a checkpoint's weights into an engine of `zsd.engines.registry`.

    Raises:
        ConfigError: there is no such engine.
        EngineError: the engine cannot run this checkpoint, in this precision, on this machine.
        TeacherError: the checkpoint's weights cannot be loaded.
    """
    entry = find_engine(name)
    if not precisions_of(name, placement.device):
        others = ", ".join(runs_on(placement.device))
        raise EngineError(f"the {name} engine does not run on {placement.device} (GPU actors): use --engine {others}")
    try:
        check_combination(name, precision, placement.device)
    except ConfigError as error:
        raise EngineError(str(error)) from None
    if precision == DRAFT:
        from zsd.engines.draft import DraftEngine, drafted, half_precision  # it reads checkpoints, which is heavy

        draft = load_engine(name, drafted(checkpoint), placement, half_precision(name, placement))
        return DraftEngine(draft, checkpoint)
    # Imported now: an engine's libraries are heavy, and only those of the chosen one are needed.
    engine: Engine = getattr(importlib.import_module(entry.module), entry.class_name)(checkpoint, placement, precision)
    return engine
