from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.unit.store import NAMES, build
from zsd.ablation_config import AblationConfig
from zsd.config import DistillConfig
from zsd.distributed import ablation as room
from zsd.distributed.ablation import CURVE, ablation, table_line
from zsd.errors import ConfigError, OutputError
from zsd.output import claim
from zsd.report.ablation import write_ablation
from zsd.shards import MANIFEST, Store, matrix, read_json, write_json

# Legend: N rows, K labels.


class Bench:
    """Distilling and scoring with arithmetic in their place: a student is right as often as its options are many."""

    def __init__(self) -> None:
        self.trained: list[DistillConfig] = []

    def distill(self, config: DistillConfig, arguments: dict[str, Any]) -> dict[str, Any]:
        claim(config.output, "distill", {"limit": config.limit})
        student = Path(config.output) / "student"
        if not student.exists():
            self.trained.append(config)
            skill = (config.calibrate == "auto") + (config.weight != "none") + config.rounds
            student.mkdir()
            (student / "skill").write_text(json.dumps([skill, arguments["seed"]]))
        return {"heldout": {"agreement": 0.9}}

    def load_student(self, folder: str, *, precision: str) -> Any:
        skill, seed = json.loads((Path(folder) / "student" / "skill").read_text())

        class Student:
            names = NAMES

            def predict(self, texts: list[str]) -> Any:
                probs_NK = np.tile(np.array([0.1, 0.8, 0.1], dtype=np.float32), (len(texts), 1))
                probs_NK[: 4 * skill + seed] = [0.8, 0.1, 0.1]  # the right one
                return probs_NK

            def close(self) -> None:
                pass

        return Student()


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    made = Bench()
    monkeypatch.setattr(room, "distill", made.distill)
    monkeypatch.setattr(room, "load_student", made.load_student)
    return made


def config(tmp_path: Path, **changes: Any) -> AblationConfig:
    build(tmp_path / "store")
    test = tmp_path / "test.csv"
    test.write_text("text,label\n" + "".join(f"row {n},a\n" for n in range(20)))
    asked = {"soft_labels": str(tmp_path / "store"), "test": (str(test),), "output": str(tmp_path / "out")}
    return AblationConfig(**(asked | changes))


def test_each_step_has_all_before_it_and_every_cell_is_trained_once(tmp_path: Path, bench: Bench) -> None:
    asked = config(tmp_path, seeds=2, rows=6, epochs=2.0)
    made = ablation(asked, {})
    assert [step["step"] for step in made["steps"]] == ["plain", "calibration", "weighting", "self-training"]
    assert [round(20 * step["accuracy"], 3) for step in made["steps"]] == [0.5, 4.5, 8.5, 12.5]
    assert all(step["accuracy_spread"] == pytest.approx(0.05 / 2**0.5) for step in made["steps"])
    assert len(bench.trained) == 8
    assert all(one.limit == 6 and one.test == asked.test for one in bench.trained)
    assert not any(one.gold for one in bench.trained)
    assert ablation(asked, {}) == made
    assert len(bench.trained) == 8
    assert json.loads((tmp_path / "out" / "ablation.json").read_text()) == made
    assert table_line(made["steps"][1], made["steps"][0]) == "calibration    accuracy 22.5 ± 3.5, +20.0 on plain"


def test_a_cell_of_other_options_is_refused_and_one_of_other_test_rows_scored_again(
    tmp_path: Path, bench: Bench
) -> None:
    asked = config(tmp_path, seeds=1, rows=6)
    assert [step["accuracy"] for step in ablation(asked, {})["steps"]] == [0.0, 0.2, 0.4, 0.6]
    with pytest.raises(OutputError, match="limit was 6, now 7"):
        ablation(replace(asked, rows=7), {})
    fewer = ablation(replace(asked, test_rows=10), {})
    assert [step["accuracy"] for step in fewer["steps"]] == [0.0, 0.4, 0.8, 1.0]
    assert len(bench.trained) == 4


def test_an_ensemble_is_one_more_step_and_stays(tmp_path: Path, bench: Bench) -> None:
    made = ablation(config(tmp_path, seeds=1, ensemble="elsewhere"), {})
    assert [step["step"] for step in made["steps"]][1] == "ensemble"
    assert [one.soft_labels.endswith("elsewhere") for one in bench.trained] == [False, True, True, True, True]


