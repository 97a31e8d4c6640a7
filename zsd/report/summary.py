"""The result as a short table for a terminal."""

from __future__ import annotations

from typing import Any

from zsd.report.facts import agreement, baseline, fastest, hero, metric, metric_text, side
from zsd.report.text import NBSP, clip, count, factor, number, percent

_LABEL_WIDTH = 16
_VALUE_WIDTH = 9


def summary_table(benchmark: dict[str, Any]) -> str:
    """Lines of a label, a value and its unit, all of one width; what was not measured is left out."""
    lines = [
        *_label_lines(benchmark),
        *_speed_lines(benchmark),
        *_overhead_lines(benchmark),
        *_quality_lines(benchmark),
    ]
    return "\n".join(f"{name:<{_LABEL_WIDTH}}{value:>{_VALUE_WIDTH}}  {unit}" for name, value, unit in lines)


def _label_lines(benchmark: dict[str, Any]) -> list[tuple[str, str, str]]:
    job = benchmark.get("label_job")
    if job is None:
        return []
    detail = f"rows ({count(job['rejected'])} rejected, {count(job['duplicates'])} duplicates)"
    return [("labelled", count(job["rows"]), detail)]


def _speed_lines(benchmark: dict[str, Any]) -> list[tuple[str, str, str]]:
    lines = []
    for kind in ("pipeline", "teacher", "student"):
        contestant = fastest(benchmark, kind)
        if contestant is not None:
            lines.append((kind, number(contestant["rows_per_second"]), f"rows/s ({clip(contestant['name'], 40)})"))
    best, against = hero(benchmark), baseline(benchmark)
    if best is not None and against is not None and best is not against and best.get("speedup"):
        who = f"{best['kind']} against {clip(against['name'], 40)}"
        lines.append(("speed-up", factor(best["speedup"]).replace("×", ""), f"times ({who})"))
    return lines


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
