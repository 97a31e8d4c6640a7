"""One output directory, one job: who owns it, and whether a second run is the same job."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs

from zsd import storage
from zsd.errors import OutputError
from zsd.redaction import redacted
from zsd.shards import read_json, write_json

WORK = {
    "label": ("soft_labels", "corpus/reuse.json"),
    "predict": ("predictions",),
    "annotate": ("samples",),
    "distill": ("checkpoints", "student"),
    "benchmark": ("benchmark/benchmark.json",),
    "nightly": ("plan.json",),
}
"""What each job leaves first. Where none of it is there, the job got no further than a mistake, and gives way."""

STORES = ("label", "predict")
"""Jobs that write a corpus and a manifest: one directory holds one of them."""


def claim(output: str, job: str, identity: dict[str, Any]) -> None:
    """Say whose directory this is, or check that it is ours.

    The identity is written to ``job-NAME.json`` before any work, so that an interrupted job is known again.

    Args:
        output: the output directory; made if need be.
        job: one of `WORK`.
        identity: what makes two runs the same job; JSON values.

    Raises:
        OutputError: another job with the same name lives here (what differs is named), or one that does not go with
            it, or something that zsd did not write; or the directory cannot be written.
    """
    identity = json.loads(redacted(json.dumps(identity, ensure_ascii=False)))  # as it will be read back
    try:
        _refuse_foreign(output, job)
        file = job_file(output, job)
        if storage.exists(file):
            before = read_json(file)
            if before == identity:
                return
            if any(storage.exists(storage.join(output, name)) for name in WORK[job]):
                raise OutputError(_what_differs(output, job, before, identity))
        else:
            for name in WORK[job]:
                if storage.exists(storage.join(output, name)):
                    raise OutputError(f"{output}/{name} is there and no {job} job wrote it: choose a new --output")
        write_json(file, identity)
    except (OSError, pa.ArrowException) as error:
        raise OutputError(
            f"{output}: cannot be written: {storage.first_line(error)}: choose another --output"
        ) from None


def job_file(output: str, job: str) -> str:
    """Where the identity of a job is kept."""
    return storage.join(output, f"job-{job}.json")


def _refuse_foreign(output: str, job: str) -> None:
    place = storage.resolve(output)
    if place.fs.get_file_info(place.path).is_file:
        raise OutputError(f"{output} is a file: --output must be a directory")
    found = place.fs.get_file_info(pafs.FileSelector(place.path, allow_not_found=True))
    names = {info.base_name for info in found if not info.base_name.startswith(".")}
    if names and not names & {f"job-{one}.json" for one in WORK}:
        raise OutputError(f"{output} is not empty and no zsd job wrote it: choose a new --output")
    for other in STORES:
        if job in STORES and other != job and f"job-{other}.json" in names:
            raise OutputError(f"{output} holds the rows of a {other} job: choose a new --output for {job}")


def _what_differs(output: str, job: str, before: dict[str, Any], now: dict[str, Any]) -> str:
    changes = [
        f"{key} was {shown(before.get(key))}, now {shown(now.get(key))}"
        for key in {**now, **before}
        if before.get(key) != now.get(key)
    ]
    told = "; ".join(changes)
    choice = "--night" if job == "nightly" else "--output"
    return f"{output} belongs to a different {job} job: {told}: choose a new {choice}, or repeat that job's command"


def shown(value: Any) -> str:
    """A value in an error message, shortened."""
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:117]}..."
