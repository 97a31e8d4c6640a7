"""What `zsd serve` is told."""

from __future__ import annotations

from dataclasses import dataclass

from zsd.config import MODEL_HELP, RAY_HELP, STUDENT_PRECISION_HELP
from zsd.engines.registry import ENGINE_NAMES, STUDENT_PRECISIONS, default_precision, refusal
from zsd.errors import ConfigError
from zsd.options import Options, option


@dataclass(frozen=True, kw_only=True)
class ServeConfig(Options):
    """`zsd serve`: a student behind HTTP, to try it out."""

    model: str | None = option(MODEL_HELP, None, metavar="DIR")
    check: bool = option("only ask the server at --host and --port whether it is well (exit code 1: it is not)", False)
    host: str = option("address to listen on; 0.0.0.0 lets others in, and nothing asks who they are", "127.0.0.1")
    port: int = option("port to listen on", 8000)
    replicas: int = option("copies of the student, spread over the cluster", 1)
    cpus_per_replica: int = option("processor threads of a copy", 1)
    gpu: bool = option("a GPU for each copy", False)
    engine: str = option("what runs an encoder", "torch", choices=ENGINE_NAMES)
    precision: str | None = option(STUDENT_PRECISION_HELP, None, choices=STUDENT_PRECISIONS)
    max_batch: int = option("most requests that are answered by one pass of the student", 32)
    batch_wait: float = option("seconds that a request waits for others to share a pass with", 0.005)
    max_texts: int = option("most texts of a request", 256)
    ray_address: str | None = option(RAY_HELP, None, metavar="ADDRESS")

    def __post_init__(self) -> None:
        super().__post_init__()
        self._at_least(1, "port", "replicas", "cpus_per_replica", "max_batch", "max_texts")
        self._check(self.port < 65536, "port", f"{self.port}: it must be below 65,536")
        self._check(0 <= self.batch_wait <= 10, "batch_wait", f"{self.batch_wait}: it must be from 0 to 10 seconds")
        precision = self.precision or default_precision(self.engine)
        self._refuse("precision", refusal(self.engine, precision, STUDENT_PRECISIONS))
        if (self.model is None) != self.check:
            raise ConfigError("give --model DIR to serve a student, or --check to ask whether a server is well")

    @property
    def url(self) -> str:
        """Where a client on this machine finds the server."""
        host = "127.0.0.1" if self.host in ("0.0.0.0", "::") else self.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"
