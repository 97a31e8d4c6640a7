from __future__ import annotations

import json
import random
import re
import struct
import tomllib
from dataclasses import dataclass
from fnmatch import fnmatch
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import zsd.report
from zsd.errors import StoreError
from zsd.report import summary_table, write_report
from zsd.report.drawing import to_svg
from zsd.report.engines import compiled_sentence, engine_sentence
from zsd.report.facts import big_numbers, caution, headline, wilson_interval
from zsd.report.page import render_page
from zsd.report.plots import draw_plots
from zsd.report.summary import WIDTH
from zsd.report.text import clip, difference, duration, factor, number, percent, plain, points

FOUR = ["technology", "sports", "business", "world"]
HOSTILE = (
    '<script>alert("x")</script> \'"><img src=x onerror=alert(1)> {{ 7*7 }} $\\frac{1}{0}$ & '
    "שלום مرحبا 🦄\u202e\x00\ud800"
)


def fake_side(
    labels: list[str], rows: int, skill: float, *, seed: int, gold: bool, multi_label: bool
) -> dict[str, Any]:
    """What evaluation would say of a model that is right with probability `skill`: all figures follow from one draw."""
    rng = random.Random(seed)
    count = len(labels)
    confusion = [[0] * count for _ in labels]
    bins: list[list[tuple[float, bool]]] = [[] for _ in range(15)]
    histogram = [0] * 20
    for row in range(rows):
        right = rng.random() < skill
        truth = row % count
        confusion[truth][truth if right else rng.randrange(count)] += 1
        score = min(0.999, max(1 / count, rng.betavariate(6 if right else 3, 1.4 if right else 2)))
        bins[int(score * 15)].append((score, right))
        histogram[int(score * 20)] += 1
    chosen = [sum(line[k] for line in confusion) for k in range(count)]
    side: dict[str, Any] = {
        "rows": rows,
        "confidence_histogram": {"edges": [i / 20 for i in range(21)], "counts": histogram},
        "class_balance": {label: chosen[k] / rows for k, label in enumerate(labels)},
    }
    if not gold:
        return side
    per_class = {}
    for k, label in enumerate(labels):
        support, hits = sum(confusion[k]), confusion[k][k]
        precision, recall = hits / max(chosen[k], 1), hits / max(support, 1)
        f1 = 2 * precision * recall / max(precision + recall, 1e-9)
        per_class[label] = {"precision": precision, "recall": recall, "f1": f1, "support": support}
    macro = sum(c["f1"] for c in per_class.values()) / count
    reliability = [
        {
            "lower": i / 15,
            "upper": (i + 1) / 15,
            "count": len(b),
            "confidence": sum(s for s, _ in b) / len(b) if b else None,
            "accuracy": sum(r for _, r in b) / len(b) if b else None,
        }
        for i, b in enumerate(bins)
    ]
    points = [{"coverage": c / 10, "accuracy": 1 - (1 - skill) * c / 10, "threshold": 1 - c / 10} for c in range(1, 11)]
    side |= {"macro_f1": macro, "ece": 0.063, "reliability": reliability, "per_class": per_class}
    side["risk_coverage"] = {"area": (1 - skill) / 2, "points": points}
    if multi_label:
        return side | {"micro_f1": macro + 0.02, "map": macro + 0.05, "subset_accuracy": macro - 0.2}
    hits = sum(confusion[k][k] for k in range(count))
    return side | {"accuracy": hits / rows, "confusion": confusion}


