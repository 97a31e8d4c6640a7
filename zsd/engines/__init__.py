"""How a model runs. A teacher says what is scored; an engine runs the tensor program. Any NLI teacher, any engine."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from zsd.engines.registry import check_combination, find_engine, precisions_of, runs_on
from zsd.errors import ConfigError, EngineError

if TYPE_CHECKING:
    from zsd.engines.base import Engine, Placement
    from zsd.teachers.nli import NLITeacher


def load_engine(name: str, teacher: NLITeacher, placement: Placement, precision: str = "fp32") -> Engine:
    """Load a teacher's weights into an engine of `zsd.engines.registry`.

    Raises:
        ConfigError: there is no such engine.
        EngineError: the engine cannot run this teacher, in this precision, on this machine.
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
    # Imported now: an engine's libraries are heavy, and only those of the chosen one are needed.
    engine: Engine = getattr(importlib.import_module(entry.module), entry.class_name)(teacher, placement, precision)
    return engine
