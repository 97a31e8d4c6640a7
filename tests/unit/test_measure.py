"""The race itself, with real models and no processes: who takes part, on which rows, and the page made from it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.families import tiny_checkpoint
from tests.unit.test_report import fake_benchmark
from zsd.benchmark import contestants as contestants_module
from zsd.benchmark import peak as peak_module
from zsd.benchmark.contestants import Contestant, Question
from zsd.benchmark.lineup import line_up
from zsd.benchmark.measure import Result, measure
from zsd.benchmark.quality import compare, examples
from zsd.benchmark.race import Entry, Race
from zsd.benchmark.remote import Make, Remote
from zsd.errors import EngineError
from zsd.labels import LabelSet
from zsd.report import summary_table, write_report
from zsd.students import load_student
from zsd.students.fit import fit
from zsd.students.rows import SoftRows
from zsd.students.spec import parse_student

NAMES = ("sports", "business")
TEXTS = [f"{text} {n}" for n in range(5) for text in ("A goal in stoppage time!", "Shares fell", "café")][:14]
GOLD = np.array([n % 2 for n in range(14)], dtype=np.int64)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything in this process, small matrices and small parts."""

    def load(self: Remote, name: str, make: Make, argument: Any) -> None:
        self.name = name
        self.loaded, self.answer = make(argument)  # type: ignore[attr-defined]

    monkeypatch.setattr(Remote, "__init__", load)
    monkeypatch.setattr(Remote, "ask", lambda self, question: self.answer(question))
    monkeypatch.setattr(Remote, "close", lambda self: None)
    monkeypatch.setattr(peak_module, "SIZE", 64)
    monkeypatch.setattr(peak_module, "SECONDS", 0.001)
    monkeypatch.setattr(contestants_module, "PART_PAIRS", 4)
    monkeypatch.setattr(contestants_module, "PEER_PART_PAIRS", 4)
    monkeypatch.setattr("zsd.benchmark.measure.LEAST_SECONDS", 0.0)


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> str:
    names = dict(enumerate(NAMES))
    folder = tmp_path_factory.mktemp("student")
    return str(tiny_checkpoint(folder, "bert", num_labels=2, id2label=names, label2id={n: k for k, n in names.items()}))


def line(teacher: str, student: str, *, multi_label: bool = False, **changes: object) -> list[Contestant]:
    """All but the old recipe, which is timed in `test_contestants`."""
    labels = LabelSet(names=NAMES, multi_label=multi_label)
    asked: dict[str, Any] = {"compiled": (), "nli_classes": None, "engines": ("torch:bf16",), "threads": 1}
    found = line_up(teacher=teacher, labels=labels, **({"students": (student,)} | asked | changes))
    return [one for one in found if one.kind != "recipe"]


def run(contestants: list[Contestant], **changes: Any) -> Result:
    asked: dict[str, Any] = {"gold": GOLD, "speed_rows": 6, "rounds": 2, "round_seconds": 1000.0}
    return measure(contestants, TEXTS, **(asked | changes))


def by_name(found: Result) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in found.contestants}


def test_every_figure_follows_from_what_was_measured(teacher_of: Callable[..., str], student: str) -> None:
    found = run(line(teacher_of("bert"), student))
    rows = by_name(found)
    reference, pipeline = rows["teacher, torch fp32"], rows["transformers pipeline"]
    assert reference["agreement"] == pipeline["agreement"] == reference["own_agreement"] == 1
    assert reference["mean_delta_p"] == 0 < rows["teacher, torch bf16"]["mean_delta_p"] < 0.2
    assert pipeline["speedup"] == 1
    assert found.teacher.shape == found.student.shape == (14, 2)
    assert reference["accuracy"] == (found.teacher.argmax(axis=1) == GOLD).mean() == reference["reference_quality"]
    assert pipeline["rows"] == 6
    assert pipeline["accuracy"] == (found.teacher.argmax(axis=1)[:6] == GOLD[:6]).mean()
    for row in found.contestants:
        assert row["timed_rows"] == 6
        assert len(row["rows_per_second_runs"]) == 2
        assert row["flops_per_second"] == pytest.approx(row["flops_per_row"] * row["rows_per_second"])
        assert row["peak_share"] == pytest.approx(row["flops_per_second"] / found.peak[row["precision"]])
        assert 0 <= row["padding_waste"] < 1
        assert row["pairs_per_second"] == pytest.approx(row["rows_per_second"] * (1 if row["kind"] == "student" else 2))
    assert reference["flops_per_row"] == pipeline["flops_per_row"] == rows["teacher, torch bf16"]["flops_per_row"]
    assert found.left_out == []


def test_who_has_no_time_is_judged_on_what_it_did_but_the_reference_does_all(
    teacher_of: Callable[..., str], student: str
) -> None:
    found = run(line(teacher_of("bert"), student), round_seconds=1e-9)
    rows = by_name(found)
    assert len(found.teacher) == len(found.student) == rows["teacher, torch fp32"]["rows"] == 14
    hurried = rows["teacher, torch bf16"]
    assert (hurried["timed_rows"], hurried["rows"]) == (2, 4), "one part when timed and one part more for the quality"
    assert (rows["transformers pipeline"]["timed_rows"], rows["transformers pipeline"]["rows"]) == (2, 2)


def test_who_cannot_run_is_left_out_and_told_so(teacher_of: Callable[..., str], student: str) -> None:
    found = run(line(teacher_of("bert"), student, engines=("openvino:int8", "torch:bf16")), rounds=1)
    assert [one["name"] for one in found.left_out] == ["teacher, openvino int8"]
    assert "int8" in found.left_out[0]["reason"]
    assert {one["kind"] for one in found.contestants} == {"pipeline", "teacher", "student"}


