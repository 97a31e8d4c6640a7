"""Which engine of the teacher is the fastest that may be used, in plain words: the rule of ``--engine auto``."""

from __future__ import annotations

from typing import Any

from zsd.report.facts import metric, metric_text
from zsd.report.text import clip, factor, number, percent

PASSES = ("pipeline", "recipe", "teacher", "compiled")
"""Kinds of contestants that run an NLI model once for every class of a text."""


def teacher_passes(benchmark: dict[str, Any]) -> list[dict[str, Any]]:
    """The contestants that run an NLI model, fastest first."""
    known = [c for c in benchmark["contestants"] if c["kind"] in PASSES and c.get("rows_per_second")]
    return sorted(known, key=lambda contestant: -contestant["rows_per_second"])


def admitted(benchmark: dict[str, Any], contestant: dict[str, Any]) -> bool:
    """Whether it answers as the fp32 teacher does on at least ``task.min_agreement`` of its rows."""
    return bool((contestant.get("agreement") or 0.0) >= benchmark["task"]["min_agreement"])


def best_engine(benchmark: dict[str, Any]) -> dict[str, Any] | None:
    """The fastest admitted engine of the teacher; None where there is none."""
    engines = (c for c in teacher_passes(benchmark) if c["kind"] == "teacher" and admitted(benchmark, c))
    return next(engines, None)


def engine_sentence(benchmark: dict[str, Any]) -> str | None:
    """The engine that the measurements would choose for this teacher, on which device; None without a teacher."""
    best = best_engine(benchmark)
    if best is None:
        return None
    least = percent(benchmark["task"]["min_agreement"])
    sentence = (
        f"For this teacher the fastest engine with at least {least} agreement is {_engine(best)}: "
        f"{number(best['rows_per_second'])} rows/s"
    )
    if best.get("speedup"):
        sentence += f", {factor(best['speedup'])} the transformers pipeline"
    return f"{sentence} ({device(benchmark)})."


MAY_EXCEED = ("deepsparse", "native")
"""Engines that may be above the peak, which is torch's: one skips pruned weights, one has products of its own."""


def peak_doubt(benchmark: dict[str, Any]) -> str | None:
    """Where an engine is above the peak that was measured, and is none of those that can be."""
    above = [c for c in benchmark["contestants"] if c["engine"] not in MAY_EXCEED and (c.get("peak_share") or 0) > 1]
    if not above:
        return None
    names = ", ".join(clip(c["name"], 40) for c in above)
    return (
        f"The peak of the matrix product is measured too low, for {names} did more: the machine was probably busy "
        "with other work then. Do not rely on the shares of the peak."
    )


def compiled_sentence(benchmark: dict[str, Any]) -> str | None:
    """What the fastest compiled form gains and costs, where it is faster than the best engine of the teacher itself."""
    forms = [c for c in teacher_passes(benchmark) if c["kind"] == "compiled"]
    best = best_engine(benchmark)
    if not forms or (best is not None and forms[0]["rows_per_second"] <= best["rows_per_second"]):
        return None
    form = forms[0]
    sentence = f"The compiled form {clip(form['name'], 40)} does {number(form['rows_per_second'])} rows/s"
    if form.get("speedup"):
        sentence += f", {factor(form['speedup'])} the pipeline"
    sentence += f"; it answers as the fp32 teacher does on {percent(form['agreement'])} of {form['rows']:,} rows"
    if form.get("own_agreement") is not None and form["precision"] != "fp32":
        sentence += f" and as its own fp32 on {percent(form['own_agreement'])}"
    key, name = metric(benchmark)
    if form.get(key) is not None:
        own, reference = (metric_text(benchmark, value) for value in (form[key], form["reference_quality"]))
        sentence += f", with {name} {own} against {reference} on the same rows"
    return f"{sentence}."


def quality_lost(benchmark: dict[str, Any], contestant: dict[str, Any]) -> float | None:
    """Its accuracy (multi-label: micro-F1) less that of the fp32 teacher on the same rows; None without gold labels."""
    own, reference = contestant.get(metric(benchmark)[0]), contestant.get("reference_quality")
    return None if own is None or reference is None else float(own - reference)


def device(benchmark: dict[str, Any]) -> str:
    """Where everyone ran: ``CPU, 2 threads``."""
    task = benchmark["task"]
    return f"{task['device'].upper()}, {task['threads']} thread{'' if task['threads'] == 1 else 's'}"


def headliners(benchmark: dict[str, Any]) -> list[dict[str, Any]]:
    """The few that tell what was gained: the peers, the best engine, the fastest compiled form, the student.

    Where no engine of the teacher is admitted, its fastest stands for it.
    """
    passes = teacher_passes(benchmark)
    engines = [c for c in passes if c["kind"] == "teacher"]
    chosen = [c for c in passes if c["kind"] in ("pipeline", "recipe")]
    chosen += [best_engine(benchmark) or engines[0]] if engines else []
    chosen += [c for c in passes if c["kind"] == "compiled"][:1]
    chosen += [c for c in benchmark["contestants"] if c["kind"] == "student" and c.get("rows_per_second")]
    return chosen


def _engine(contestant: dict[str, Any]) -> str:
    return f"{contestant['engine']} {contestant['precision']}"
