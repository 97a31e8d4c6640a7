"""The result for a terminal: the table of all contestants, then a few lines."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from typing import Any

from zsd.report.engines import compiled_sentence, device, engine_sentence, peak_doubt, quality_lost
from zsd.report.facts import agreement, baseline, caution, hero, metric, metric_text, side
from zsd.report.text import MISSING, NBSP, clip, count, difference, factor, number, percent, points

WIDTH = 110
"""Most columns of any line."""

_NAME_WIDTH = 33
_LABEL_WIDTH = 16
_VALUE_WIDTH = 9
_Column = tuple[str, int, Callable[[dict[str, Any]], str]]


def summary_table(benchmark: dict[str, Any]) -> str:
    """The contestants, fastest first, and below them lines of a label, a value and its unit."""
    lines = [*_label_lines(benchmark), *_speed_lines(benchmark)]
    lines += [*_overhead_lines(benchmark), *_quality_lines(benchmark)]
    blocks = [
        _contestants(benchmark),
        [f"{name:<{_LABEL_WIDTH}}{value:>{_VALUE_WIDTH}}  {unit}" for name, value, unit in lines],
        [
            line
            for sentence in (engine_sentence, compiled_sentence, caution, peak_doubt)
            for line in _wrapped(sentence(benchmark))
        ],
    ]
    return "\n\n".join("\n".join(block) for block in blocks if block)


def _columns(benchmark: dict[str, Any]) -> list[_Column]:
    key, name = metric(benchmark)
    columns: list[_Column] = [
        ("rows/s", 7, lambda c: number(c["rows_per_second"])),
        ("times", 8, lambda c: factor(c.get("speedup"))),
        ("pairs/s", 8, lambda c: number(c.get("pairs_per_second")) if c["kind"] != "student" else MISSING),
        ("padding", 8, lambda c: percent(c.get("padding_waste"))),
        ("agree", 8, lambda c: percent(c.get("agreement"))),
        ("|Δp|", 8, lambda c: difference(c.get("mean_delta_p"))),
        (name, 9, lambda c: metric_text(benchmark, c.get(key))),
        ("±", 6, lambda c: points(quality_lost(benchmark, c), share=not benchmark["task"]["multi_label"])),
        ("MB", 7, lambda c: count(c.get("peak_memory_mb"))),
        ("of peak", 8, lambda c: percent(c.get("peak_share"))),
    ]
    if all(c.get(key) is None for c in benchmark["contestants"]):
        columns = [column for column in columns if column[0] not in (name, "±")]
    return columns


def _contestants(benchmark: dict[str, Any]) -> list[str]:
    """A line for the columns, and one for each contestant."""
    known = [c for c in benchmark["contestants"] if c.get("rows_per_second")]
    if not known:
        return []
    columns = _columns(benchmark)
    lines = [f"{device(benchmark):<{_NAME_WIDTH}}" + "".join(f"{name:>{width}}" for name, width, _ in columns)]
    for contestant in sorted(known, key=lambda c: -c["rows_per_second"]):
        values = "".join(f"{show(contestant).replace(NBSP, ''):>{width}}" for _, width, show in columns)
        lines.append(f"{clip(contestant['name'], _NAME_WIDTH - 1):<{_NAME_WIDTH}}{values}")
    few = [c for c in known if (c.get("timed_rows") or 0) < benchmark["task"]["speed_rows"]]
    lines += [f"{clip(c['name'], 40)}: timed on {count(c['timed_rows'])} rows only, for time" for c in few]
    lines += [clip(f"{one['name']}: left out: {one['reason']}", WIDTH) for one in benchmark["left_out"]]
    return lines


def _wrapped(sentence: str | None) -> list[str]:
    return textwrap.wrap(sentence.replace(NBSP, " "), WIDTH) if sentence else []


def _label_lines(benchmark: dict[str, Any]) -> list[tuple[str, str, str]]:
    job = benchmark.get("label_job")
    if job is None:
        return []
    detail = f"rows ({count(job['rejected'])} rejected, {count(job['duplicates'])} duplicates)"
    return [("labelled", count(job["rows"]), detail)]


def _speed_lines(benchmark: dict[str, Any]) -> list[tuple[str, str, str]]:
    best, against = hero(benchmark), baseline(benchmark)
    if best is None or against is None or best is against or not best.get("speedup"):
        return []
    who = f"{best['kind']} against {clip(against['name'], 40)}"
    return [("speed-up", factor(best["speedup"]).replace("×", ""), f"times ({who})")]


def _overhead_lines(benchmark: dict[str, Any]) -> list[tuple[str, str, str]]:
    overhead = benchmark.get("ray_overhead")
    if overhead is None:
        return []
    label, bare = number(overhead["label_rows_per_second"]), number(overhead["bare_rows_per_second"])
    share = percent(overhead["ratio"]).partition(NBSP)[0]
    return [("Ray", share, f"% of the bare engine ({label} against {bare} rows/s, zsd label with one actor)")]


def _quality_lines(benchmark: dict[str, Any]) -> list[tuple[str, str, str]]:
    key, name = metric(benchmark)
    lines = []
    for who in ("teacher", "student"):
        value = side(benchmark, who).get(key)
        if value is not None:
            text, unit = metric_text(benchmark, value), f"({count(side(benchmark, who)['rows'])} rows)"
            digits, _, sign = text.partition(NBSP)
            lines.append((name, digits, f"{sign} {who} {unit}".strip()))
    if agreement(benchmark) is not None:
        lines.append(("agreement", percent(agreement(benchmark)).partition(NBSP)[0], "% student with teacher"))
    return lines
