"""How a model runs. A teacher says what is scored; an engine runs the tensor program. Any NLI teacher, any engine."""

from __future__ import annotations

from zsd.engines.base import Engine, Placement
from zsd.errors import ConfigError
from zsd.teachers.nli import NLITeacher


def load_engine(name: str, teacher: NLITeacher, placement: Placement, precision: str = "fp32") -> Engine:
    """Load a teacher's weights into an engine.

    To add an engine: one file with a class that follows `zsd.engines.base.Engine`, one line here.

    Raises:
        ConfigError: there is no such engine.
        EngineError: the engine cannot run this teacher on this machine.
    """
    # Imported here: an engine's libraries are heavy and only the chosen one is needed.
    if name == "torch":
        from zsd.engines.torch import TorchEngine

        return TorchEngine(teacher, placement, precision)
    if name == "deepsparse":
        from zsd.engines.deepsparse import DeepSparseEngine

        return DeepSparseEngine(teacher, placement, precision)
    raise ConfigError(f"there is no engine {name!r}: use one of auto, torch, deepsparse")
