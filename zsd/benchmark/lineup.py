"""Who takes part: the two peers, the teacher on every engine that can run it here, its compiled forms, the students."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zsd.benchmark.contestants import Contestant
from zsd.engines.base import Placement
from zsd.engines.candidates import candidates
from zsd.engines.native.weights import fits
from zsd.engines.registry import DRAFT
from zsd.labels import LabelSet
from zsd.students.checkpoint import read_checkpoint
from zsd.students.folder import student_kind
from zsd.teachers.nli import load_teacher

REFERENCE = "torch:fp32"
"""What every other contestant is compared with; it always takes part."""

STUDENT_ENGINES = ("torch:fp32", "torch:bf16")
NATIVE = "native:bf16"
"""Where the kernels know the student's architecture."""

OWN_ENGINES = {"static": "torch:fp32", "linear": "scikit-learn:fp32"}

PIPELINE = "transformers pipeline"
RECIPE = "old recipe, DeepSparse"


def line_up(
    *,
    teacher: str,
    compiled: Sequence[str],
    students: Sequence[str | Path],
    labels: LabelSet,
    nli_classes: str | None,
    engines: Sequence[str],
    threads: int,
    recipe: bool = True,
    student_engines: Sequence[str] = (),
) -> list[Contestant]:
    """Everyone who is to take part; the reference is the first of kind ``teacher``.

    Args:
        teacher: NLI checkpoint, name or path.
        compiled: other forms of it: ``bundled-sparse``, or directories made by `zsd compile`.
        students: directories of students, of any kind.
        labels: what is asked.
        nli_classes: see `zsd.teachers.nli.find_nli_classes`.
        engines: ``ENGINE:PRECISION`` for the teacher and its forms; all there are where empty.
        threads: processor threads of each.
        recipe: whether the old DeepSparse recipe's loop takes part.
        student_engines: ``ENGINE:PRECISION`` for students that are encoders; else `STUDENT_ENGINES` and `NATIVE`.
    """
    common: dict[str, Any] = {"labels": labels, "nli_classes": nli_classes, "threads": threads}

    def one(name: str, kind: str, engine_precision: str, model: str) -> Contestant:
        engine, _, precision = engine_precision.partition(":")
        return Contestant(name=name, kind=kind, engine=engine, precision=precision, model=model, **common)

    line = [one(PIPELINE, "pipeline", "torch:fp32", teacher)]
    if recipe:
        line.append(one(RECIPE, "recipe", "deepsparse:fp32", teacher))
    for choice in dict.fromkeys([REFERENCE, *(engines or admitted(teacher, nli_classes))]):
        line.append(one(f"teacher, {_spaced(choice)}", "teacher", choice, teacher))
    for form in compiled:
        name, choices = form_name(form), engines or _of_a_form(admitted(form, nli_classes))
        for choice in choices:
            line.append(one(f"{name}, {_spaced(choice)}", "compiled", choice, form))
        if recipe and "deepsparse:int8" in choices:
            # What the recipe ran was such a form: it shows what its loop alone costs.
            line.append(one(f"old recipe, {name} int8", "recipe", "deepsparse:int8", form))
    for name, directory in named_students(students).items():
        kind = student_kind(directory)
        if kind == "encoder":
            native = (NATIVE,) if fits(read_checkpoint(directory).config) else ()
            for choice in student_engines or (*STUDENT_ENGINES, *native):
                line.append(one(f"{name}, {_spaced(choice)}", "student", choice, directory))
        else:
            line.append(one(name, "student", OWN_ENGINES[kind], directory))
    return line


def named_students(students: Sequence[str | Path]) -> dict[str, str]:
    """What the report calls students, and their directories: ``student``, ``student static``; numbered where alike.

    One of several that `zsd distill` left in ``student-NAME`` is ``student NAME``.
    """
    named: dict[str, str] = {}
    for directory in students:
        kind = student_kind(directory)
        one_of_several = Path(directory).name.partition("student-")[2]
        name = f"student {one_of_several or ('' if kind == 'encoder' else kind)}".rstrip()
        alike = sum(1 for other in named if other.partition(" #")[0] == name)
        named[f"{name} #{alike + 1}" if alike else name] = str(directory)
    return named


def admitted(teacher: str, nli_classes: str | None) -> list[str]:
    """Every ``ENGINE:PRECISION`` that this machine's processor and the teacher's files admit, the reference first."""
    found = candidates(load_teacher(teacher, nli_classes=nli_classes), Placement(device="cpu"))
    return [REFERENCE, *(f"{engine}:{precision}" for engine, precision in found)]


def form_name(form: str) -> str:
    """What the report calls a compiled form: its name, or the last part of its directory."""
    return Path(form).name if Path(form).is_dir() else form


def _of_a_form(choices: Sequence[str]) -> list[str]:
    """What is new in another form of the teacher: int8, a draft, and on DeepSparse, which skips zeros, its fp32."""
    made = (":int8", f":{DRAFT}")
    return [choice for choice in choices if choice.endswith(made) or choice == "deepsparse:fp32"]


def _spaced(engine_precision: str) -> str:
    return engine_precision.replace(":", " ")
