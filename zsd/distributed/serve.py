"""`zsd serve`: a student on Ray Serve, requests batched, every replica with a health check that classifies a text."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from ray import serve
from starlette.requests import Request
from starlette.responses import JSONResponse

from zsd.console import say
from zsd.distributed.cluster import connect, own_error, placement_here
from zsd.errors import EngineError, ZsdError
from zsd.serve_config import ServeConfig
from zsd.serving import MOST_BYTES, Classifier, RequestError, read_request
from zsd.students import load_student
from zsd.students.folder import absolute_student

APP = "zsd"


@dataclass(frozen=True, kw_only=True)
class ServeTask:
    """All that a replica needs; picklable.

    Args:
        model: the student's directory, absolute, or its URI.
        engine: see `load_student`.
        precision: see `load_student`.
        max_batch: most requests of a pass.
        batch_wait: seconds that a request waits for others.
        max_texts: most texts of a request.
    """

    model: str
    engine: str
    precision: str | None
    max_batch: int
    batch_wait: float
    max_texts: int


@serve.deployment
class Replica:
    """One copy of the student. The model runs in a thread of its own, so that the replica always answers."""

    def __init__(self, task: ServeTask) -> None:
        self.task = task
        self.thread = ThreadPoolExecutor(max_workers=1)
        self.classifier: Classifier = self.thread.submit(self._load).result()
        self.answers.set_max_batch_size(task.max_batch)
        self.answers.set_batch_wait_timeout_s(task.batch_wait)

    def _load(self) -> Classifier:
        place, task = placement_here(), self.task
        return Classifier(
            load_student(
                task.model, engine=task.engine, precision=task.precision, threads=place.threads, device=place.device
            )
        )

    async def __call__(self, request: Request) -> JSONResponse:
        """Answer an HTTP request."""
        try:
            if (request.method, request.url.path) == ("GET", "/healthz"):
                return JSONResponse(await self.check_health())
            if (request.method, request.url.path) == ("POST", "/predict"):
                texts = read_request(await _body(request), max_texts=self.task.max_texts)
                return JSONResponse(await self.answers(texts))
        except RequestError as error:
            return JSONResponse({"error": str(error)}, status_code=error.status)
        except ZsdError as error:
            return JSONResponse({"error": str(error)}, status_code=503)
        return JSONResponse({"error": "POST /predict or GET /healthz"}, status_code=404)

    @serve.batch  # type: ignore[untyped-decorator]
    async def answers(self, requests: list[list[str]]) -> list[dict[str, Any]]:
        """The requests that came together, answered by one pass."""
        return await asyncio.get_running_loop().run_in_executor(self.thread, self.classifier.answer, requests)

    async def check_health(self) -> dict[str, Any]:
        """Classify a text; Ray Serve calls this too, and replaces a replica that raises."""
        return await asyncio.get_running_loop().run_in_executor(self.thread, self.classifier.health)


async def _body(request: Request) -> bytes:
    """The body of a request, of which no more is read than a request may have."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_BYTES:
            break
    return body


def run_server(config: ServeConfig) -> None:
    """Serve a student until SIGINT or SIGTERM.

    Raises:
        StudentError, ConfigError, EngineError: the student cannot be served.
    """
    stop = threading.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: stop.set())
    with serving(config):
        say(f"serve: {config.model} at {config.url}/predict, health at {config.url}/healthz; Ctrl-C ends it")
        stop.wait()
    say("serve: ended")


@contextlib.contextmanager
def serving(config: ServeConfig) -> Iterator[None]:
    """A server that answers, for as long as the block lasts.

    Raises:
        StudentError, ConfigError, EngineError: the student cannot be served.
    """
    assert config.model is not None, "ServeConfig asks for it"
    model = absolute_student(config.model)
    load_student(model, engine=config.engine, precision=config.precision, threads=1).close()
    connect(config.ray_address)
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    task = ServeTask(
        model=model,
        engine=config.engine,
        precision=config.precision,
        max_batch=config.max_batch,
        batch_wait=config.batch_wait,
        max_texts=config.max_texts,
    )
    deployment = Replica.options(  # type: ignore[attr-defined]
        num_replicas=config.replicas,
        max_ongoing_requests=2 * config.max_batch,
        health_check_period_s=10,
        logging_config={"enable_access_log": False, "log_level": "ERROR"},
        ray_actor_options={"num_cpus": config.cpus_per_replica, "num_gpus": int(config.gpu)},
    )
    try:
        serve.start(proxy_location="HeadOnly", http_options={"host": config.host, "port": config.port})
        serve.run(deployment.bind(task), name=APP, route_prefix="/")
    except (RuntimeError, ValueError, OSError) as error:
        serve.shutdown()
        found = own_error(error)
        if isinstance(found, ZsdError):
            raise found from None
        told = " ".join(str(error).split())[:300]
        raise EngineError(f"Ray Serve cannot serve {config.model}: {told}") from None
    try:
        yield
    finally:
        serve.shutdown()
