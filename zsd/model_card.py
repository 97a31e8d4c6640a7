"""The card of a student (README.md): what it is, where it comes from, how good it is, what it cannot do.

The sections follow "Model Cards for Model Reporting" (Mitchell et al. 2019). A figure that was not measured is not on
the card; a path of the machine that made the student is not either.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from huggingface_hub import ModelCardData

from zsd.redaction import redacted

MOST_NAMES = 200
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+!|~])")
_LOCAL_PATH = re.compile(r"^(?:[/~]|[A-Za-z]:\\|file://)")

FORMATS = {
    "encoder": ("transformers", "a transformers sequence classifier"),
    "joint": ("zsd", "a transformers token classifier that reads the class names before the text"),
    "static": ("model2vec", "the mean of token embeddings and a small perceptron"),
    "linear": ("scikit-learn", "TF-IDF of words and word pairs and logistic regression"),
}
"""Library and description of each kind of student."""

FIGURES = {
    "rows": "rows",
    "accuracy": "accuracy",
    "micro_f1": "micro F1",
    "macro_f1": "macro F1",
    "map": "mean average precision",
    "ece": "expected calibration error",
}
"""What of a benchmark's figures is on the card."""


def model_card(
    title: str,
    kind: str,
    card: Mapping[str, Any],
    *,
    manifest: Mapping[str, Any] | None,
    quality: Mapping[str, Any] | None,
    license_id: str | None,
) -> str:
    """The text of README.md.

    Args:
        title: name of the model.
        kind: one of `FORMATS`.
        card: what ``zsd.json`` of the student holds.
        manifest: of the soft labels it was trained on, where it is still there.
        quality: ``quality`` of the benchmark.json that was made of this student, where there is one.
        license_id: SPDX id; None: the card names no licence.
    """
    labels = card["labels"]
    library, described = FORMATS[kind]
    lines = [
        f"# {plain(title)}",
        "",
        f"A text classifier ({described}), distilled by [zsd](#how-it-was-made) from the soft labels of a zero-shot "
        "NLI teacher. No text was labelled by hand to train it"
        f"{', but for the gold rows counted below' if card.get('gold_rows') else ''}.",
        "",
        *_classes(labels),
        *_use(kind),
        *_made(card, labels, manifest),
        *_measured(card, quality),
        *_limits(labels),
    ]
    front = ModelCardData(
        license=license_id,
        library_name=library,
        # A pipeline of transformers would load a joint student without an error, and answer at random.
        pipeline_tag=None if kind == "joint" else "text-classification",
        tags=["zsd", "distillation", "zero-shot-classification", kind],
        base_model=teacher if _is_hub_name(teacher := str(card.get("teacher", ""))) else None,
    )
    return redacted(f"---\n{front.to_yaml()}\n---\n\n" + "\n".join(lines) + "\n")


def plain(value: object) -> str:
    """Any text as one line of Markdown that means itself: no markup, no HTML."""
    one_line = " ".join(str(value).split())
    return _MARKDOWN.sub(r"\\\1", html.escape(one_line, quote=False))


def portable(value: Any) -> Any:
    """A JSON value without the paths of this machine: of an absolute path only its last part is left.

    Names of classes are left alone, whatever they look like.
    """
    if isinstance(value, dict):
        return {key: one if key == "labels" else portable(one) for key, one in value.items()}
    if isinstance(value, list):
        return [portable(one) for one in value]
    if isinstance(value, str) and _LOCAL_PATH.match(value):
        return PurePosixPath(value.removeprefix("file://").replace("\\", "/")).name
    return value


def _is_hub_name(teacher: str) -> bool:
    return re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", teacher) is not None


def _classes(labels: Mapping[str, Any]) -> list[str]:
    names: Sequence[str] = labels["names"]
    shown = [f"- {plain(name)}" for name in names[:MOST_NAMES]]
    more = [f"- and {len(names) - MOST_NAMES} more, in config.json"] if len(names) > MOST_NAMES else []
    kind = "each true or not by itself (sigmoid)" if labels["multi_label"] else "one of them for each text (softmax)"
    return ["## Classes", "", f"{len(names)} classes, {kind}:", "", *shown, *more, ""]


