"""What the report is made from: real `compare` and `examples` output, through the real page."""

from pathlib import Path

import numpy as np
import pytest

from tests.unit.test_report import fake_benchmark
from zsd.benchmark.quality import compare, examples
from zsd.report import write_report

NAMES = ("a", "b")
PROBS_NK = np.array([[0.9, 0.8], [0.9, 0.2], [0.1, 0.2], [0.3, 0.7]], dtype=np.float32)


def test_perfect_student_agrees_wholly() -> None:
    result = compare(PROBS_NK, PROBS_NK, np.array([0, 0, 1, 1]), NAMES, multi_label=False)
    assert result["agreement"] == 1
    assert result["kl"] == pytest.approx(0, abs=1e-6)
    assert result["student"]["accuracy"] == 1
    assert result["gold_class_balance"] == {"a": 0.5, "b": 0.5}


def test_multi_label_balance_is_the_share_of_rows_that_hold_a_class() -> None:
    gold_NK = np.array([[1, 1], [1, 0], [0, 0], [0, 1]])
    result = compare(PROBS_NK, PROBS_NK, gold_NK, NAMES, multi_label=True)
    assert result["gold_class_balance"] == result["teacher"]["class_balance"] == {"a": 0.5, "b": 0.5}
    assert result["student"]["micro_f1"] == 1


@pytest.mark.parametrize("multi_label", [False, True])
def test_page_shows_what_the_benchmark_makes(tmp_path: Path, multi_label: bool) -> None:
    gold = np.array([[1, 1], [1, 0], [0, 0], [0, 1]]) if multi_label else np.array([0, 0, 1, 1])
    texts = ["first <b>", "second", "third", "fourth"]
    benchmark = fake_benchmark()
    benchmark["task"] |= {"labels": list(NAMES), "multi_label": multi_label}
    benchmark["quality"] = compare(PROBS_NK, PROBS_NK, gold, NAMES, multi_label=multi_label)
    benchmark["examples"] = examples(texts, PROBS_NK, PROBS_NK, gold, NAMES)
    page = write_report(benchmark, tmp_path).read_text(encoding="utf-8")
    assert "first &lt;b&gt;" in page
    if multi_label:
        assert benchmark["examples"]["most_confident"][0]["gold"] in (["a", "b"], ["a"])