def fake_contestant(name: str, kind: str, rate: float, **other: Any) -> dict[str, Any]:
    runs = [rate * 0.93, rate, rate * 1.06]
    return {
        "name": name, "kind": kind, "engine": "torch", "precision": "fp32", "batch": 16, "threads": 2,
        "rows_per_second": rate, "rows_per_second_runs": runs, "pairs_per_second": 4 * rate, "passes_per_row": 4,
        "timed_rows": 64, "peak_memory_mb": 610.0, "load_seconds": 1.9, "model_mb": 90.8, "padding_waste": 0.06,
        "flops_per_row": 5.1e9, "flops_per_second": 5.1e9 * rate, "peak_share": 5.1e9 * rate / 4e11,
        "rows": 160, "agreement": 0.998, "own_agreement": 0.999, "mean_delta_p": 0.00123,
        "accuracy": 0.797, "micro_f1": None, "reference_quality": 0.8, "speedup": rate / 12.1, **other,
    }  # fmt: skip


def fake_benchmark(
    labels: list[str] | None = None, *, rows: int = 160, gold: bool = True, multi_label: bool = False
) -> dict[str, Any]:
    labels = FOUR if labels is None else labels
    teacher, student = (
        fake_side(labels, rows, skill, seed=seed, gold=gold, multi_label=multi_label)
        for skill, seed in ((0.76, 1), (0.78, 2))
    )
    contestants = [
        fake_contestant("transformers pipeline", "pipeline", 12.1),
        fake_contestant("old recipe, DeepSparse", "recipe", 9.3, engine="deepsparse", batch=1),
        fake_contestant("teacher, torch fp32", "teacher", 15.0, agreement=1.0, mean_delta_p=0.0),
        fake_contestant("teacher, torch bf16", "teacher", 33.0, precision="bf16", padding_waste=0.02),
        fake_contestant("teacher, openvino bf16", "teacher", 62.0, engine="openvino", precision="bf16", agreement=0.97),
        fake_contestant(
            "sparse-80, deepsparse int8",
            "compiled",
            74.2,
            engine="deepsparse",
            precision="int8",
            agreement=0.94,
            accuracy=0.79,
        ),
        fake_contestant("student", "student", 410.0, passes_per_row=1, model_mb=57.6),
    ]
    if not gold or multi_label:
        contestants = [contestant | {"accuracy": None} for contestant in contestants]
    return {
        "schema": 2,
        "created": "2026-11-22T03:00:00+00:00",
        "zsd_version": "0.1.0",
        "command": "zsd benchmark --teacher bundled --model out/student --data sample.parquet --output out",
        "machine": {
            "cpu": "Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz", "cores": 2, "memory_gb": 23.4, "gpu": None,
            "cpu_flags": ["avx512f", "avx512_bf16", "avx512_vnni", "amx_tile"],
            "versions": {"python": "3.11.7", "torch": "2.13.0", "transformers": "5.23.0", "ray": "2.60.0"},
        },
        "task": {
            "labels": labels, "template": "This text is about {}.", "multi_label": multi_label,
            "data": ["zsd/assets/sample/news.parquet"], "rows": rows, "speed_rows": 64, "rounds": 3,
            "round_seconds": 30.0, "min_agreement": 0.99, "threads": 2, "device": "cpu", "recipe_length": 128,
            "mean_tokens_per_pair": 38.2, "gold": gold, "teacher": "bundled", "student": "out/student",
        },
        "label_job": {
            "rows": 480, "pairs": 480 * len(labels), "rejected": 3, "duplicates": 2,
            "rows_per_second": 34.1, "pairs_per_second": 136.0, "engine": "torch",
        },
        "contestants": contestants,
        "left_out": [{"name": "teacher, onnxruntime int8", "reason": "it has no int8 form"}],
        "peak": {"size": 3072, "operations_per_second": {"fp32": 0.8e11, "bf16": 4e11, "int8": 6e11}},
        "quality": {
            "teacher": teacher, "student": student, "agreement": 0.93, "kl": 0.11,
            "gold_class_balance": {label: 1 / len(labels) for label in labels} if gold else None,
        },
        "ray_overhead": {"rows": 160, "bare_rows_per_second": 33.0, "label_rows_per_second": 31.2, "ratio": 0.945},
        "examples": {
            "most_confident": [
                fake_example("The champions scored twice in extra time to win the cup final.", labels[1], 0.99, gold),
                fake_example("Shares of the chip maker rose 4 percent after it beat forecasts.", labels[0], 0.98, gold),
            ],
            "least_confident": [
                fake_example("A long one, word by word. " * 200, labels[0], 0.31, gold),
                fake_example("اللاعب سجل هدفين في المباراة النهائية 🏆", labels[1], 0.35, gold),
            ],
            "disagreements": [
                fake_example("Regulators open inquiry into app stores.", labels[0], 0.52, gold)
                | {"student": {"label": labels[-1], "score": 0.61}},
            ],
        },
    }  # fmt: skip


