"""The progress lines of training workers on their way to the driver; no cluster needed."""

import threading
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray.util.queue import Empty

from zsd.distributed import train


class FakeQueue:
    """Says what it is given; afterwards it is empty, or its actor is dead."""

    def __init__(self, actor_options: dict[str, Any]) -> None:
        self.actor_options = actor_options
        self.said: list[Any] = []

    def get(self, timeout: float) -> str:
        after = self.said.pop(0) if self.said else Empty()
        if isinstance(after, Exception):
            raise after
        return str(after)

    def shutdown(self) -> None:
        self.said = ["shut down"]


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "Queue", FakeQueue)
    monkeypatch.setattr(ray, "get_runtime_context", lambda: SimpleNamespace(get_node_id=lambda: "ab" * 28))


def test_lines_are_carried_by_the_node_of_the_driver(capsys: pytest.CaptureFixture[str]) -> None:
    with train._lines() as queue:
        where = queue.actor_options["scheduling_strategy"]
        assert (where.node_id, where.soft) == ("ab" * 28, False)
        queue.said = ["one", "two"]
    assert capsys.readouterr().err == "zsd: one\nzsd: two\n"
    assert queue.said == ["shut down"]


def test_a_dead_queue_ends_the_lines_quietly(capsys: pytest.CaptureFixture[str]) -> None:
    before = threading.active_count()
    with train._lines() as queue:
        queue.said = ["one", ray.exceptions.ActorDiedError(), "never said"]
    assert threading.active_count() == before
    assert capsys.readouterr().err == "zsd: one\n"
