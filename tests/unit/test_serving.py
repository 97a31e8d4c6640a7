from __future__ import annotations

import http.server
import json
import socket
import threading
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zsd.cli import main
from zsd.errors import ConfigError, EngineError
from zsd.serve_config import ServeConfig
from zsd.serving import MOST_BYTES, Classifier, RequestError, check_server, read_request
from zsd.students.base import Answer, FloatArray, Student


class Counting(Student):
    """Its logit of class k is the number of k's letter in the text."""

    kind, engine, precision, threads = "linear", "none", "fp32", 1
    names = ("a", "b")

    def __init__(self, *, multi_label: bool = False, broken: bool = False) -> None:
        self.multi_label, self.broken = multi_label, broken
        self.passes = 0

    def answer(self, texts: Sequence[str]) -> Answer:
        self.passes += 1
        logits_NK: FloatArray = np.array([[t.count("a"), t.count("b")] for t in texts], np.float32).reshape(-1, 2)
        if self.broken:
            logits_NK[:] = np.nan
        return Answer(logits=logits_NK, multi_label=self.multi_label, tokens=len(texts))

    def close(self) -> None:
        pass


@given(st.lists(st.lists(st.text("abc", max_size=6), max_size=5), min_size=1, max_size=6))
def test_requests_that_share_a_pass_get_what_each_would_get_alone(requests: list[list[str]]) -> None:
    student = Counting()
    together = Classifier(student).answer(requests)
    assert student.passes == 1
    assert together == [Classifier(student).answer([request])[0] for request in requests]
    assert [len(answer["predictions"]) for answer in together] == [len(request) for request in requests]


def test_an_answer_names_the_class_and_all_probabilities() -> None:
    (answer,) = Classifier(Counting()).answer([["aab"]])
    (prediction,) = answer["predictions"]
    assert prediction["label"] == "a"
    assert prediction["score"] == pytest.approx(np.e / (1 + np.e), abs=1e-6)
    assert sum(prediction["probs"].values()) == pytest.approx(1, abs=1e-5)
    assert "labels" not in prediction
    (answer,) = Classifier(Counting(multi_label=True)).answer([["aabb", ""]])
    assert [one["labels"] for one in answer["predictions"]] == [["a", "b"], ["a", "b"]]


def test_texts_are_normalized_as_a_corpus_is() -> None:
    body = json.dumps({"texts": [" e\u0301\r\nx\u0007 ", ""]}).encode()
    assert read_request(body, max_texts=2) == ["é\nx", ""]


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        (b"", 400, "not JSON"),
        (b"\xff", 400, "not JSON"),
        (b"[" * 100_000, 400, "not JSON"),
        (b"[]", 422, "must be"),
        (b'{"texts": "a"}', 422, "must be"),
        (b'{"texts": [1]}', 422, "must be"),
        (b'{"text": ["a"]}', 422, "must be"),
        (b'{"texts": ["\\ud800"]}', 422, "half a character"),
        (b'{"texts": ["a", "b", "c"]}', 413, "3 texts, this server takes 2"),
        (b'{"texts": ["' + b"a" * MOST_BYTES + b'"]}', 413, "bytes"),
    ],
)
def test_a_wrong_request_is_answered_with_what_is_wrong(body: bytes, status: int, told: str) -> None:
    with pytest.raises(RequestError, match=told) as caught:
        read_request(body, max_texts=2)
    assert caught.value.status == status


def test_health_is_a_real_prediction() -> None:
    assert Classifier(Counting()).health() == {
        "status": "ok",
        "labels": ["a", "b"],
        "kind": "linear",
        "multi_label": False,
        "engine": "none",
        "precision": "fp32",
    }
    with pytest.raises(EngineError, match="not numbers"):
        Classifier(Counting(broken=True)).health()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, "give --model DIR"),
        ({"model": "m", "check": True}, "give --model DIR"),
        ({"model": "m", "port": 70000}, "--port"),
        ({"model": "m", "max_batch": 0}, "--max-batch"),
        ({"model": "m", "batch_wait": -1.0}, "--batch-wait"),
    ],
)
def test_a_wrong_configuration_is_refused(given: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        ServeConfig(**given)  # type: ignore[arg-type]


def test_the_address_of_a_client() -> None:
    assert ServeConfig(model="m", host="0.0.0.0").url == "http://127.0.0.1:8000"
    assert ServeConfig(model="m", host="::1", port=1).url == "http://[::1]:1"


@pytest.fixture
def answers() -> Iterator[tuple[int, dict[str, tuple[int, bytes]]]]:
    """A web server on a port, and what it answers by path."""
    known: dict[str, tuple[int, bytes]] = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = known.get(self.path, (404, b""))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *rest: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port, known
    server.shutdown()
    server.server_close()


def test_the_check_tells_a_well_server_from_all_others(
    answers: tuple[int, dict[str, tuple[int, bytes]]], capsys: pytest.CaptureFixture[str]
) -> None:
    port, known = answers
    command = ["serve", "--check", "--port", str(port)]
    known["/healthz"] = (200, json.dumps(Classifier(Counting()).health()).encode())
    assert main(command) == 0
    assert "ok: linear student, 2 classes" in capsys.readouterr().out
    for status, body in ((503, b"{}"), (200, b"[]"), (200, b"<html>"), (404, b"")):
        known["/healthz"] = (status, body)
        assert main(command) == 1
        assert capsys.readouterr().err.startswith(f"zsd: error: http://127.0.0.1:{port}")
    with pytest.raises(EngineError, match="no server of zsd answers"):
        check_server("http://127.0.0.1:9")


def test_what_speaks_no_http_is_no_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def greet() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")

        thread = threading.Thread(target=greet)
        thread.start()
        with pytest.raises(EngineError, match="no server of zsd answers"):
            check_server(f"http://127.0.0.1:{listening.getsockname()[1]}")
        thread.join()
