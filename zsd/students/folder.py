"""Where students lie, here or in an object store, and of which kind one is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pafs

from zsd import storage
from zsd.cache import cache_directory, new_directory
from zsd.errors import StoreError, StudentError
from zsd.shards import checksum

STUDENT = "student"
"""Folder of a distill job's output that holds the student; others of the same job are in ``student-NAME``."""
CARD = "zsd.json"
"""File in that folder which tells where the student comes from; written last."""
CONFIG = "config.json"
KINDS = {"model2vec": "static", "zsd-linear": "linear"}
"""Kind of a student by the ``model_type`` of its config.json; any other is that of an encoder."""


def student_uri(model: str) -> str:
    """Where the student lies that ``--model`` means: there, or in an output of `zsd distill` that is there.

    Args:
        model: a path or a URI.

    Returns:
        A path as it was given, without ``file://``; or a URI.

    Raises:
        StudentError: neither is there.
        StoreError: the object store does not answer.
    """
    with _reading(model):
        for uri in (_at(model), _at(model, STUDENT)):
            if _is_student(uri):
                return uri
    raise StudentError(f"{model}: no student here: give a student's directory, or the --output of zsd distill")


def absolute_student(model: str) -> str:
    """`student_uri` as a process in another working directory must name it: a path absolute, its links followed."""
    uri = student_uri(model)
    return str(Path(uri).resolve()) if storage.resolve(uri).is_local else uri


def _at(model: str, *names: str) -> str:
    """This place or one below it: a path as it was given, without ``file://``; or a URI."""
    place = storage.resolve(model)
    if place.is_local:
        given = Path(place.path if model.startswith("file:") else model).expanduser()
        return str(given.joinpath(*names))
    return place.join(*names).uri if names else place.uri


def _is_student(uri: str) -> bool:
    return storage.exists(storage.join(uri, CONFIG))


@contextmanager
def _reading(uri: str) -> Iterator[None]:
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        told = storage.first_line(error)
        raise StoreError(f"{uri}: the student cannot be read: {told}: see to that, then run this again") from None


def student_directory(model: str) -> Path:
    """The directory on this machine of the student that ``--model`` means: see `student_uri` and `local_student`.

    Raises:
        StudentError: there is no student.
        StoreError: the object store does not answer.
    """
    return local_student(student_uri(model))


def local_student(uri: str) -> Path:
    """A student on a file system of this machine: its own folder, or a copy in the cache of one in an object store.

    The copy is of the files as they are listed now: a student that was replaced there is copied anew.

    Raises:
        StoreError: it cannot be copied.
    """
    place = storage.resolve(uri)
    if place.is_local:
        return Path(_at(uri))
    with _reading(uri):
        selector, card = pafs.FileSelector(place.path, recursive=True), place.join(CARD).uri
        found = storage.persistently(place, lambda: place.fs.get_file_info(selector))
        files = sorted((one.path, one.size, one.mtime_ns) for one in found if one.is_file)
        written = storage.read_bytes(card) if storage.exists(card) else b""
        copy = cache_directory() / "students" / checksum(f"{place.uri} {files} ".encode() + written)
        if not copy.is_dir():
            with new_directory(copy) as scratch:
                copy_here = partial(pafs.copy_files, place.path, str(scratch), source_filesystem=place.fs)
                storage.persistently(place, copy_here)
    return copy


def checkpoint_here(name: str) -> str:
    """A checkpoint as transformers takes it: of a URI the directory on this machine, any other name as it is.

    Raises:
        StudentError: nothing lies at the URI.
        StoreError: the object store does not answer.
    """
    return str(student_directory(name)) if "://" in name else name


def student_kind(directory: str | Path) -> str:
    """``encoder``, ``static`` or ``linear``; what is no directory of a student is taken for an encoder.

    Raises:
        StudentError: its config.json is damaged.
    """
    file = Path(directory) / CONFIG
    if not file.is_file():
        return "encoder"
    try:
        model_type = json.loads(file.read_text(encoding="utf-8")).get("model_type")
    except (ValueError, AttributeError):
        raise StudentError(f"{file} is damaged: it is no JSON object: make the student again") from None
    return KINDS.get(str(model_type), "encoder")


def all_students(model: str) -> list[str]:
    """Where every student lies that ``--model`` means: the one there, or all of a distill job, the first one first.

    Raises:
        StudentError: there is none.
        StoreError: the object store does not answer.
    """
    first = student_uri(model)
    if first == _at(model):
        return [first]
    with _reading(model):
        names = sorted(info.base_name for info in storage.infos(storage.resolve(model)))
        others = [_at(model, name) for name in names if name.startswith(f"{STUDENT}-")]
        return [first, *filter(_is_student, others)]
