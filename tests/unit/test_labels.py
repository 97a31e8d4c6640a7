from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zsd.errors import LabelSetError
from zsd.labels import LabelSet, read_label_file

NAMES = st.lists(st.text(min_size=1).filter(str.strip), min_size=2, max_size=5, unique=True)


@given(NAMES, st.booleans())
def test_a_label_set_survives_the_manifest(names: list[str], multi_label: bool) -> None:
    labels = LabelSet(names=tuple(names), multi_label=multi_label)
    again = LabelSet.from_dict(labels.to_dict())
    assert again == labels
    assert again.fingerprint == labels.fingerprint
    assert len(labels) == len(labels.hypotheses) == len(names)


@given(NAMES)
def test_the_fingerprint_tells_order_template_and_mode(names: list[str]) -> None:
    one = LabelSet(names=tuple(names))
    others = [
        LabelSet(names=tuple(reversed(names))),
        LabelSet(names=tuple(names), template="{}"),
        LabelSet(names=tuple(names), multi_label=True),
        LabelSet(names=tuple(names), more_templates=("{}",)),
    ]
    assert len({one.fingerprint, *(other.fingerprint for other in others)}) == 5


def test_several_templates_make_all_hypotheses_of_one_before_those_of_the_next() -> None:
    labels = LabelSet(names=("a", "b"), template="x {}", more_templates=("y {}", "z {}"))
    assert labels.templates == ("x {}", "y {}", "z {}")
    assert labels.hypotheses == ["x a", "x b", "y a", "y b", "z a", "z b"]
    assert LabelSet.from_dict(labels.to_dict()) == labels


def test_one_template_is_written_as_stores_of_before_have_it() -> None:
    assert LabelSet(names=("a", "b")).to_dict().keys() == {"names", "template", "multi_label"}


def test_a_name_with_braces_is_put_in_as_it_is() -> None:
    assert LabelSet(names=("{}", "{x}"), template="a {} b").hypotheses == ["a {} b", "a {x} b"]


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        (("a",), {}, "^1 class name.* at least 2 .* --labels, or with --label"),
        ((), {"multi_label": True}, "at least 1"),
        (("a", " "), {}, "a class name is empty: give every --label a name"),
        (("a", "b", "a"), {}, "'a' is given more than once"),
        (("a", "b"), {"template": "text"}, "exactly once"),
        (("a", "b"), {"template": "{} {}"}, "exactly once"),
        (("a", "b"), {"template": "{} {name}"}, "exactly once"),
        (("a", "b"), {"more_templates": ("no",)}, "'no' must contain {} exactly once"),
        (("a", "b"), {"template": "{}!", "more_templates": ("{}", "{}!")}, "'{}!' is given more than once"),
    ],
)
def test_what_a_label_set_refuses(names: tuple[str, ...], options: dict[str, Any], message: str) -> None:
    with pytest.raises(LabelSetError, match=message):
        LabelSet(names=names, **options)


def test_a_label_file(tmp_path: Path) -> None:
    file = tmp_path / "labels.txt"
    file.write_bytes("\ufeffthe world\r\n\r\n  science/tech  \n".encode())
    assert read_label_file(file) == ("the world", "science/tech")


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "names no class"), (b" \n", "no class"), (b"\xff\xfea", "UTF-8")]
)
def test_a_label_file_without_names(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "labels.txt"
    file.write_bytes(content)
    with pytest.raises(LabelSetError, match=message):
        read_label_file(file)


def test_a_label_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(LabelSetError, match="Is a directory"):
        read_label_file(tmp_path)
    with pytest.raises(LabelSetError, match="No such file"):
        read_label_file(tmp_path / "absent")
