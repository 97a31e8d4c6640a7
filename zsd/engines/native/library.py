"""The kernels as a shared library: compiled for this processor when first needed, and kept in the cache of the node."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from zsd.cache import cached_file
from zsd.compile.openvino_core import has_amx
from zsd.errors import EngineError
from zsd.machine import describe_machine

SOURCES = ("encoder.cpp", "attention.h", "vectors.h", "tiles.h")
COMPILERS = ("c++", "g++", "clang++")
"""Where ``$CXX`` is not set."""

FLAGS = ("-std=c++17", "-O3", "-shared", "-fPIC", "-march=x86-64-v4", "-mavx512bf16")
TILE_FLAGS = ("-mamx-tile", "-mamx-bf16")


def processor_flags(*, tiles: bool | None = None) -> tuple[str, ...]:
    """What the kernels are compiled with for this processor.

    Args:
        tiles: by Advanced Matrix Extensions; None: where the processor has them.

    Raises:
        EngineError: it has no bf16 instructions.
    """
    had = describe_machine()["cpu_flags"]
    if "avx512_bf16" not in had:
        raise EngineError("this processor has no AVX512_BF16, which the native engine needs: use another --engine")
    if tiles is None:
        tiles = has_amx()
    return FLAGS + TILE_FLAGS * tiles


def source_digest() -> str:
    """Of the kernels' source: what engines of another version are told by."""
    folder = Path(__file__).parent
    return hashlib.blake2b(b"\0".join((folder / name).read_bytes() for name in SOURCES), digest_size=8).hexdigest()


@cache
def load_library(flags: tuple[str, ...]) -> ctypes.CDLL:
    """The compiled kernels, compiled now if they never were.

    Args:
        flags: see `processor_flags`.

    Raises:
        EngineError: there is no C++ compiler here, or it does not know these processors, or the system does not let
            this process use the processor's tiles.
    """
    compiler = _compiler()
    content = (source_digest(), _version(compiler), *flags)
    file = cached_file("native", "encoder.so", *content, make=lambda to: _compile(compiler, flags, to))
    try:
        library = ctypes.CDLL(str(file))
    except OSError as error:
        raise EngineError(f"{file} cannot be loaded ({error}): delete it, and run the same command again") from None
    library.zsd_logits.restype = None
    if library.zsd_prepare():
        raise EngineError("the system does not let this process use the processor's tiles (AMX): use another --engine")
    return library


def _compiler() -> str:
    asked = os.environ.get("CXX")
    found = [path for name in ((asked,) if asked else COMPILERS) if (path := shutil.which(name))]
    if not found:
        told = f"$CXX names {asked!r}, which is not there" if asked else "there is no C++ compiler here"
        raise EngineError(
            f"the native engine is compiled on each node, and {told}: install g++, or use another --engine"
        )
    return found[0]


def _version(compiler: str) -> str:
    try:
        told = subprocess.run([compiler, "--version"], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EngineError(f"the C++ compiler {compiler} does not run ({error}): set CXX to another") from None
    return told.stdout


def _compile(compiler: str, flags: tuple[str, ...], to: Path) -> None:
    source = Path(__file__).parent / SOURCES[0]
    with tempfile.TemporaryFile("w+", errors="replace") as told:
        try:
            done = subprocess.run([compiler, *flags, str(source), "-o", str(to)], stdout=told, stderr=told, timeout=600)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise EngineError(f"the C++ compiler {compiler} does not run ({error}): set CXX to another") from None
        told.seek(0)
        lines = [line.strip() for line in told if "error" in line.lower()]
    if done.returncode or not to.is_file():
        raise EngineError(
            f"{compiler} cannot compile the native engine ({lines[0] if lines else f'exit {done.returncode}'}): g++ 11 "
            "or clang++ 14 and newer can; set CXX to one, or use another --engine"
        )