def _use(kind: str) -> list[str]:
    code = (
        ["from transformers import pipeline", "", 'classify = pipeline("text-classification", model=DIR, top_k=None)']
        if kind == "encoder"
        else ["from zsd.students import load_student", "", "classify = load_student(DIR).predict"]
    )
    return [
        *("## Use", "", "```python", *code, 'classify(["a text"])', "```", ""),
        "or, for whole files, `zsd predict --model DIR --data texts.parquet --output predictions`.",
        "",
    ]


def _made(card: Mapping[str, Any], labels: Mapping[str, Any], manifest: Mapping[str, Any] | None) -> list[str]:
    recipe: dict[str, Any] = card.get("recipe") or {"temperature": card.get("temperature")}
    templates = [labels.get("template"), *labels.get("more_templates", ())]
    facts: dict[str, Any] = {
        "Teacher": portable(card.get("teacher")),
        "Teacher's fingerprint": card.get("teacher_fingerprint"),
        "Hypothesis template": "; ".join(filter(None, templates)),
        "Student": portable(card.get("student")),
        "Parameters": f"{card['parameters']:,}" if card.get("parameters") else None,
        "Trained on": f"{card['train_rows']:,} soft-labelled rows" if card.get("train_rows") else None,
        "Gold rows": card.get("gold_rows"),
        "Soft labels": ", ".join(f"{key} {recipe[key]}" for key in ("method", "temperature") if recipe.get(key)),
        "Version of zsd": card.get("zsd_version"),
    }
    if manifest is not None:
        names = sorted({PurePosixPath(str(source["uri"]).partition("?")[0]).name for source in manifest["inputs"]})
        facts["Corpus"] = ", ".join(names[:10]) + (f" and {len(names) - 10} more files" if len(names) > 10 else "")
        facts["Rows of the corpus"] = (
            f"{manifest['rows_in']:,}: {manifest['rows']:,} labelled, {manifest['duplicates']:,} duplicates, "
            f"{manifest['rejected']:,} rejected"
        )
        facts["Text normalization"] = manifest.get("normalization")
    lines = [f"- {name}: {plain(value)}" for name, value in facts.items() if value]
    return ["## How it was made", "", *lines, ""]


def _measured(card: Mapping[str, Any], quality: Mapping[str, Any] | None) -> list[str]:
    held = card.get("heldout", {})
    lines = ["## Measured", ""]
    if held.get("agreement") is not None:
        rows = f" on {held['rows']:,} rows" if held.get("rows") else ""
        lines.append(f"- agreement with the teacher{rows} that were not trained on: {held['agreement']:.3f}")
    if held.get("kl") is not None:
        lines.append(f"- KL divergence from the teacher's soft labels there: {held['kl']:.4f}")
    if quality is not None:
        lines += ["", "On rows with gold labels:", "", "| | teacher | student |", "|---|---|---|"]
        teacher, student = quality["teacher"], quality["student"]
        for name in FIGURES:
            if name in student:
                lines.append(f"| {FIGURES[name]} | {_figure(teacher.get(name))} | {_figure(student[name])} |")
        for name, row in student.get("per_class", {}).items():
            other = teacher.get("per_class", {}).get(name, {})
            lines.append(f"| F1 of {plain(name)} | {_figure(other.get('f1'))} | {_figure(row['f1'])} |")
    return [*lines, *(["- nothing"] if len(lines) == 2 else []), ""]


def _figure(value: float | int | None) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"


def _limits(labels: Mapping[str, Any]) -> list[str]:
    unseen = (
        "A text of none of the classes gets low probabilities at best"
        if labels["multi_label"]
        else "A text of none of the classes gets one of them all the same"
    )
    return [
        "## Limits",
        "",
        "- It repeats its teacher's mistakes: agreement is not accuracy. Measure it on labelled rows of your own with "
        "`zsd evaluate` before it decides anything.",
        "- The names of the classes and the template are all that the teacher was told of what the classes mean; "
        "stereotypes of the teacher's training text about them are in the labels.",
        f"- {unseen}. It knows texts like those of its corpus: other languages, lengths and times were not measured.",
        "- Texts of the corpus are not in the files, but a model can give away what it was trained on.",
    ]
