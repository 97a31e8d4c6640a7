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
