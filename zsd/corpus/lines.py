"""Bytes to lines in bounded memory: blocks of whole lines as Arrow arrays, cut without a Python loop."""

from __future__ import annotations

import codecs
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from zsd.errors import CorpusError

MAX_LINE_BYTES = 64 * 2**20
LINE_TOO_LONG = f"line longer than {MAX_LINE_BYTES} bytes"
_BLOCK_BYTES = 4 * 2**20
_NEWLINE = 0x0A


def read_lines(stream: pa.NativeFile, name: str) -> Iterator[pa.Array]:
    """The lines of a stream, in blocks: large_binary arrays, every line with its newline.

    A UTF-8 byte order mark is skipped. Of a line longer than `MAX_LINE_BYTES` only that many bytes are given.

    Raises:
        CorpusError: the stream `name` is UTF-16.
    """
    carry, skipping = b"", False
    block = _without_mark(stream.read(_BLOCK_BYTES), name)
    while block:
        if skipping:
            end = block.find(b"\n") + 1
            carry, skipping = (block[end:], False) if end else (b"", True)
        else:
            carry += block
        end = carry.rfind(b"\n") + 1
        if end:
            yield _split(carry[:end])
            carry = carry[end:]
        elif len(carry) >= MAX_LINE_BYTES:
            yield _split(carry[:MAX_LINE_BYTES])
            carry, skipping = b"", True
        block = stream.read(_BLOCK_BYTES)
    if carry:
        yield _split(carry)


def _without_mark(block: bytes, name: str) -> bytes:
    """The first bytes of a text file without their byte order mark."""
    if block.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise utf16_error(name)
    return block.removeprefix(codecs.BOM_UTF8)


def utf16_error(name: str) -> CorpusError:
    """What to tell the owner of a UTF-16 file."""
    return CorpusError(f"{name}: is UTF-16: convert it to UTF-8, for example with iconv -f UTF-16 -t UTF-8")


def _split(data: bytes) -> pa.Array:
    """Lines of `data` as slices of it."""
    ends = np.flatnonzero(np.frombuffer(data, np.uint8) == _NEWLINE) + 1
    last = [] if len(ends) and ends[-1] == len(data) else [len(data)]
    offsets = np.concatenate([[0], ends, last]).astype(np.int64)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(data)]
    return pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(offsets) - 1, buffers)


def overlong(lines: pa.Array) -> list[int]:
    """Offsets of the lines that were, or had to be, cut at `MAX_LINE_BYTES`."""
    if lines.nbytes < MAX_LINE_BYTES:
        return []
    return [offset for offset, line in enumerate(lines) if len(line.as_buffer()) >= MAX_LINE_BYTES]
