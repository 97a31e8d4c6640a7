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

    Where an earlier call died between the pointer and the changelog, the same call again finishes it and goes no
    further.

    Raises:
        InputError: there is no registry, or no such version.
        LockError: a night is running.
    """
    registry = Registry(config.registry)
    if registry.current() is None:  # before the lock, which would make the folder
        raise InputError(f"{config.registry}: nothing is in production here: check --registry")
    with hold(registry.lock_folder, job="rollback", expiry=config.lock_expiry) as lock:
        now = registry.current()
        assert now is not None, "a pointer stays once it is there"
        registry.follow()
        told = registry.told()
        was = told[-1] if now.version in told else now.version  # what the changelog does not know, a night will tell it
        died = was not in (now.version, *now.before)  # a rollback did, for a promotion would have kept it in `before`
        pointer = now if died and config.to is None else registry.rollback(lock, config.to)
        if pointer.version != now.version:
            was = now.version
        if pointer.version != was:
            night = registry.document(pointer.version, "version")["night"]
            registry.record("rolled back", night=night, version=pointer.version, was=was)
            finished = " (a rollback that died had begun this: it is finished now)" if pointer is now else ""
            say(f"rollback: {pointer.version} is in production again, {was} is not{finished}")
    return {"version": pointer.version, "was": was, "student": registry.student(pointer.version)}
