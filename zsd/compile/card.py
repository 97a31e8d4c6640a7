"""The card of a compiled teacher: what was done to it, and how it compares with fp32, for people (README.md)."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def card_text(figures: dict[str, Any]) -> str:
    """README.md of a compiled teacher, from what compile.json holds."""
    corpus, held = figures["corpus"], figures["heldout"]
    lines = [
        f"# {last_part(figures['teacher'])}, compiled by zsd {figures['versions']['zsd']}",
        "",
        f"Made by `{figures['command']}` on {figures['created']}. Use it as "
        f"`--teacher {last_part(figures['output'])}`.",
        "",
        f"Calibrated on {corpus['calibration_rows']} rows of {', '.join(map(last_part, corpus['data']))}; "
        f"what stays in fp32 or runs again was decided on {corpus['selection_rows']} others. The table is of "
        f"{held['rows']} rows that neither saw, labels {', '.join(corpus['labels'])}, template "
        f'"{corpus["template"]}". Agreement: share of rows with the same top label as torch fp32 of these weights; '
        "|delta p|: mean difference of the probabilities.",
        "",
        *_markdown(figures["forms"]),
        "",
    ]
    if held.get("agreement_with_dense") is not None:
        lines += [
            f"These weights in fp32 against the dense original in fp32: {held['agreement_with_dense']:.1%} agreement, "
            f"mean |delta p| {held['delta_p_with_dense']:.4f}.",
            "",
        ]
    lines += ["## Sparsity", "", f"{figures['sparsity']['overall']:.1%} of the weights of the encoder's linear layers."]
    lines += [f"- {kind}: {share:.1%}" for kind, share in figures["sparsity"]["by_layer"].items()]
    if figures["pruning"] is not None:
        done = figures["pruning"]
        trained = f", trained for {done['steps']:,} steps against the dense one" if done["steps"] else ""
        lines += ["", f"Pruned by {done['method']}{trained}."]
    for form, made in figures["int8"].items():
        kept = made["left_out"]
        lines += ["", f"## int8: {form}", ""]
        lines.append(f"{made['integer']} matrix products in int8, {len(kept)} left in floating point.")
        lines += [f"- `{name}`" for name in kept]
        lines += _second_look(made, corpus["multi_label"])
    lines += [f"- not made: {form}: {why}" for form, why in figures["not_made"].items()]
    if figures["draft"] is not None:
        draft = figures["draft"]
        both = " (by its logits, and once the teacher's bias is taken off)" if draft["biased"] else ""
        lines += [
            "",
            "## Draft",
            "",
            f"{draft['layers']} of the teacher's layers, trained for {draft['steps']:,} steps on {draft['rows']:,} "
            f"rows to give the teacher's logits: alone {draft['agreement_alone']:.1%} agreement{both}. "
            "`--precision draft`.",
            *_second_look(draft, corpus["multi_label"]),
        ]
    lines += ["", "## Files", "", *[f"- {name}: {size / 1e6:.1f} MB" for name, size in figures["files"].items()]]
    lines += ["", "## Versions", "", ", ".join(f"{name} {version}" for name, version in figures["versions"].items())]
    machine = figures["machine"]
    return "\n".join([*lines, "", f"Measured on {machine['cpu']}, {machine['cores']} cores.", ""])


def _second_look(made: dict[str, Any], multi_label: bool) -> list[str]:
    """Which pairs of a form run again; nothing where it has no second look."""
    if not made["within"]:
        return []
    close = "entailment and contradiction of a class" if multi_label else "the best classes of a row"
    again = f"{made['rechecked']:.2%} of the pairs of the rows that decided this"
    biased = ", also after the teacher's bias is taken off," if made.get("biased") else ""
    told = (
        f"Where {close} are within {made['within']:g} of each other{biased} they run again, in bf16 or fp32: {again}."
    )
    if made.get("exactly_within"):
        told += f" Within {made['exactly_within']:g} bf16 does not decide either, and they run in fp32."
    return ["", told]


def last_part(path: str) -> str:
    """File or folder name of an absolute path, which means nothing on another machine; all else as it is."""
    return Path(path).name if Path(path).is_absolute() else path


def forms_table(figures: dict[str, Any]) -> str:
    """The same table for a terminal."""
    lines = [f"{'':<20}{'rows/s':>9}{'agreement':>11}{'|delta p|':>11}"]
    for form in figures["forms"]:
        name = f"{form['engine']} {form['precision']}"
        cells = zip(_cells(form), (9, 11, 11), strict=False)
        lines.append(f"{name:<20}" + "".join(f"{cell:>{width}}" for cell, width in cells))
    return "\n".join(lines)


def _markdown(forms: list[dict[str, Any]]) -> list[str]:
    lines = ["| engine | precision | rows/s here | agreement | mean \\|delta p\\| |", "|---|---|---|---|---|"]
    for form in forms:
        cells = [form["engine"], form["precision"], *_cells(form)]
        lines.append(f"| {' | '.join([*cells, '', ''][:5])} |")
    return lines


def _cells(form: dict[str, Any]) -> list[str]:
    """Rows/s, agreement and mean |delta p| of a form; of one that did not run, why."""
    if "error" in form:
        return [form["error"]]
    return [f"{form['rows_per_second']:.1f}", f"{form['agreement']:.1%}", f"{form['delta_p']:.4f}"]
