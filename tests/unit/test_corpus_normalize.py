import hashlib
import unicodedata

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zsd.corpus import normalize_text, normalize_texts, text_ids
from zsd.corpus.normalize import hash_texts, key_parts

TEXT = st.text(max_size=60)


@given(TEXT)
def test_applying_it_twice_changes_nothing_more(text: str) -> None:
    once = normalize_text(text)
    assert normalize_text(once) == once


@given(TEXT)
def test_no_control_character_but_tab_and_newline_is_left(text: str) -> None:
    controls = {char for char in normalize_text(text) if unicodedata.category(char) == "Cc"}
    assert controls <= {"\t", "\n"}


@given(TEXT)
def test_a_text_without_controls_is_its_nfc_form(text: str) -> None:
    plain = "".join(char for char in text if unicodedata.category(char)[0] not in "CZ")
    assert normalize_text(plain) == unicodedata.normalize("NFC", plain)


@given(st.lists(TEXT, max_size=8))
def test_many_texts_are_normalized_as_one(texts: list[str]) -> None:
    many = normalize_texts(pa.array(texts, pa.large_string())).to_pylist()
    assert many == [normalize_text(text) for text in texts]
    assert normalize_texts(pa.array(["\0", *texts, "\x85"], pa.large_string())[1:-1]).to_pylist() == many


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("  a \t", "a"),
        ("cafe\u0301", "caf\u00e9"),
        ("a\r\nb\rc\nd\te", "a\nb\nc\nd\te"),
        ("a\x00b\x1fc\x7fd\x85e\x9ff", "a b c d e f"),
        ("\u3000\u00a0wide\u2028", "wide"),
        ("\x00\x07", ""),
        ("\ufb01 \u00b2", "\ufb01 \u00b2"),
        ("👩‍👩‍👧 مرحبا שלום \u200fx", "👩‍👩‍👧 مرحبا שלום \u200fx"),
    ],
)
def test_what_normalization_does(text: str, normal: str) -> None:
    assert normalize_text(text) == normal


def test_an_id_is_the_128_bit_blake2b_of_the_text() -> None:
    texts = ["hello", "çà", "hello"]
    expected = [hashlib.blake2b(text.encode(), digest_size=16).hexdigest() for text in texts]
    ids = text_ids(pa.array(texts, pa.large_string()))
    assert ids.to_pylist() == expected
    assert text_ids(pa.array(texts, pa.large_string())[1:]).to_pylist() == expected[1:]


@given(st.lists(TEXT, min_size=1, max_size=8), st.integers(1, 5))
def test_a_text_belongs_to_one_part_wherever_it_stands(texts: list[str], parts: int) -> None:
    keys = hash_texts(pa.array(texts, pa.large_string()))
    together = key_parts(keys, parts).tolist()
    assert together == [key_parts(keys[i : i + 1], parts)[0] for i in range(len(texts))]
    assert all(0 <= part < parts for part in together)
