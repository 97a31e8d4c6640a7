"""Which filesystem a path or URI means, and patience with one that is reached over a network."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TypeVar
from urllib.parse import parse_qsl, quote, unquote, urlsplit, urlunsplit

import pyarrow as pa
import pyarrow.fs as pafs

from zsd.errors import InputError, StoreError
from zsd.redaction import refuse_secrets

T = TypeVar("T")

REQUEST_ATTEMPTS = 6
"""Times that the S3 client tries a request which the server failed to answer: half a minute at the most."""

ATTEMPTS = 3
"""Times that an operation on a store is tried, above the client's own attempts at each of its requests."""

FIRST_PAUSE = 0.2
"""Seconds before the second attempt; each further pause is twice as long."""

S3_OPTIONS = frozenset({"endpoint_override", "scheme", "region"})

_SCHEME = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://")


@dataclass(frozen=True)
class Location:
    """A place in a filesystem.

    Args:
        fs: the filesystem that holds it.
        path: its path as that filesystem names it.
        uri: absolute and normalized: a plain path for a local file, a URI for any other.
    """

    fs: pafs.FileSystem
    path: str
    uri: str

    @property
    def is_local(self) -> bool:
        """Whether the file lies on a mounted disk."""
        return isinstance(self.fs, pafs.LocalFileSystem)

    def join(self, *parts: str) -> Location:
        """The location below this one; every part is a name or a relative path, not yet percent-encoded.

        Raises:
            StoreError: a part, which may be read from a manifest, leads out of this location.
        """
        for part in parts:
            if part.startswith("/") or "\0" in part or ".." in part.split("/"):
                raise StoreError(f"{self.uri}: {part!r} leads out of it: a manifest or record here was tampered with")
        below = "/".join(part.rstrip("/") for part in parts)
        path = f"{self.path.rstrip('/')}/{below}"
        if self.is_local:
            return Location(self.fs, path, path)
        address = urlsplit(self.uri)
        return Location(self.fs, path, urlunsplit(address._replace(path=f"{address.path}/{quote(below)}")))


def resolve(uri: str | Path) -> Location:
    """The location that a path (``~`` allowed) or a `pyarrow.fs` URI names; nothing needs to exist there.

    Raises:
        InputError: the URI is malformed, of an unknown kind, holds a password, or its store cannot be reached.
    """
    text = str(uri)
    if text.startswith("file://"):
        text = unquote(text.removeprefix("file://"))
        if not text.startswith("/"):
            raise InputError(f"{uri}: a file URI must be absolute: write file:///folder/name")
    if not _SCHEME.match(text):
        path = os.path.abspath(Path(text).expanduser())  # noqa: PTH100 (Path.absolute keeps "..")
        return Location(pafs.LocalFileSystem(), path, path)
    refuse_secrets(text, "URI")
    address = urlsplit(text)
    if address.fragment:
        raise InputError(f"{text}: '#' cuts a URI short: write it as %23")
    address = address._replace(path=address.path.rstrip("/"))
    fs, root = _filesystem(urlunsplit(address._replace(path="")))
    return Location(fs, root.rstrip("/") + unquote(address.path), urlunsplit(address))


@lru_cache(maxsize=64)
def _filesystem(root: str) -> tuple[pafs.FileSystem, str]:
    """The filesystem of a bucket and the bucket's path in it; kept, because making one may ask the network."""
    try:
        fs, path = _s3_filesystem(root) or pafs.FileSystem.from_uri(root)
    except (pa.ArrowException, OSError, ValueError, ImportError) as error:
        raise InputError(f"{root}: not a path or a URI that can be opened: {first_line(error)}") from None
    return fs, path


def _s3_filesystem(root: str) -> tuple[pafs.FileSystem, str] | None:
    """S3 with more patience than `pafs.FileSystem.from_uri` gives it; None for what that must judge itself."""
    address = urlsplit(root)
    options = dict(parse_qsl(address.query))
    if address.scheme != "s3" or not address.hostname or address.username or options.keys() - S3_OPTIONS:
        return None
    options.setdefault("region", os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "")
    if not options["region"]:
        options["region"] = pafs.resolve_s3_region(address.hostname)
    return PatientS3(**options), address.hostname


class PatientS3(pafs.S3FileSystem):  # type: ignore[misc]
    """S3 that tries a request `REQUEST_ATTEMPTS` times, in every process: pyarrow does not pickle a retry strategy.

    Args:
        options: some of `S3_OPTIONS`.
    """

    def __init__(self, **options: str) -> None:
        strategy = pafs.AwsStandardS3RetryStrategy(max_attempts=REQUEST_ATTEMPTS)
        super().__init__(retry_strategy=strategy, allow_delayed_open=True, **options)
        self.options = options

    def __reduce__(self) -> tuple[partial[PatientS3], tuple[()]]:
        return partial(PatientS3, **self.options), ()


def persistently(place: Location, action: Callable[[], T]) -> T:
    """Do something with a file; on a store, do it again where that fails, a bounded number of times.

    Args:
        place: the file; one on a disk is tried once.
        action: may be done twice: a read, a put under the same name, a delete.

    Raises:
        OSError: it failed every time; whatever else the action raises.
    """
    attempts = 1 if place.is_local else ATTEMPTS
    for attempt in range(1, attempts):
        try:
            return action()
        except FileNotFoundError:
            raise
        except OSError:
            time.sleep(FIRST_PAUSE * 2 ** (attempt - 1))
    return action()


def first_line(error: BaseException) -> str:
    """The first line of an exception's message, for messages of one line."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
