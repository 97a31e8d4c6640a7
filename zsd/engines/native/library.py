"""The kernels as a shared library: compiled for this processor when first needed, and kept in the cache of the node."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shlex
import shutil
import subprocess
from functools import cache
from pathlib import Path

from zsd.cache import cached_file
from zsd.engines.native.weights import CHUNK
from zsd.errors import EngineError
from zsd.machine import describe_machine, has_amx

MAIN = "encoder.cpp"
COMPILERS = ("c++", "g++", "clang++")
"""Where ``$CXX`` is not set."""

FLAGS = (
    *("-std=c++17", "-O3", "-shared", "-fPIC", f"-DZSD_CHUNK={CHUNK}", "-march=x86-64-v4", "-mavx512bf16"),
    "-Wl,-z,defs",  # what does not link C++'s own library fails now, and not when it is loaded
    "-ffp-contract=off",  # compilers differ in where they contract
)
TILE_FLAGS = ("-mamx-tile", "-mamx-bf16")
FOLDER = Path(__file__).parent


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
    """Of the kernels' source, and of what packs the weights for them: what engines of another version are told by."""
    sources = sorted(file for file in FOLDER.iterdir() if file.suffix in (".cpp", ".h") or file.name == "weights.py")
    return hashlib.blake2b(b"\0".join(file.read_bytes() for file in sources), digest_size=8).hexdigest()


@cache
def load_library(flags: tuple[str, ...]) -> ctypes.CDLL:
    """The compiled kernels, compiled now if they never were.

    Args:
        flags: see `processor_flags`.

    Raises:
        EngineError: there is no C++ compiler here, or it does not know these processors, or the system does not let
            this process use the processor's tiles.
    """
    file = cached_file("native", "encoder.so", source_digest(), *flags, make=lambda to: _compile(flags, to))
    try:
        library = ctypes.CDLL(str(file))
    except OSError as error:
        raise EngineError(
            f"{file} cannot be loaded ({error}): delete it, and run the same command again, or set ZSD_CACHE to a "
            "folder from which programs may be run"
        ) from None
    if library.zsd_prepare():
        raise EngineError("the system does not let this process use the processor's tiles (AMX): use another --engine")
    return library


def _compile(flags: tuple[str, ...], to: Path) -> None:
    compiler = _compiler()
    command = [*compiler, *flags, str(FOLDER / MAIN), "-o", str(to)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=600)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EngineError(f"the C++ compiler {compiler[0]} does not run ({error}): set CXX to another") from None
    if done.returncode or not to.is_file():
        lines = [line.strip() for line in done.stderr.splitlines() if "error" in line.lower()]
        raise EngineError(
            f"{compiler[0]} cannot compile the native engine ({lines[0] if lines else f'exit {done.returncode}'}): g++ "
            "12 and clang++ 22 can; set CXX to one, or use another --engine"
        )


def _compiler() -> list[str]:
    """The compiler's command: what ``$CXX`` says, which may be several words, or the first there is."""
    try:
        asked = shlex.split(os.environ.get("CXX", ""))
    except ValueError as error:
        raise EngineError(f"$CXX is no command ({error}): set it to a C++ compiler, or unset it") from None
    found = [path for name in (asked[:1] or COMPILERS) if (path := shutil.which(name))]
    if not found:
        told = f"$CXX names {asked[0]!r}, which is not there" if asked else "there is no C++ compiler here"
        raise EngineError(f"each node compiles the native engine, and {told}: install g++, or use another --engine")
    return [found[0], *asked[1:]]
