"""Students: small classifiers distilled from a teacher's soft labels. Three kinds share one way to be trained and used.

``encoder``
    A transformers sequence classifier: some of the teacher's layers, or any checkpoint (`zsd.students.layers`).
``static``
    The mean of token embeddings and a small perceptron, after Model2Vec and fastText.
``linear``
    TF-IDF and logistic regression: the baseline.
"""

from __future__ import annotations

from pathlib import Path

from zsd.engines.base import Placement
from zsd.machine import available_cpus
from zsd.students.base import Student
from zsd.students.encoder import EncoderStudent
from zsd.students.folder import student_directory


def load_student(
    folder: str | Path,
    *,
    engine: str = "torch",
    precision: str = "fp32",
    threads: int | None = None,
    device: str = "cpu",
) -> Student:
    """A trained student of any kind, ready to classify texts.

    Args:
        folder: of the student, or the output directory of a `zsd distill`.
        engine: of `zsd.engines.registry`, for an encoder; the other kinds run in numpy whatever is named.
        precision: one that the engine has; ``int8`` of a student that was compiled.
        threads: processor threads it may use; all there are where None.
        device: ``cpu`` or ``cuda``.

    Raises:
        StudentError: there is no student.
        ConfigError: there is no such engine, or it has no such precision.
        EngineError: the engine cannot run this student here.
    """
    directory = student_directory(str(folder))
    placement = Placement(device=device, threads=threads or available_cpus())
    return EncoderStudent(directory, engine=engine, precision=precision, placement=placement)
