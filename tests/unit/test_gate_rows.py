from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zsd.errors import CorpusError
from zsd.gate_rows import aligned, reviewed_checksum
from zsd.nightly_config import NightlyConfig


@pytest.mark.parametrize(("option", "flag"), [("test", "--label-column"), ("gold", "--gold-label-column")])
def test_a_missing_column_is_told_with_the_flag_that_names_it(tmp_path: Path, option: str, flag: str) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("text,other\nsome text,a\n")
    options: dict[str, Any] = {
        "data": (str(file),),
        "output": str(tmp_path / "out"),
        "label": ("a", "b"),
        option: (str(file),),
    }
    with pytest.raises(CorpusError, match=f"name it with {flag}$"):
        reviewed_checksum(NightlyConfig(**options))


def test_probabilities_follow_the_names_and_unknown_classes_get_0() -> None:
    probs_NK = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]], dtype=np.float32)
    found = aligned(probs_NK, ("a", "b", "gone"), ("new", "b", "a"))
    np.testing.assert_array_equal(found, probs_NK[:, [0, 1, 0]] * [0, 1, 1])
    np.testing.assert_array_equal(aligned(probs_NK, ("a", "b", "c"), ("a", "b", "c")), probs_NK)
