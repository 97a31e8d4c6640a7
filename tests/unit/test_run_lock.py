from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.s3_server import Server
from zsd import storage
from zsd.errors import LockError
from zsd.run_lock import KEPT_TICKETS, hold
from zsd.tickets import HELD, RELEASED, read_tickets, this_process


@pytest.fixture(params=["disk", "store"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A folder for a lock, on a disk and on an object store."""
    if request.param == "disk":
        return str(tmp_path / "lock")
    server: Server = request.getfixturevalue("server")
    return server.uri(f"bucket/{tmp_path.name}")


def states(folder: str) -> list[tuple[int, str]]:
    return [(ticket.token, ticket.state) for ticket in read_tickets(folder, 1.0)]


def edit(folder: str, token: int, **changes: object) -> None:
    """Write a ticket anew, as if its run had."""
    (name,) = (ticket.name for ticket in read_tickets(folder, 1.0) if ticket.token == token)
    uri = storage.join(folder, name)
    storage.write_bytes_atomic(uri, json.dumps(json.loads(storage.read_bytes(uri)) | changes).encode())


def test_a_second_run_is_refused_with_the_first_ones_name_and_tokens_grow(folder: str) -> None:
    with hold(folder, job="night a", expiry=60) as first:
        with (
            pytest.raises(LockError, match=r"night a on .*, process \d+, holds the lock") as caught,
            hold(folder, job="night b", expiry=60),
        ):
            pass
        assert caught.value.exit_code == 4
        first.check()
    assert states(folder) == [(1, RELEASED)]
    with hold(folder, job="night b", expiry=60) as second:
        assert second.token > first.token
        assert states(folder) == [(1, RELEASED), (2, HELD)]


def test_of_many_that_ask_at_once_exactly_one_gets_it(folder: str) -> None:
    together, won, refused, done = threading.Barrier(6), [], [], threading.Event()

    def ask(number: int) -> None:
        together.wait()
        try:
            with hold(folder, job=f"run {number}", expiry=60) as lock:
                won.append(lock.token)
                done.wait(120)
        except LockError as error:
            refused.append(str(error))
        if len(refused) == 5:
            done.set()

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(refused)) == (1, 5), refused


def test_a_lock_is_renewed_while_it_is_held(folder: str) -> None:
    with hold(folder, job="long night", expiry=4):
        before = read_tickets(folder, 1.0)[0].written
        deadline = time.monotonic() + 60
        while read_tickets(folder, 1.0)[0].written == before:
            assert time.monotonic() < deadline, "never renewed"
            time.sleep(0.1)
        with pytest.raises(LockError, match="long night"), hold(folder, job="other", expiry=4):
            pass


def test_a_silent_run_is_taken_over_visibly_and_may_not_promote(
    folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with hold(folder, job="sleeper", expiry=1000) as asleep:
        edit(folder, 1, expiry=-2.0)  # as if it had been silent for longer than its expiry
        with hold(folder, job="next", expiry=60) as awake:
            assert "sleeper on" in capsys.readouterr().err
            with pytest.raises(LockError, match=r"next on .* took the lock over"):
                asleep.check()
            awake.check()
        with pytest.raises(LockError, match="took the lock over"):
            asleep.check()


def test_a_run_that_was_killed_on_this_machine_is_taken_over_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(tmp_path / "lock")
    code = (
        "import sys; from zsd.run_lock import hold\n"
        f"with hold({folder!r}, job='killed', expiry=3600):\n"
        "    print('held', flush=True); sys.stdin.read()"
    )
    command, pipe = [sys.executable, "-c", code], subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(LockError, match="killed on"), hold(folder, job="early", expiry=60):
            pass
        process.kill()
        process.wait()
    with hold(folder, job="next", expiry=60) as lock:
        assert lock.token == 2
    assert "killed on" in capsys.readouterr().err


def test_another_users_run_holds_the_lock_though_proc_may_hide_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def signal(pid: int, number: int) -> None:
        raise PermissionError(f"{pid} is another user's")

    folder = str(tmp_path / "lock")
    with hold(folder, job="another user's night", expiry=60):
        hidden = 1 << 30  # no process has this number
        edit(folder, 1, process=str(this_process()).rpartition(" ")[0] + f" {hidden}")
        monkeypatch.setattr("zsd.tickets.os.kill", signal)
        with pytest.raises(LockError, match="another user's night on"), hold(folder, job="next", expiry=60):
            pass


def test_a_ticket_that_was_created_and_not_written_counts_until_it_expires(tmp_path: Path) -> None:
    folder = tmp_path / "lock"
    folder.mkdir()
    ticket = folder / "00000004.json"
    ticket.touch()
    with pytest.raises(LockError), hold(str(folder), job="next", expiry=30):
        pass
    old = time.time() - 100
    os.utime(ticket, (old, old))
    with hold(str(folder), job="next", expiry=30) as lock:
        assert lock.token == 5


def test_what_is_left_does_not_grow_without_end(tmp_path: Path) -> None:
    folder = tmp_path / "lock"
    for _ in range(KEPT_TICKETS + 5):
        with hold(str(folder), job="night", expiry=60):
            pass
    assert len(list(folder.iterdir())) == KEPT_TICKETS
    assert states(str(folder))[-1] == (KEPT_TICKETS + 5, RELEASED)
