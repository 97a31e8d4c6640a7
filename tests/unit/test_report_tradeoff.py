"""The trade-off plot: which dots it has, and when there is none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.unit.test_report import fake_benchmark, fake_contestant
from zsd.report import write_report
from zsd.report.plots_tradeoff import tradeoff


def with_students(**settings: Any) -> dict[str, Any]:
    benchmark = fake_benchmark(**settings)
    for one in benchmark["contestants"]:
        one["model"] = "out/student" if one["kind"] == "student" else "teacher"
    benchmark["contestants"] += [
        fake_contestant("student static", "student", 30_000.0, accuracy=0.76, model="out/student-static"),
        fake_contestant("student linear", "student", 9_000.0, accuracy=0.71, model="out/student-linear"),
    ]
    return benchmark


def dots(benchmark: dict[str, Any]) -> dict[str, tuple[float, float]]:
    figure = tradeoff(benchmark)
    assert figure is not None
    (axes,) = figure.axes
    names = [text.get_text() for text in axes.texts]
    places = [tuple(np.asarray(line.get_xydata())[0].tolist()) for line in axes.lines]
    return dict(zip(names, places, strict=True))


def test_every_student_stands_at_its_speed_and_accuracy() -> None:
    found = dots(with_students())
    assert found["student static"] == (30_000.0, 0.76)
    assert found["student linear"] == (9_000.0, 0.71)
    assert {"transformers pipeline", "student", "student static", "student linear"} <= found.keys()


def test_without_gold_labels_it_is_the_agreement() -> None:
    benchmark = with_students()
    for one in benchmark["contestants"]:
        one["accuracy"] = None
    assert dots(benchmark)["student static"] == (30_000.0, 0.998)


@pytest.mark.parametrize("gold", [True, False])
def test_one_student_has_nothing_to_be_weighed_against(gold: bool) -> None:
    assert tradeoff(fake_benchmark(gold=gold)) is None


def test_the_page_shows_it(tmp_path: Any) -> None:
    page = write_report(with_students(), tmp_path).read_text(encoding="utf-8")
    assert "Quality against speed" in page and (tmp_path / "tradeoff.png").is_file()


def test_no_name_stands_on_another_or_on_a_dot() -> None:
    """Drawn, and measured as drawn: eight contestants, of which three are about as fast and as good as another."""
    benchmark = with_students()
    near = [("student joint", 31_000.0, 0.758), ("student small", 29_000.0, 0.763), ("student tiny", 9_200.0, 0.712)]
    benchmark["contestants"] += [
        fake_contestant(name, "student", rate, accuracy=accuracy, model=name) for name, rate, accuracy in near
    ]
    figure = tradeoff(benchmark)
    assert figure is not None
    figure.draw_without_rendering()
    (axes,) = figure.axes
    names = [text.get_window_extent() for text in axes.texts]
    dots_at = [line.get_window_extent() for line in axes.lines]
    assert len(names) == len(dots_at) >= 6
    for n, name in enumerate(names):
        assert not any(name.overlaps(other) for other in names[:n] + dots_at)
