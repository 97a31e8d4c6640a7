"""A compiled checkpoint: what `zsd compile` puts beside its own files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from transformers import AutoConfig

from zsd.assets import BUNDLED_SPARSE_TEACHER
from zsd.checkpoint import Checkpoint
from zsd.errors import EngineError, in_one_line
from zsd.quiet import quiet_transformers
from zsd.teachers.nli import NLITeacher, checkpoint_fingerprint

FP32_ONNX = "onnx/fp32.onnx"
INT8_ONNX = "onnx/int8.onnx"
INT8_OPENVINO = "openvino/int8.xml"
RECHECK_OPENVINO = "openvino/recheck.json"
DRAFT = "draft"
RECHECK_DRAFT = "draft/recheck.json"


def compiled_file(checkpoint: Checkpoint, kind: str) -> Path | None:
    """A file, such as ``onnx/int8.onnx``, of the checkpoint's directory; None without it.

    Of the bundled sparse teacher, ``onnx/int8.onnx`` is made in the cache of this node when it is first asked for.

    Raises:
        EngineError: that fails.
        InputError: its weights cannot be loaded.
    """
    if isinstance(checkpoint, NLITeacher) and (checkpoint.name, kind) == (BUNDLED_SPARSE_TEACHER, INT8_ONNX):
        # Imported here: it needs onnx and ONNX Runtime, and to look for a file does not.
        from zsd.compile.bundled import bundled_int8

        return bundled_int8(checkpoint)
    file = Path(checkpoint.path) / kind
    return file if file.is_file() else None


def draft_of(checkpoint: Checkpoint) -> NLITeacher | None:
    """The draft that `zsd compile --draft` made of a teacher, which reads the same pairs; None without one.

    Raises:
        EngineError: its config.json is damaged.
    """
    directory = Path(checkpoint.path) / DRAFT
    if not isinstance(checkpoint, NLITeacher) or not (directory / "config.json").is_file():
        return None
    try:
        with quiet_transformers():
            config = AutoConfig.from_pretrained(directory, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise EngineError(f"{directory} is damaged ({in_one_line(error)}): make it again with zsd compile") from None
    return replace(
        checkpoint,
        name=f"{checkpoint.name}/{DRAFT}",
        path=str(directory),
        fingerprint=checkpoint_fingerprint(directory),
        config=config,
    )


def write_recheck(directory: Path, form: str, within: float) -> None:
    """Say how close pairs of a form must be to be run again: see `zsd.teachers.recheck`.

    Args:
        directory: of the compiled teacher.
        form: `RECHECK_OPENVINO` or `RECHECK_DRAFT`.
        within: as a difference of raw logits.
    """
    content = {"within": within, "what": "pairs whose raw logits are this close are run again by the teacher itself"}
    (directory / form).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def recheck_within(checkpoint: Checkpoint, form: str) -> float | None:
    """What `write_recheck` wrote of a form; None where it decides alone.

    Raises:
        EngineError: the file is damaged.
    """
    file = compiled_file(checkpoint, form)
    if file is None:
        return None
    try:
        within = float(json.loads(file.read_text(encoding="utf-8"))["within"])
    except (ValueError, KeyError, TypeError):
        raise EngineError(f"{file} is damaged: make the form again with zsd compile") from None
    return within
