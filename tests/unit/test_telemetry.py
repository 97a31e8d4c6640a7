from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from zsd.telemetry import TELEMETRY_PACKAGE, no_telemetry


def test_openvino_and_nncf_are_imported_without_their_telemetry(tmp_path: Path) -> None:
    code = (
        "import socket, sys\n"
        "def refuse(*_): raise SystemExit('phoned home')\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
        "from zsd.telemetry import no_telemetry\n"
        "with no_telemetry():\n    import openvino, nncf\n"
        "print(any(name.startswith('openvino_telemetry') for name in sys.modules))"
    )
    environment = {name: value for name, value in os.environ.items() if name not in ("CI", "JENKINS_URL")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**environment, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "False"
    assert not (tmp_path / "intel").exists()  # where the telemetry keeps an id of this machine


def test_what_was_imported_before_is_there_after(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NM_DISABLE_ANALYTICS", raising=False)
    monkeypatch.setitem(sys.modules, TELEMETRY_PACKAGE, sys)
    with no_telemetry(), pytest.raises(ImportError):
        __import__(TELEMETRY_PACKAGE)
    assert sys.modules[TELEMETRY_PACKAGE] is sys and os.environ["NM_DISABLE_ANALYTICS"] == "True"
