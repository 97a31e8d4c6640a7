"""Libraries that phone home are imported without that.

``import openvino`` sends an event to an analytics service, without asking, unless its telemetry package is missing
(then it uses a stub of its own, and so does nncf); ``import deepsparse`` does unless a variable of the environment
forbids it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

TELEMETRY_PACKAGE = "openvino_telemetry"


@contextmanager
def no_telemetry() -> Iterator[None]:
    """Imports inside find no telemetry."""
    os.environ["NM_DISABLE_ANALYTICS"] = "True"
    present = sys.modules.get(TELEMETRY_PACKAGE)
    sys.modules[TELEMETRY_PACKAGE] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[TELEMETRY_PACKAGE]
        if present is not None:
            sys.modules[TELEMETRY_PACKAGE] = present
