from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.unit.store import build
from tests.unit.synthetic import synthetic
from zsd.label_report import label_report
from zsd.label_tables import soft_label_table
from zsd.labels import LabelSet
from zsd.soft_labels.content_free import ContentFree, write_content_free

# Legend: N rows, H hypotheses.

NAMES = ("<b>bold</b>", "$b$", "c")
BIAS = (0.5, 0.0, -1.0)


def store_at(root: Path, labels: LabelSet, *, balance: tuple[float, ...] = (1 / 3, 1 / 3, 1 / 3)) -> str:
    """600 rows, of which the templates do not all say the same."""
    logits_NK, _ = synthetic(balance, BIAS, rows=600)
    more = [logits_NK + 0.1 * number for number in range(len(labels.templates))]
    logits_NH = np.concatenate(more, axis=1)
    ids = [f"row-{n}" for n in range(len(logits_NH))]
    table = soft_label_table(pa.table({"id": ids, "text": ids}), logits_NH, np.zeros_like(logits_NH), labels, 1.0)
    build(root, [table.slice(0, 200), table.slice(200)], labels=labels.to_dict())
    return str(root)


def test_the_report_of_a_single_label_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = store_at(tmp_path, LabelSet(names=NAMES, more_templates=("{}",)))
    free_MK = np.array([BIAS, BIAS], np.float32)
    content = ContentFree(texts=("x y", "y x"), entailment=free_MK, contradiction=np.zeros_like(free_MK))
    write_content_free(output, content)
    figures = label_report(output)
    names = [one["name"] for one in figures["corrections"]]
    assert names == ["none", "information", "batch", "contextual", "only 'This text is about {}.'", "only '{}'"]
    plain, information, batch = figures["corrections"][:3]
    assert plain["changed"] == 0 < information["changed"]
    np.testing.assert_allclose(list(batch["mean_probability"].values()), 1 / 3, atol=1e-3)
    for one in figures["corrections"]:
        assert sum(one["balance"].values()) == pytest.approx(1, abs=1e-3)
        assert sum(one["histogram"]) == pytest.approx(1, abs=1e-2)
    assert figures["auto"] == "information"
    printed = capsys.readouterr().out
    assert "--calibrate auto takes information." in printed and "Batch calibration may be trusted" in printed
    folder = tmp_path / "label-report"
    assert json.loads((folder / "corrections.json").read_text()) == figures
    html = (folder / "report.html").read_text()
    assert (
        "<b>bold</b>" not in html
        and "&lt;b&gt;bold" in html
        and "http" not in html.replace("http-equiv", "").replace("http://www.w3.org", "")
    )
    assert {file.suffix for file in folder.iterdir()} == {".json", ".html", ".png"}


def test_a_multi_label_store_has_no_batch_calibration(tmp_path: Path) -> None:
    figures = label_report(store_at(tmp_path, LabelSet(names=NAMES, multi_label=True)))
    assert [one["name"] for one in figures["corrections"]] == ["none", "information"]
    for one in figures["corrections"]:
        assert all(0 <= share <= 1 for share in one["balance"].values())


def test_what_is_refused_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures = label_report(store_at(tmp_path, LabelSet(names=NAMES), balance=(0.94, 0.03, 0.03)))
    assert figures["auto"] == "none"
    printed = capsys.readouterr().out
    assert "No correction: the rows are spread over" in printed
    assert "which these rows do not support" in printed