def test_the_gold_curve_takes_reviewed_rows_that_are_no_test_rows(tmp_path: Path, bench: Bench) -> None:
    gold = tmp_path / "gold.csv"
    gold.write_text("text,label\n" + "".join(f"row {n},a\n" for n in range(CURVE[-1] + 20)))
    output = (tmp_path / "out").as_uri()
    made = ablation(config(tmp_path, seeds=1, gold_curve=True, gold=(str(gold),), output=output), {})
    assert [step["step"] for step in made["steps"]] == [f"gold-{count}" for count in CURVE]
    assert bench.trained[0].gold == ()
    assert bench.trained[1].gold == (str(tmp_path / "out" / "gold-50.jsonl"),)
    for one, count in zip(bench.trained[1:], CURVE[1:], strict=True):
        rows = [json.loads(line) for line in Path(one.gold[0]).read_text().splitlines()]
        assert len(rows) == count
        assert {row["label"] for row in rows} == {"a"}
        assert not {row["text"] for row in rows} & {f"row {n}" for n in range(20)}
    few = tmp_path / "few.csv"
    few.write_text("text,label\nsome text,a\n")
    with pytest.raises(ConfigError, match="1 usable rows, 50 needed"):
        ablation(config(tmp_path, gold_curve=True, gold=(str(few),), seeds=1, output=str(tmp_path / "o")), {})


def test_the_teacher_itself_is_the_first_line(tmp_path: Path, bench: Bench) -> None:
    asked = config(tmp_path, seeds=1)
    other = replace(asked, teacher_labels=str(tmp_path / "labelled"), output=str(tmp_path / "other"))
    changes: list[tuple[dict[str, Any], str]] = [
        ({}, "lacks 20 of the --test rows: label them with zsd label"),
        ({"job": "predict"}, "holds predictions, not soft labels: give the output of zsd label"),
        ({"teacher_fingerprint": "another"}, "not the teacher of --soft-labels: label the --test rows as those"),
        (
            {"labels": {"names": NAMES[::-1], "template": "{}", "multi_label": False}},
            "not the classes, template or mode",
        ),
    ]
    for change, message in changes:
        build(tmp_path / "labelled")
        manifest = read_json(str(tmp_path / "labelled" / MANIFEST))
        write_json(str(tmp_path / "labelled" / MANIFEST), {"teacher_fingerprint": None} | manifest | change)
        with pytest.raises(ConfigError, match=message):
            ablation(other, {})
    rows = Store(asked.soft_labels).read(["text", "probs"])
    Path(asked.test[0]).write_text("text,label\n" + "".join(f"{text},a\n" for text in rows["text"].to_pylist()[::-1]))
    made = ablation(replace(asked, teacher_labels=asked.soft_labels), {})
    first, second = made["steps"][:2]
    assert (first["step"], first["accuracies"]) == ("teacher", [(matrix(rows["probs"]).argmax(axis=1) == 0).mean()])
    assert 0 < first["accuracy"] < 1
    assert table_line(second, first).endswith("on teacher")
    with pytest.raises(ConfigError, match="--teacher-labels is not with --gold-curve: leave it away"):
        replace(asked, teacher_labels=asked.soft_labels, gold_curve=True, gold=("x",))


@pytest.mark.parametrize("name", ["ablation", "gold-curve"])
def test_the_page_shows_every_line_and_escapes_what_it_shows(tmp_path: Path, name: str) -> None:
    figures = {"macro_f1": 0.7, "expected_calibration_error": 0.1, "accuracy_spread": None}
    lines: list[dict[str, Any]] = [
        {"step": step, "accuracy": accuracy, "accuracies": [accuracy], "options": {}, **figures}
        for step, accuracy in (("teacher", 0.7), ("plain", 0.71), ("<b>own", 0.8))
    ]
    if name == "gold-curve":
        lines = [one | {"reviewed": count} for one, count in zip(lines, CURVE, strict=False)]
    lines[2] |= {"accuracies": [0.79, 0.81], "accuracy_spread": 0.014}
    made = {"test_rows": 1200, "rows": 3400, "epochs": 2.0, "steps": lines}
    page = write_ablation(made, tmp_path, name)
    html = page.read_text(encoding="utf-8")
    assert page.name == f"{name}.html" and (tmp_path / f"{name}.png").is_file()
    assert "<b>own" not in html and "1,200" in html and "3,400" in html
    assert "from 70.0\N{NO-BREAK SPACE}% to 80.0\N{NO-BREAK SPACE}%" in html
    assert ("200 reviewed rows" in html) == (name == "gold-curve")
    assert html.count("<tr>") == 1 + len(lines) and "+10.0" in html


def test_a_run_writes_the_page(tmp_path: Path, bench: Bench) -> None:
    ablation(config(tmp_path, seeds=2, rows=6), {})
    assert "6 soft-labelled rows" in (tmp_path / "out" / "ablation.html").read_text(encoding="utf-8")
