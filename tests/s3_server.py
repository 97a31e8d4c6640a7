"""A real S3 server process that fails and dawdles on demand: moto's server behind a little middleware.

    with s3_server() as server:
        server.make_bucket("corpora")
        server.faults(fail=0.1, slow=0.05)      # one request in ten answers 500, one in twenty takes a while

Run by itself, ``python -m tests.s3_server`` prints the port that it was given.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs

FAULTS = "/_faults"
ERROR = b"<Error><Code>InternalError</Code><Message>injected</Message></Error>"
SLOW_SECONDS = 0.3
SECRET = "never-to-be-seen-in-a-file"
ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Server:
    """A running server."""

    port: int

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def uri(self, path: str) -> str:
        """``s3://PATH`` as `pyarrow.fs` has to be told to find this server."""
        return f"s3://{path}?endpoint_override=127.0.0.1:{self.port}&scheme=http&region=us-east-1"

    def make_bucket(self, name: str) -> None:
        fs, path = pafs.FileSystem.from_uri(f"{self.uri(name)}&allow_bucket_creation=true")
        fs.create_dir(path)

    def faults(self, *, fail: float = 0.0, slow: float = 0.0) -> int:
        """From now on these shares of the requests fail or dawdle; returns how many were hit before."""
        body = json.dumps({"fail": fail, "slow": slow}).encode()
        return int(self._ask(FAULTS, method="POST", body=body))

    def _ask(self, path: str, *, method: str, body: bytes | None = None) -> bytes:
        request = urllib.request.Request(self.endpoint + path, data=body, method=method)
        with urllib.request.urlopen(request, timeout=120) as answer:
            content: bytes = answer.read()
            return content


@contextlib.contextmanager
def s3_server() -> Iterator[Server]:
    """A server on a port that the system chose."""
    command = [sys.executable, "-m", "tests.s3_server"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            port = process.stdout.readline()
            assert port, "the S3 server ended"
            yield Server(int(port))
        finally:
            process.kill()


def credentials() -> dict[str, str]:
    """What a client of the server needs in its environment; the machine's own settings must not shine through."""
    return {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
    }


class _Faulty:
    """WSGI middleware: some requests answer 500, some take a while."""

    def __init__(self, app: Any) -> None:
        self.app, self.dice = app, random.Random(0)
        self.shares = {"fail": 0.0, "slow": 0.0}
        self.hit = 0

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ["PATH_INFO"] == FAULTS:
            told = str(self.hit).encode()
            self.shares = json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
            self.hit = 0
            start_response("200 OK", [("Content-Length", str(len(told)))])
            return [told]
        if self.dice.random() < self.shares["slow"]:
            self.hit += 1
            time.sleep(SLOW_SECONDS)
        if self.dice.random() < self.shares["fail"]:
            self.hit += 1
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            start_response("500 Internal Server Error", [("Content-Length", str(len(ERROR)))])
            return [ERROR]
        answer: Iterable[bytes] = self.app(environ, start_response)
        return answer


def main() -> None:
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    app = _Faulty(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, app, threaded=True)  # listens from here on
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