def fake_example(text: str, label: str, score: float, gold: bool) -> dict[str, Any]:
    answer = {"label": label, "score": score}
    return {
        "text": text,
        "teacher": answer,
        "student": answer | {"score": score - 0.02},
        "gold": label if gold else None,
    }


class Page(HTMLParser):
    """The elements, attributes and visible text of a page; no element may be left open or closed twice."""

    VOID = frozenset({"meta", "br", "img", "link"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "title"} & set(self.open):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@dataclass(frozen=True)
class Written:
    """A report on disk, of `fake_benchmark()`."""

    directory: Path
    html: str
    page: Page


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Written:
    directory = tmp_path_factory.mktemp("report") / "new"
    path = write_report(fake_benchmark(), directory)
    assert path == directory / "report.html"
    html = path.read_text(encoding="utf-8")
    return Written(directory, html, Page(html))


def report(benchmark: dict[str, Any]) -> tuple[Page, set[str]]:
    """The page with its plots, and their names; nothing is written."""
    figures = draw_plots(benchmark)
    return Page(render_page(benchmark, {name: to_svg(figure, name) for name, figure in figures.items()})), set(figures)


def words(benchmark: dict[str, Any]) -> str:
    """The text of the page, without the plots."""
    return Page(render_page(benchmark, {})).text


def test_everything_measured_is_on_the_page(full: Written) -> None:
    benchmark = fake_benchmark()
    plots = "speed engines accuracy scores class_balance reliability risk_coverage confusion confusion_teacher"
    assert {png.name for png in full.directory.glob("*.png")} == {f"{name}.png" for name in plots.split()}
    assert full.page.tags.count("svg") == len(plots.split())
    accuracy = percent(benchmark["quality"]["student"]["accuracy"]).replace("\xa0", " ")
    shown = ["410", "34×", "12.1", "93.0 %", accuracy, "Xeon", "zsd benchmark --teacher bundled", "5.5 %", "0.11 nats",
             "This text is about {}.", "480 rows (1,920 pairs)", "41 min"]  # fmt: skip
    for part in shown:
        assert part in full.page.text, part


def test_pngs_are_readable_pictures(full: Written) -> None:
    for png in full.directory.glob("*.png"):
        head = png.read_bytes()[:24]
        width, height = struct.unpack(">II", head[16:24])
        assert head[:8] == b"\x89PNG\r\n\x1a\n"
        assert width == 880
        assert 200 < height < 2400


def test_a_benchmark_read_back_gives_the_same_page_and_is_not_changed(full: Written, tmp_path: Path) -> None:
    benchmark = json.loads(json.dumps(fake_benchmark()))
    assert write_report(benchmark, tmp_path).read_text(encoding="utf-8") == full.html
    assert benchmark == fake_benchmark()


def test_hostile_text_stays_text() -> None:
    labels = [HOSTILE, "a" * 300, 'quo"te', "$x^{$"]
    benchmark = fake_benchmark(labels)
    for group in benchmark["examples"].values():
        for example in group:
            example["text"] = HOSTILE + example["text"]
    for record, keys in ((benchmark, ["command"]), (benchmark["machine"], ["cpu"]), (benchmark["task"], ["template"])):
        for name in keys:
            record[name] = HOSTILE
    benchmark["task"]["data"] = [HOSTILE]
    benchmark["contestants"][4]["name"] = HOSTILE
    benchmark["left_out"][0]["reason"] = HOSTILE
    benchmark["contestants"][0]["engine"] = HOSTILE
    page, _ = report(benchmark)
    assert {"script", "img", "iframe", "link", "object", "base", "form"}.isdisjoint(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert '<script>alert("x")</script>' in page.text
    assert "{{ 7*7 }}" in page.text
    assert "שלום مرحبا 🦄" in page.text
    assert "\x00" not in page.text


def test_the_page_loads_nothing_and_runs_nothing(full: Written) -> None:
    loading = {"src", "href", "xlink:href", "srcset", "data", "action", "background"}
    assert all(value.startswith("#") for name, value in full.page.attributes if name in loading)
    css = full.html.split("<style>")[1].split("</style>")[0]
    assert "url(" not in css
    assert "@import" not in css
    assert ("content", "default-src 'none'; style-src 'unsafe-inline'") in full.page.attributes


def test_every_page_is_installed_and_has_the_one_head() -> None:
    folder = Path(zsd.report.__file__).parent
    project = tomllib.loads((folder.parent.parent / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = project["tool"]["setuptools"]["package-data"]["zsd"]
    for file in folder.iterdir():
        if file.suffix in (".html", ".css"):
            assert any(fnmatch(f"report/{file.name}", pattern) for pattern in patterns), file.name
    pages = {file.name for file in folder.glob("*.html")} - {"base.html", "parts.html"}
    assert pages == {"page.html", "evaluation.html", "ablation.html", "corrections.html", "drift.html"}
    for name in pages:
        source = (folder / name).read_text(encoding="utf-8")
        assert source.startswith('{% extends "base.html" %}')
        assert "<head>" not in source


def test_every_plot_follows_light_and_dark(full: Written) -> None:
    plots = full.html.split("</head>")[1]
    assert "fill: var(--student)" in plots
    assert re.findall(r"#[0-9a-fA-F]{6}\b", plots) == []


def test_ids_are_unique_and_references_resolve(full: Written) -> None:
    ids = [value for name, value in full.page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    references = {value[1:] for name, value in full.page.attributes if name == "xlink:href"}
    references |= {value[5:-1] for name, value in full.page.attributes if name == "clip-path"}
    assert references
    assert references <= set(ids)


def test_without_gold_agreement_stands_in_for_accuracy() -> None:
    benchmark = fake_benchmark(gold=False)
    page, pngs = report(benchmark)
    assert pngs == {"speed", "engines", "agreement", "scores", "class_balance"}
    assert "No gold labels were given" in page.text
    assert headline(benchmark).endswith("and agrees with the teacher on 93.0\xa0% of the rows.")
    assert "accuracy" not in summary_table(benchmark)


def test_multi_label_speaks_of_f1_and_draws_no_confusion() -> None:
    benchmark = fake_benchmark(multi_label=True)
    benchmark["examples"]["most_confident"][0]["gold"] = ["sports", "world"]
    benchmark["examples"]["most_confident"][1]["gold"] = []
    page, pngs = report(benchmark)
    assert "accuracy" in pngs
    assert not any("confusion" in name for name in pngs)
    assert "sports, world" in page.text
    assert "none of the classes" in page.text
    student = f"{benchmark['quality']['student']['micro_f1']:.2f}"
    assert f"with micro-F1 {student} against the teacher’s" in headline(benchmark)
    assert "micro-F1" in summary_table(benchmark)


def test_150_classes_stay_readable() -> None:
    benchmark = fake_benchmark([f"intent number {k}" for k in range(150)], rows=900)
    page, pngs = report(benchmark)
    assert not any("confusion" in name for name in pngs)
    assert "other 130 classes" in page.text
    assert "The other 130 classes" in page.text
    assert "and 130 more" in page.text
    assert "No confusion matrix: with 150 classes" in page.text
    f1 = [c["f1"] for c in benchmark["quality"]["student"]["per_class"].values()]
    rows = page.text.split("Class by class, hardest first")[1].split("intent number ")[1:-1]
    shown = [float(row.split()[5]) for row in rows[:20]]
    assert shown == [round(value, 2) for value in sorted(f1)[:20]]


def test_a_single_contestant_and_nothing_else_is_a_report() -> None:
    benchmark = fake_benchmark()
    benchmark |= {"quality": None, "label_job": None, "ray_overhead": None, "examples": None}
    benchmark["contestants"] = [
        fake_contestant("teacher", "teacher", 33.0, speedup=None, agreement=None, accuracy=None)
    ]
    page, pngs = report(benchmark)
    assert pngs == {"speed"}
    assert headline(benchmark) == "The teacher answers 33.0 rows/s."
    assert "The job" not in page.text
    header, line, *rest = summary_table(benchmark).splitlines()
    assert header.split() == ["CPU,", "2", "threads", "rows/s", "times", "pairs/s", "padding", "agree", "|Δp|", "MB",
                              "of", "peak"]  # fmt: skip
    assert line.split() == ["teacher", "33.0", "–", "132", "6.0%", "–", "0.0012", "610", "42.1%"]
    assert rest == ["teacher, onnxruntime int8: left out: it has no int8 form"]


def test_no_contestant_is_still_a_report_of_quality() -> None:
    benchmark = fake_benchmark() | {"contestants": []}
    page, pngs = report(benchmark)
    assert "speed" not in pngs
    assert "accuracy" in pngs
    assert "No contestant was timed" in page.text


def test_measures_that_are_null_are_dashes() -> None:
    benchmark = fake_benchmark()
    identity = ("name", "kind")
    benchmark["contestants"] += [
        fake_contestant(f"without {name}", "teacher", 20.0, **{name: None})
        for name in benchmark["contestants"][0]
        if name not in identity
    ]
    text_shown = words(benchmark)
    assert "None" not in text_shown
    assert "nan" not in text_shown
    assert (
        "without load_seconds torch fp32, batch 16, 90.8 MB 20.0 18.6 to 21.2 1.7× 80.0 6.0 % 99.8 % 160 rows 0.0012 "
        "79.7 % -0.3 102 25.5 % 610 –" in text_shown
    )


def test_the_whole_text_of_a_long_example_is_there_but_folded() -> None:
    benchmark = fake_benchmark()
    text = "x" * 4999 + "!"
    benchmark["examples"]["most_confident"][0]["text"] = text
    text_shown = words(benchmark)
    assert "The rest of its 5,000 characters" in text_shown
    assert text_shown.count("x" * 420) >= 1
    assert "x" * (4999 - 420) + "!" in text_shown


def test_another_schema_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="schema 1 is not 2"):
        write_report(fake_benchmark() | {"schema": 1}, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_headline_is_the_result_in_plain_words() -> None:
    benchmark = fake_benchmark()
    benchmark["quality"]["student"]["accuracy"] = 0.812
    benchmark["quality"]["teacher"]["accuracy"] = 0.794
    assert headline(benchmark).replace("\xa0", " ") == (
        "The student answers 410 rows/s, 34× the transformers zero-shot pipeline, "
        "with 81.2 % accuracy against the teacher’s 79.4 %."
    )


def test_the_fastest_contestant_of_a_kind_speaks_for_it() -> None:
    benchmark = fake_benchmark()
    benchmark["contestants"].insert(0, fake_contestant("student, openvino", "student", 900.0))
    assert headline(benchmark).startswith("The student answers 900 rows/s, 74×")
    assert "student, openvino" in summary_table(benchmark)


def test_without_a_baseline_no_factor_is_claimed() -> None:
    benchmark = fake_benchmark()
    benchmark["contestants"] = [contestant | {"speedup": None} for contestant in benchmark["contestants"]]
    assert "×" not in headline(benchmark)
    assert "×" not in "".join(item.value for item in big_numbers(benchmark))
    assert "speed-up" not in summary_table(benchmark)


def test_overlapping_intervals_are_admitted() -> None:
    benchmark = fake_benchmark()
    assert "overlap on these 160 rows" in (caution(benchmark) or "")
    benchmark["quality"]["student"]["accuracy"] = 0.99
    benchmark["quality"]["teacher"]["accuracy"] = 0.50
    assert caution(benchmark) is None


def test_a_student_far_below_its_teacher_is_not_praised_for_speed_alone() -> None:
    benchmark = fake_benchmark()
    benchmark["quality"]["student"]["accuracy"] = 0.50
    benchmark["quality"]["teacher"]["accuracy"] = 0.99
    told = "The student is 49.0 points less accurate than its teacher on these 160 rows."
    assert told == caution(benchmark)
    assert told in summary_table(benchmark)


def test_wilson_interval_equals_the_published_examples() -> None:
    low, high = wilson_interval(81 / 263, 263)  # Newcombe 1998, table I, method 3
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)
    low, high = wilson_interval(15 / 148, 148)
    assert (round(low, 4), round(high, 4)) == (0.0624, 0.1605)


@given(st.integers(1, 10_000).flatmap(lambda rows: st.tuples(st.integers(0, rows), st.just(rows))))
def test_wilson_interval_holds_its_proportion(case: tuple[int, int]) -> None:
    hits, rows = case
    low, high = wilson_interval(hits / rows, rows)
    assert 0.0 <= low <= hits / rows + 1e-12
    assert hits / rows - 1e-12 <= high <= 1.0
    assert high > low


def test_summary_is_short_and_aligned() -> None:
    table, lines, sentences = (block.splitlines() for block in summary_table(fake_benchmark()).split("\n\n"))
    assert [line.split()[0] for line in lines] == ["labelled", "speed-up", "Ray", "accuracy", "accuracy", "agreement"]
    assert {line[25:27] for line in lines} == {"  "}
    assert len({len(line) for line in table[:-1]}) == 1
    assert [line.split("  ")[0] for line in table[1:3]] == ["student", "sparse-80, deepsparse int8"]
    assert max(map(len, [*table, *lines, *sentences])) <= WIDTH


def test_summary_cannot_carry_terminal_escapes() -> None:
    benchmark = fake_benchmark()
    benchmark["contestants"][-1]["name"] = "student\x1b[2J\x07"
    benchmark["left_out"][0]["reason"] = "\x1b[2J"
    assert "\x1b" not in summary_table(benchmark)


def test_the_best_engine_is_the_fastest_that_agrees() -> None:
    benchmark = fake_benchmark()
    assert engine_sentence(benchmark) == (
        "For this teacher the fastest engine with at least 99.0\xa0% agreement is torch bf16: 33.0 rows/s, "
        "2.7× the transformers pipeline (CPU, 2 threads)."
    )
    benchmark["task"]["min_agreement"] = 0.97
    assert "is openvino bf16: 62.0 rows/s" in (engine_sentence(benchmark) or "")
    benchmark["contestants"] = [c for c in benchmark["contestants"] if c["kind"] != "teacher"]
    assert engine_sentence(benchmark) is None


def test_a_compiled_form_is_praised_only_where_it_is_faster_and_with_what_it_costs() -> None:
    benchmark = fake_benchmark()
    assert (compiled_sentence(benchmark) or "").replace("\xa0", " ") == (
        "The compiled form sparse-80, deepsparse int8 does 74.2 rows/s, 6.1× the pipeline; it answers as the fp32 "
        "teacher does on 94.0 % of 160 rows and as its own fp32 on 99.9 %, with accuracy 79.0 % against 80.0 % on the "
        "same rows."
    )
    benchmark["task"]["min_agreement"] = 0.97
    benchmark["contestants"][4]["rows_per_second"] = 80.0
    assert compiled_sentence(benchmark) is None


def test_the_page_says_on_what_all_ran_and_who_was_left_out() -> None:
    benchmark = fake_benchmark()
    benchmark["contestants"][0]["timed_rows"] = 23
    page, _ = report(benchmark)
    for part in (
        "All ran on the CPU, 2 threads",
        "Left out: teacher, onnxruntime int8 (it has no int8 form)",
        "timed on 23 rows, for time",
        "fp32 80.0 GFLOP/s, bf16 400 GFLOP/s, int8 600 GOP/s",
        "padded to 128 tokens",
        "is torch bf16: 33.0 rows/s",
    ):
        assert part in page.text, part
    assert "transformers pipeline: timed on 23 rows only" in summary_table(benchmark)


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (float("nan"), "–"), (0.0, "0.00"), (0.01234, "0.0123"), (9.999, "10.0"), (12.1, "12.1"),
     (99.96, "100"), (410.2, "410"), (12300.0, "12,300"), (1e-12, "0.000000")],
)  # fmt: skip
def test_number(value: float | None, text: str) -> None:
    assert number(value) == text


def test_differences() -> None:
    assert [difference(d) for d in (None, float("nan"), 0.0, 1e-7, 0.0123)] == ["–", "–", "0", "<0.0001", "0.0123"]
    assert [points(p, share=True) for p in (None, -0.0031, 0.02)] == ["–", "-0.3", "+2.0"]
    assert points(-0.0312, share=False) == "-0.03"


def test_units() -> None:
    assert [duration(s).replace("\xa0", " ") for s in (5.04, 59, 2440, 82645, 1e7)] == [
        "5.0 s", "59 s", "41 min", "23 h", "116 days",
    ]  # fmt: skip
    assert [factor(f) for f in (33.88, 9.96, 2.7, 0.84)] == ["34×", "10×", "2.7×", "0.84×"]


@given(st.text(), st.integers(1, 40))
def test_clip_is_one_line_of_at_most_so_many_columns(text: str, columns: int) -> None:
    clipped = clip(text, columns)
    assert "\n" not in clipped
    assert len([char for char in clipped if char.isprintable() and ord(char) < 0x300]) <= columns
    assert clipped == " ".join(plain(text).split()) or clipped.endswith("…")


def test_clip_counts_wide_characters_twice() -> None:
    assert clip("漢字漢字漢字", 7) == "漢字漢…"
    assert clip("short", 5) == "short"


@given(st.text(alphabet=st.characters(), max_size=30))
def test_plain_text_can_always_be_written(text: str) -> None:
    assert "\x00" not in plain(text)
    plain(text).encode("utf-8")


def test_a_peak_below_what_an_engine_did_is_doubted(tmp_path: Path) -> None:
    benchmark = fake_benchmark()
    for one in benchmark["contestants"]:
        one["peak_share"] = 0.9
    assert "measured too low" not in summary_table(benchmark)
    sparse = next(one for one in benchmark["contestants"] if one["engine"] == "deepsparse")
    sparse["peak_share"] = 1.2
    assert "measured too low" not in summary_table(benchmark)
    dense = next(one for one in benchmark["contestants"] if one["engine"] != "deepsparse")
    engine = dense["engine"]
    dense |= {"peak_share": 1.2, "engine": "native"}
    assert "measured too low" not in summary_table(benchmark)
    dense["engine"] = engine
    assert f"measured too low, for {dense['name']} did more" in " ".join(summary_table(benchmark).split())
    assert "measured too low" in write_report(benchmark, tmp_path).read_text(encoding="utf-8")


def test_a_multi_label_student_below_its_teacher_is_told() -> None:
    benchmark = fake_benchmark(multi_label=True)
    assert caution(benchmark) is None
    benchmark["quality"]["student"]["micro_f1"] = 0.5
    benchmark["quality"]["teacher"]["micro_f1"] = 0.7
    assert caution(benchmark) == "The student's micro-F1 is below its teacher's, 0.50 against 0.70."
    benchmark["quality"]["student"]["micro_f1"] = 0.6999
    assert caution(benchmark) is None
