"""One output directory, one job: who owns it, and whether a second run is the same job."""

from __future__ import annotations

from typing import Any

from zsd import storage
from zsd.errors import OutputError
from zsd.shards import read_json, write_json


def claim(output: str, job: str, identity: dict[str, Any]) -> None:
    """Say whose directory this is, or check that it is ours.

    The identity is written to ``job-NAME.json`` before any work, so that an interrupted job is known again.

    Args:
        output: the output directory; made if need be.
        job: ``label``, ``distill``, ``predict``.
        identity: what makes two runs the same job; JSON values.

    Raises:
        OutputError: another job with the same name lives here (what differs is named), or the directory holds
            files that zsd did not write.
    """
    file = storage.join(output, f"job-{job}.json")
    if storage.exists(file):
        before = read_json(file)
        differences = [
            f"{key} was {shown(before.get(key))}, now {shown(identity.get(key))}"
            for key in {**identity, **before}
            if before.get(key) != identity.get(key)
        ]
        if differences:
            raise OutputError(
                f"{output} belongs to a different {job} job: {'; '.join(differences)}: "
                "choose a new --output, or repeat the same command to resume"
            )
        return
    place = storage.resolve(output)
    info = place.fs.get_file_info(place.path)
    if info.is_file:
        raise OutputError(f"{output} is a file: --output must be a directory")
    if not _ours(output):
        raise OutputError(f"{output} is not empty and no zsd job wrote it: choose a new --output")
    write_json(file, identity)


def _ours(output: str) -> bool:
    names = storage.list_names(output)
    return not names or any(name.startswith("job-") for name in names)


def shown(value: Any) -> str:
    """A value in an error message, shortened."""
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:117]}..."
