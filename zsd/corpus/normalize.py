"""One form for every text, and the hash that names it.

Legend: N texts.
"""

from __future__ import annotations

import hashlib
import unicodedata

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

NORMALIZATION = "nfc-v1"
KEY_BYTES = 16
KEY_TYPE = pa.binary(KEY_BYTES)

_CONTROLS = r"[\x{00}-\x{08}\x{0b}\x{0c}\x{0e}-\x{1f}\x{7f}-\x{9f}]"
_CONTROL_BYTES = np.isin(np.arange(256), [*range(0x09), *range(0x0B, 0x20), 0x7F, 0xC2])
"""Bytes of C0 (but tab and newline) and DEL, and the first byte of C1 in UTF-8."""


def normalize_texts(texts: pa.Array) -> pa.Array:
    """Normalization `nfc-v1` of N large strings (nulls stay null); applying it twice changes nothing more.

    Unicode NFC; CRLF and CR become LF; every other control character (C0, DEL, C1) except tab and newline becomes a
    space; whitespace at both ends is trimmed.
    """
    texts = _nfc(texts)
    mask = _may_hold_controls(texts)
    if mask.any():
        found = pc.replace_substring_regex(texts.filter(pa.array(mask)), r"\r\n?", "\n")
        texts = pc.replace_with_mask(texts, pa.array(mask), pc.replace_substring_regex(found, _CONTROLS, " "))
    return pc.utf8_trim_whitespace(texts)


def _may_hold_controls(texts: pa.Array) -> npt.NDArray[np.bool_]:
    """Which of N large strings hold a byte that a control character has: few of most corpora, and regexes are slow."""
    mask = np.zeros(len(texts), dtype=np.bool_)
    _, offsets_buffer, data = texts.buffers()
    if data is None or not len(texts):
        return mask
    offsets = np.frombuffer(offsets_buffer, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    found = np.flatnonzero(_CONTROL_BYTES[np.frombuffer(data, np.uint8)[offsets[0] : offsets[-1]]])
    mask[np.searchsorted(offsets, found + offsets[0], side="right") - 1] = True
    return mask


def _nfc(texts: pa.Array) -> pa.Array:
    """Unicode NFC; by `unicodedata`, because `pc.utf8_normalize` of pyarrow <= 25 does not compose (arrow #51225)."""
    mask = pc.invert(pc.string_is_ascii(texts)).fill_null(False)
    composed = [unicodedata.normalize("NFC", text) for text in texts.filter(mask).to_pylist()]
    return pc.replace_with_mask(texts, mask, pa.array(composed, texts.type)) if composed else texts


def normalize_text(text: str) -> str:
    """`normalize_texts` of one text.

    Raises:
        UnicodeEncodeError: the text holds a lone surrogate.
    """
    return str(normalize_texts(pa.array([text], pa.large_string()))[0].as_py())


def hash_texts(texts: pa.Array) -> pa.Array:
    """128-bit BLAKE2b digests of the UTF-8 bytes of N texts, none null, as fixed 16-byte binary."""
    raw = texts.cast(pa.large_binary()).to_numpy(zero_copy_only=False)
    digests = b"".join([hashlib.blake2b(text, digest_size=KEY_BYTES).digest() for text in raw])
    return pa.FixedSizeBinaryArray.from_buffers(KEY_TYPE, len(texts), [None, pa.py_buffer(digests)])


def key_bytes(keys: pa.Array) -> memoryview:
    """The 16 N bytes of N digests, without a copy."""
    whole = memoryview(keys.buffers()[1])
    return whole[keys.offset * KEY_BYTES : (keys.offset + len(keys)) * KEY_BYTES]


def key_parts(keys: pa.Array, parts: int) -> npt.NDArray[np.int64]:
    """The part, 0 to `parts` - 1, that each of N digests belongs to; int64, the same on every machine."""
    words = np.frombuffer(key_bytes(keys), dtype="<u8").reshape(-1, 2)
    return (words[:, 0] % np.uint64(parts)).astype(np.int64)


def ids_from_keys(keys: pa.Array) -> pa.Array:
    """Hex form (32 characters) of N digests from `hash_texts`."""
    digits = key_bytes(keys).hex().encode()
    offsets = np.arange(len(keys) + 1, dtype=np.int64) * (2 * KEY_BYTES)
    return pa.LargeStringArray.from_buffers(len(keys), pa.py_buffer(offsets), pa.py_buffer(digits))


def text_ids(texts: pa.Array) -> pa.Array:
    """Ids of N normalized texts where no id column is given: equal if and only if the texts are equal."""
    return ids_from_keys(hash_texts(texts))
