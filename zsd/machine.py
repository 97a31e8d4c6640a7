"""What this machine is, for the page that shows measurements: a figure without it means nothing."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

TELLING_FLAGS = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
TELLING_PACKAGES = ("ray", "torch", "transformers", "deepsparse", "openvino", "onnxruntime", "pyarrow", "numpy")


def describe_machine() -> dict[str, Any]:
    """Processor, cores this process may use, memory in GiB, telling CPU flags, GPU and package versions."""
    import torch

    info = _cpuinfo()
    flags = set(info.get("flags", "").split())
    return {
        "cpu": info.get("model name") or platform.processor() or platform.machine(),
        "cores": available_cpus(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "cpu_flags": [flag for flag in TELLING_FLAGS if flag in flags],
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in TELLING_PACKAGES},
    }


def available_cpus() -> int:
    """Processors this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_has_bf16() -> bool:
    """Whether this processor multiplies in bf16 itself; elsewhere float32 is faster."""
    return bool({"avx512_bf16", "amx_bf16"} & set(describe_machine()["cpu_flags"]))


def has_amx() -> bool:
    """Whether the processor multiplies tiles of bf16 numbers (Advanced Matrix Extensions)."""
    return "amx_bf16" in describe_machine()["cpu_flags"]


def peak_memory_mb() -> float | None:
    """Most resident memory this process ever had, in MiB; None where the system does not tell."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:")), None)


def available_memory_mb() -> float | None:
    """Memory that a new process could take without swapping, in MiB; None where the system does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("MemAvailable:")), None)


def _cpuinfo() -> dict[str, str]:
    try:
        first = Path("/proc/cpuinfo").read_text().split("\n\n")[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
