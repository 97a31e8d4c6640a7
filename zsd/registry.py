"""The model registry: every student that went into production, and which of them is there now.

::

    REGISTRY/
      current.json           which version is in production, and which were before it; one small file, replaced whole
      current                on a disk: a link to that version, for ``--model REGISTRY/current``
      versions/0003-NIGHT/   student/ as zsd distill left it, what is known about it (NAME.json), version.json last
      changelog.jsonl        one line for each decision: promoted, refused, rolled back, removed
      CHANGELOG.md           the same as a table
      lock/                  see zsd.run_lock

A version without ``version.json`` was never finished: it cannot become current, and the next run deletes it and says
so. Whoever changes a registry holds its lock.
"""

from __future__ import annotations

import datetime
import json
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs

from zsd import storage
from zsd.console import say
from zsd.errors import ConfigError, InputError, LockError, StoreError
from zsd.registry_log import changelog_page
from zsd.run_lock import RunLock
from zsd.shards import read_json, write_json
from zsd.students.folder import STUDENT

CURRENT = "current.json"
LINK = "current"
VERSIONS = "versions"
VERSION_FILE = "version.json"
CHANGELOG = "changelog.jsonl"
CHANGELOG_PAGE = "CHANGELOG.md"
LOCK = "lock"
VERSION_NAME = re.compile(r"(\d{4,})-(.+)")


@dataclass(frozen=True, kw_only=True)
class Pointer:
    """What is in production.

    Attributes:
        version: the version.
        before: those that were in production before it, the latest first: where a rollback leads.
        token: of the run that put it there, see `zsd.run_lock`.
        since: when, ISO 8601 in UTC.
    """

    version: str
    before: tuple[str, ...]
    token: int
    since: str


