"""`zsd rollback`: an earlier student back into production."""

from __future__ import annotations

from typing import Any

from zsd.console import say
from zsd.errors import InputError
from zsd.nightly_config import RollbackConfig
from zsd.registry import Registry
from zsd.run_lock import hold


def rollback(config: RollbackConfig) -> dict[str, Any]:
    """Put an earlier version back; returns ``version``, ``was`` and ``student``, its folder.

    Raises:
        InputError: there is no registry, or no such version.
        LockError: a night is running.
    """
    registry = Registry(config.registry)
    if registry.current() is None:  # before the lock, which would make the folder
        raise InputError(f"{config.registry}: nothing is in production here: check --registry")
    with hold(registry.lock_folder, job="rollback", expiry=config.lock_expiry) as lock:
        before = registry.current()
        assert before is not None, "a pointer stays once it is there"
        pointer = registry.rollback(lock, config.to)
        if pointer.version != before.version:
            night = registry.document(pointer.version, "version")["night"]
            registry.record("rolled back", night=night, version=pointer.version, was=before.version)
            say(f"rollback: {pointer.version} is in production again, {before.version} is not")
    return {"version": pointer.version, "was": before.version, "student": registry.student(pointer.version)}
