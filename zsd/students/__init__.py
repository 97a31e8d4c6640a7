"""Students: small classifiers distilled from a teacher's soft labels. Three kinds share one way to be trained and used.

``encoder``
    A transformers classifier: some of the teacher's layers, or any checkpoint (`zsd.students.layers`); a joint one
    reads the class names, too (`zsd.joint_encoder`).
``static``
    The mean of token embeddings and a small perceptron, after Model2Vec and fastText.
``linear``
    TF-IDF and logistic regression: the baseline.
"""

from __future__ import annotations

from pathlib import Path

from zsd.engines.base import Placement
from zsd.engines.registry import default_precision
from zsd.errors import ConfigError
from zsd.machine import available_cpus
from zsd.students.base import Student
from zsd.students.encoder import EncoderStudent
from zsd.students.folder import student_directory, student_kind
from zsd.students.linear import LinearStudent
from zsd.students.static import StaticStudent


def load_student(
    folder: str | Path,
    *,
    engine: str = "torch",
    precision: str | None = None,
    threads: int | None = None,
    device: str = "cpu",
) -> Student:
    """A trained student of any kind, ready to classify texts.

    Args:
        folder: of the student, or the output directory of a `zsd distill`; also a URI.
        engine: of `zsd.engines.registry`, for an encoder; the other kinds have one way to run each.
        precision: one that the engine has, ``int8`` of a student that was compiled; where None fp32, of native bf16.
        threads: processor threads it may use; all there are where None.
        device: ``cpu`` or ``cuda``; static and linear students run on the CPU of either.

    Raises:
        StudentError: there is no student, or it is damaged.
        ConfigError: there is no such engine, or it has no such precision, or the student is not one for engines.
        EngineError: the engine cannot run this student here.
    """
    directory = student_directory(str(folder))
    kind = student_kind(directory)
    placement = Placement(device=device, threads=threads or available_cpus())
    precision = precision or default_precision(engine)
    if kind == "encoder":
        return EncoderStudent(directory, engine=engine, precision=precision, placement=placement)
    if (engine, precision) != ("torch", "fp32"):
        raise ConfigError(
            f"--engine and --precision are for encoders, and {folder} is a {kind} student: leave them away"
        )
    return StaticStudent(directory, threads=placement.threads) if kind == "static" else LinearStudent(directory)
