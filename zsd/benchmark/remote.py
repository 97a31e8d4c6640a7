"""A piece of work in a process of its own, asked through a pipe: its memory is its own, and so is its crash."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from zsd.errors import EngineError, ZsdError

COMMON = "zsd.benchmark.contestants"
"""What nearly all of these processes import; the process that they are forked from does it once."""

Answer = Callable[[Any], Any]
"""A question to its answer, both picklable."""

Make = Callable[[Any], tuple[Any, Answer]]
"""An argument to what there is to say once all is loaded, and the function that answers; importable by name."""


class Remote:
    """`make(argument)` in a process of its own.

    Args:
        name: how errors name it.
        make: see `Make`; what it imports is imported there.
        argument: picklable.

    Attributes:
        loaded: what `make` had to say.

    Raises:
        EngineError: it cannot run here, or died while it was loading.
    """

    def __init__(self, name: str, make: Make, argument: Any) -> None:
        self.name = name
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([COMMON])
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(make, argument, theirs), daemon=True)
        self._process.start()
        theirs.close()
        self.loaded = self._receive()

    def ask(self, question: Any) -> Any:
        """The answer to one question.

        Raises:
            ZsdError: what answering raised.
            EngineError: the process died.
        """
        try:
            self._pipe.send(question)
        except BrokenPipeError:
            raise self._died() from None
        return self._receive()

    def close(self) -> None:
        """End the process."""
        self._pipe.close()
        self._process.join(timeout=10)
        self._process.terminate()
        self._process.join()

    def _receive(self) -> Any:
        try:
            result = self._pipe.recv()
        except (EOFError, ConnectionResetError):
            raise self._died() from None
        if isinstance(result, ZsdError):
            raise result
        return result

    def _died(self) -> EngineError:
        self._process.join(timeout=10)
        return EngineError(f"{self.name}: its process died (exit code {self._process.exitcode}), perhaps for memory")


def _serve(make: Make, argument: Any, pipe: Connection) -> None:
    """The process: load, tell what was loaded, then answer until the pipe closes."""
    try:
        loaded, answer = make(argument)
        pipe.send(loaded)
        while True:
            pipe.send(answer(pipe.recv()))
    except ZsdError as error:
        pipe.send(error)
    except EOFError:
        pass