class Registry:
    """A registry in a directory or below a URI.

    Args:
        uri: where it is, or will be.
    """

    def __init__(self, uri: str) -> None:
        self.uri = storage.resolve(uri).uri

    @property
    def lock_folder(self) -> str:
        """Where the tickets of its lock lie."""
        return storage.join(self.uri, LOCK)

    def current(self) -> Pointer | None:
        """What is in production; None before the first promotion.

        Raises:
            StoreError: the pointer is damaged.
        """
        file = storage.join(self.uri, CURRENT)
        if not storage.exists(file):
            return None
        found = read_json(file)
        try:
            return Pointer(**found | {"before": tuple(found["before"])})
        except (KeyError, TypeError):
            known = ", ".join(Pointer.__dataclass_fields__)
            raise StoreError(f"{file}: does not hold {known}, and no more: the file is damaged") from None

    def versions(self) -> list[str]:
        """All finished versions, oldest first."""
        return [name for name in self._folders() if storage.exists(self._path(name, VERSION_FILE))]

    def student(self, version: str) -> str:
        """Where the student of a version lies."""
        return self._path(version, STUDENT)

    def document(self, version: str, name: str) -> dict[str, Any]:
        """What was published about a version under a name.

        Raises:
            StoreError: there is none, or it is damaged.
        """
        return read_json(self._path(version, f"{name}.json"))

    def clean(self) -> None:
        """Put right what a run that died has left: versions that were never finished are deleted, and it says so."""
        for name in self._folders():
            if not storage.exists(self._path(name, VERSION_FILE)):
                say(f"registry: {self._path(name)} was never finished (its run died): deleted")
                storage.delete_folder(self._path(name))
        self.follow()

    def follow(self) -> None:
        """Lead the link to what is in production: a run that died between the two writes has left it elsewhere."""
        pointer = self.current()
        if pointer is not None:
            self._link(pointer.version)

    def made_by(self, version: str, key: str) -> bool:
        """Whether this very night made a version, see `zsd.night.Night.key`."""
        return bool(self.document(version, "version").get("key") == key)

    def publish(self, student: str, night: str, documents: Mapping[str, dict[str, Any]], *, key: str) -> str:
        """Copy a student into the registry as a new version, which is not in production yet; returns its name.

        A version that an earlier attempt at the same night finished is taken as it is.

        Args:
            student: folder with the student.
            night: the run that made it.
            documents: what is known about it, by name.
            key: tells that run from others of its name.
        """
        for name in self.versions():
            if self.made_by(name, key):
                return name
        name = f"{self._next_number():04d}-{night}"
        source, target = storage.resolve(student), storage.resolve(self.student(name))
        if target.is_local:
            Path(target.path).mkdir(parents=True)
        pafs.copy_files(source.path, target.path, source_filesystem=source.fs, destination_filesystem=target.fs)
        for title, document in documents.items():
            write_json(self._path(name, f"{title}.json"), document)
        write_json(self._path(name, VERSION_FILE), {"version": name, "night": night, "key": key, "published": _now()})
        return name

    def promote(self, version: str, lock: RunLock) -> Pointer:
        """Put a version into production: one write of one small file.

        Raises:
            LockError: another run has taken the lock over.
        """
        before = self.current()
        if before is not None and before.version == version:
            return before
        history = (before.version, *before.before) if before else ()
        return self._point(Pointer(version=version, before=history, token=lock.token, since=_now()), before, lock)

    def rollback(self, lock: RunLock, to: str | None = None) -> Pointer:
        """Put an earlier version back into production.

        Args:
            lock: of this registry, held.
            to: the version, its number or its night; None: the one that was there before.

        Raises:
            ConfigError: there is no such version, or none before.
            LockError: another run has taken the lock over.
        """
        now = self.current()
        if now is None:
            raise InputError(f"{self.uri}: nothing is in production here: check --registry")
        there = self.versions()
        earlier = [name for name in now.before if name in there]
        if to is None:
            if not earlier:
                raise ConfigError(f"{self.uri}: no version was in production before {now.version}: name one with --to")
            target = earlier[0]
        else:
            target = self._find(to, there)
        if target == now.version:
            say(f"registry: {target} is in production already, nothing to do")
            return now
        before = tuple(earlier[earlier.index(target) + 1 :]) if target in earlier else (now.version, *earlier)
        return self._point(replace(now, version=target, before=before, token=lock.token, since=_now()), now, lock)

    def retain(self, keep: int, used: Collection[str | None] = ()) -> list[str]:
        """Delete all but the newest versions; returns what was deleted.

        What is in production, what was there before it, and what is in `used` stay whatever their age.
        """
        pointer = self.current()
        kept = {pointer.version, *pointer.before[:1], *used} if pointer else {*used}
        there = self.versions()
        gone = [name for name in there[:-keep] if name not in kept]
        for name in gone:
            storage.delete_file(self._path(name, VERSION_FILE))  # from here on it is none, whatever happens
            storage.delete_folder(self._path(name))
        return gone

    def record(self, event: str, **facts: Any) -> None:
        """Add a line to the changelog.

        Args:
            event: ``promoted``, ``refused``, ``rolled back`` or ``removed``.
            facts: JSON values.
        """
        lines = [*self.changelog(), {"at": _now(), "event": event, **facts}]
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        storage.write_bytes_atomic(storage.join(self.uri, CHANGELOG), text.encode())
        storage.write_bytes_atomic(storage.join(self.uri, CHANGELOG_PAGE), changelog_page(lines).encode())

    def changelog(self) -> list[dict[str, Any]]:
        """All decisions, oldest first.

        Raises:
            StoreError: a line is damaged.
        """
        file = storage.join(self.uri, CHANGELOG)
        if not storage.exists(file):
            return []
        lines: list[dict[str, Any]] = []
        for number, text in enumerate(storage.read_bytes(file).splitlines(), 1):
            try:
                line = json.loads(text)
            except ValueError:
                line = None
            if not isinstance(line, dict) or "event" not in line:
                raise StoreError(f"{file}: line {number} is damaged: correct it, or delete the line")
            lines.append(line)
        return lines

    def told(self) -> list[str]:
        """Every version that the changelog says was put into production, the latest last.

        That is not the one of the pointer where a run died before it recorded what it had done.
        """
        return [line["version"] for line in self.changelog() if line["event"] in ("promoted", "rolled back")]

    def _point(self, new: Pointer, before: Pointer | None, lock: RunLock) -> Pointer:
        """The one write that changes production; the link only follows it, see `follow`."""
        lock.check()
        if before is not None and before.token > lock.token:
            raise LockError(f"{self.uri}: a later run has put {before.version} into production: nothing was changed")
        write_json(storage.join(self.uri, CURRENT), asdict(new))
        self._link(new.version)
        return new

    def _link(self, version: str) -> None:
        place = storage.resolve(self.uri)
        if place.is_local:
            link = Path(place.path) / LINK
            temporary = link.with_name(f".{LINK}.{os.getpid()}.tmp")
            temporary.unlink(missing_ok=True)
            temporary.symlink_to(Path(VERSIONS) / version)
            temporary.replace(link)

    def _find(self, asked: str, there: list[str]) -> str:
        """The version that a user means by its name, its number or its night."""
        fitting = []
        for name in there:
            match = VERSION_NAME.fullmatch(name)
            same_number = match and asked.isdecimal() and int(match[1]) == int(asked)
            if name == asked or same_number or (match and match[2] == asked):
                fitting.append(name)
        if not fitting:
            raise ConfigError(f"--to {asked}: no such version in {self.uri}: it has {', '.join(there)}")
        if len(fitting) > 1:
            raise ConfigError(f"--to {asked}: may be {' or '.join(fitting)}: give the whole name")
        return fitting[0]

    def _next_number(self) -> int:
        used = [*self._folders(), *(str(line.get("version")) for line in self.changelog())]
        return 1 + max((int(match[1]) for match in map(VERSION_NAME.fullmatch, used) if match), default=0)

    def _folders(self) -> list[str]:
        found = storage.infos(storage.resolve(storage.join(self.uri, VERSIONS)))
        return sorted(info.base_name for info in found if not info.is_file and VERSION_NAME.fullmatch(info.base_name))

    def _path(self, version: str, *parts: str) -> str:
        return storage.join(self.uri, VERSIONS, version, *parts)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
