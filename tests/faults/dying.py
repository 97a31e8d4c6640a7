"""The stand-in's `zsd`, killed at the very call of a function, where no look from outside would come in time.

    python -m tests.faults.dying zsd.registry:Registry.promote nightly --data ...

SIGKILL goes to the driver's process only, before the function does anything.
"""

from __future__ import annotations

import os
import signal
import sys
from importlib import import_module
from typing import Any

from tests import standin


def kill_at(place: str) -> None:
    """From now on this process is killed when it calls a function.

    Args:
        place: ``module:function`` or ``module:class.method``, as it is called.
    """
    module, _, path = place.partition(":")
    *owners, name = path.split(".")
    owner = import_module(module)
    for one in owners:
        owner = getattr(owner, one)
    assert callable(getattr(owner, name))
    setattr(owner, name, _die)


def _die(*_: Any, **__: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    kill_at(sys.argv[1])
    sys.exit(standin.main(sys.argv[2:]))
