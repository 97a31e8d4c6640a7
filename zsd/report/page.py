"""The page of a benchmark: its facts and plots through one template."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from zsd.report import engines, facts
from zsd.report.plots_classes import MOST_CONFUSED
from zsd.report.templates import render

EXCERPT = 420  # characters of an example shown before it is unfolded
MOST_CLASSES = 20  # classes shown in the per-class table before it is unfolded
_EXAMPLES = {
    "disagreements": "Where teacher and student disagree",
    "most_confident": "Most confident",
    "least_confident": "Least confident",
}


def render_page(benchmark: dict[str, Any], svgs: dict[str, str]) -> str:
    """The whole page as one string; `svgs` are the plots by name, each one `<svg>` element."""
    return render(
        "page.html",
        svgs,
        b=benchmark,
        task=benchmark["task"],
        machine=benchmark["machine"],
        quality=benchmark.get("quality") or {},
        sides=facts.sides(benchmark),
        headline=facts.headline(benchmark),
        caution=facts.caution(benchmark),
        big_numbers=facts.big_numbers(benchmark),
        baseline=facts.baseline(benchmark),
        engine_sentences=[s for s in (engines.engine_sentence(benchmark), engines.compiled_sentence(benchmark)) if s],
        peak_doubt=engines.peak_doubt(benchmark),
        device=engines.device(benchmark),
        best_name=(facts.hero(benchmark) or {}).get("name"),
        peak=benchmark["peak"],
        lost={c["name"]: engines.quality_lost(benchmark, c) for c in benchmark["contestants"]},
        recipe=any(c["kind"] == "recipe" for c in benchmark["contestants"]),
        compiled=any(c["kind"] == "compiled" for c in benchmark["contestants"]),
        recipe_length=benchmark["task"]["recipe_length"],
        created=_date(benchmark["created"]),
        contestants=sorted(benchmark["contestants"], key=lambda c: -(c.get("rows_per_second") or 0.0)),
        metric=facts.metric(benchmark),
        shows_metric=any(c.get(facts.metric(benchmark)[0]) is not None for c in benchmark["contestants"]),
        majority=_majority(benchmark),
        classes=per_class(benchmark),
        most_classes=MOST_CLASSES,
        most_confused=MOST_CONFUSED,
        examples=_examples(benchmark),
        excerpt=EXCERPT,
    )


def per_class(benchmark: dict[str, Any]) -> list[dict[str, Any]]:
    """One record a class, hardest first: label, support, and the measures of each side; empty without gold labels."""
    known = {who: s["per_class"] for who, s in facts.sides(benchmark).items() if s.get("per_class")}
    if not known:
        return []
    judge = known.get("student") or known["teacher"]
    labels = [label for label in benchmark["task"]["labels"] if label in judge]
    records = [
        {"label": label, "support": judge[label]["support"], **{who: table[label] for who, table in known.items()}}
        for label in labels
    ]
    return sorted(records, key=lambda record: judge[record["label"]]["f1"])


def _date(stamp: str) -> str:
    moment = datetime.fromisoformat(stamp)
    return f"{moment.day} {moment:%B %Y, %H:%M %Z}".strip()


def _majority(benchmark: dict[str, Any]) -> float | None:
    gold = (benchmark.get("quality") or {}).get("gold_class_balance")
    return max(gold.values()) if gold and not benchmark["task"]["multi_label"] else None


def _examples(benchmark: dict[str, Any]) -> list[tuple[str, list[dict[str, Any]]]]:
    given = benchmark.get("examples") or {}
    return [(title, [_example(e) for e in given[name]]) for name, title in _EXAMPLES.items() if given.get(name)]


def _example(example: dict[str, Any]) -> dict[str, Any]:
    gold = example.get("gold")
    names = gold if isinstance(gold, list) else [] if gold is None else [gold]
    answers = [
        {"who": who, **example[who], "right": example[who]["label"] in names if gold is not None else None}
        for who in ("teacher", "student")
        if example.get(who)
    ]
    return {"text": example["text"], "answers": answers, "gold": ", ".join(names) if gold is not None else None}