def test_a_race_that_no_student_can_enter_ends_before_it_begins(teacher_of: Callable[..., str], student: str) -> None:
    entered = line(teacher_of("bert"), student, student_engines=("openvino:int8",))
    with pytest.raises(EngineError, match="no student is left"):
        run(entered)


def test_a_form_is_compared_with_the_teacher_and_with_its_own_fp32(
    teacher_of: Callable[..., str], student: str
) -> None:
    other = teacher_of("modernbert")
    found = run(line(teacher_of("bert"), student, compiled=(other,), engines=("torch:fp32", "torch:bf16")), rounds=1)
    form = next(one for one in found.contestants if one["kind"] == "compiled" and one["precision"] == "bf16")
    assert form["own_agreement"] >= form["agreement"]
    assert form["model"] == other
    assert form["flops_per_row"] != by_name(found)["teacher, torch fp32"]["flops_per_row"]


class Dying:
    """A process that dies at the first question."""

    closed = False

    def __init__(self, contestant: Contestant) -> None:
        self.contestant = contestant

    def measure(self, texts: list[str], *, least_seconds: float, most_seconds: float) -> Question:
        raise EngineError("died")

    def close(self) -> None:
        self.closed = True


def test_who_dies_drops_out_unless_the_race_is_nothing_without_it(teacher_of: Callable[..., str], student: str) -> None:
    for contestant in line(teacher_of("bert"), student):
        race = Race()
        process = Dying(contestant)
        race.entries.append(Entry(process=process, texts=TEXTS))  # type: ignore[arg-type]
        if contestant.name in ("transformers pipeline", "teacher, torch fp32", "student, torch fp32"):
            with pytest.raises(EngineError, match="died"):
                race.measure(race.entries[0], TEXTS, least=0.0, most=1.0)
        else:
            assert race.measure(race.entries[0], TEXTS, least=0.0, most=1.0) is None
            assert race.left_out == [{"name": contestant.name, "reason": "died"}]
            assert race.entries == []
            assert process.closed


@pytest.mark.parametrize("multi_label", [False, True])
def test_the_page_shows_what_was_measured(
    teacher_of: Callable[..., str], student: str, tmp_path: Path, multi_label: bool
) -> None:
    gold = np.eye(2, dtype=np.int64)[GOLD] if multi_label else GOLD
    contestants = line(teacher_of("bert"), student, multi_label=multi_label)
    found = run(contestants, rounds=1, gold=gold)
    benchmark = fake_benchmark()
    benchmark["task"] |= {"labels": list(NAMES), "multi_label": multi_label, "rows": 14, "speed_rows": 6, "rounds": 1}
    benchmark |= {
        "contestants": found.contestants,
        "left_out": found.left_out,
        "peak": {"size": 64, "operations_per_second": found.peak},
        "quality": compare(found.teacher, found.student, gold, NAMES, multi_label=multi_label),
        "examples": examples(TEXTS, found.teacher, found.student, gold, NAMES),
    }
    page = write_report(benchmark, tmp_path).read_text(encoding="utf-8")
    table = summary_table(benchmark)
    for contestant in contestants:
        assert contestant.name in page
        assert contestant.name in table
    assert (tmp_path / "engines.png").is_file()
    assert ("micro-F1" if multi_label else "accuracy") in table.splitlines()[0]
    assert max(map(len, table.splitlines())) <= 110


@pytest.fixture(scope="module")
def light(tmp_path_factory: pytest.TempPathFactory, teacher_of: Callable[..., str]) -> dict[str, Path]:
    """A static and a linear student of the two classes."""

    def rows() -> Any:
        probs_NK = np.array([[0.9, 0.1], [0.2, 0.8]] * 32, dtype=np.float32)
        texts = [("goal match late" if n % 2 == 0 else "bank shares fell") + f" {n % 7}" for n in range(64)]
        yield SoftRows(ids=[str(n) for n in range(64)], texts=texts, probs=probs_NK, weights=np.ones(64, np.float32))

    made = {kind: tmp_path_factory.mktemp(kind) for kind in ("static", "linear")}
    for kind, folder in made.items():
        settings: dict[str, Any] = {"names": NAMES, "multi_label": False, "write": lambda line: None}
        fit(parse_student(kind), rows, folder, teacher=teacher_of("bert"), **settings)
    return made


def test_students_of_all_kinds_are_measured_alike(
    teacher_of: Callable[..., str], student: str, light: dict[str, Path]
) -> None:
    students = (student, light["static"], light["linear"])
    found = run(line(teacher_of("bert"), student, students=students), rounds=1)
    rows = {name: row for name, row in by_name(found).items() if row["kind"] == "student"}
    encoders = {f"student, {one}" for one in ("torch fp32", "torch bf16", "native bf16")}
    assert rows.keys() == encoders | {"student static", "student linear"}
    for name, row in rows.items():
        assert row["rows_per_second"] > 0 and row["flops_per_row"] > 0 and row["accuracy"] is not None, name
        assert row["rows"] == len(TEXTS) or name == "student, torch bf16"
    known = load_student(light["static"]).predict(TEXTS).argmax(axis=1)
    assert rows["student static"]["accuracy"] == (known == GOLD).mean()
    fastest = max(rows.values(), key=lambda row: row["rows_per_second"])
    assert (found.student.argmax(axis=1) == GOLD).mean() == fastest["accuracy"]
