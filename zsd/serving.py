"""Requests to a student: what they must look like, many of them answered by one pass, and whether all is well.

::

    POST /predict   {"texts": ["a text", ...]}
    200             {"predictions": [{"label": "sports", "score": 0.93, "probs": {"sports": 0.93, ...}}, ...]}
    GET  /healthz   200 {"status": "ok", "labels": [...], ...}, or 503

Of a multi-label student ``labels`` lists the classes of probability one half or more, and ``label`` is the likeliest.
Texts are normalized as the rows of a corpus are. Nothing of a request is kept or logged.

Legend: N texts, K labels.
"""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Any

import numpy as np

from zsd.corpus.normalize import normalize_text
from zsd.errors import EngineError
from zsd.evaluation import DECISION
from zsd.students.base import FloatArray, Student

MOST_BYTES = 8_000_000
"""Of the body of a request."""


class RequestError(ValueError):
    """A request is not one that the server takes.

    Args:
        message: what is wrong.
        status: HTTP status of the answer.
    """

    def __init__(self, message: str, status: int = 422) -> None:
        super().__init__(message)
        self.status = status


def read_request(body: bytes, *, max_texts: int) -> list[str]:
    """The normalized texts of a request.

    Raises:
        RequestError: it is too large, no JSON, or has not the form above.
    """
    if len(body) > MOST_BYTES:
        raise RequestError(f"the request has more than {MOST_BYTES:,} bytes", 413)
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        raise RequestError("the request is not JSON", 400) from None
    texts = content.get("texts") if isinstance(content, dict) else None
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise RequestError('the request must be {"texts": ["a text", ...]}')
    if len(texts) > max_texts:
        raise RequestError(f"the request has {len(texts):,} texts, this server takes {max_texts:,}", 413)
    try:
        return [normalize_text(text) for text in texts]
    except UnicodeEncodeError:
        raise RequestError("a text holds half a character (a lone surrogate)") from None


class Classifier:
    """A student that answers several requests with one pass.

    Args:
        student: used by one thread at a time.
    """

    def __init__(self, student: Student) -> None:
        self.student = student

    def answer(self, requests: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
        """What each request is answered; a request without texts gets no predictions."""
        texts = [text for request in requests for text in request]
        probs_NK = self.student.predict(texts)
        answers, start = [], 0
        for request in requests:
            stop = start + len(request)
            answers.append({"predictions": [self._prediction(probs_K) for probs_K in probs_NK[start:stop]]})
            start = stop
        return answers

    def health(self) -> dict[str, Any]:
        """What ``/healthz`` says of a student that works: it has just classified a text.

        Raises:
            EngineError: its probabilities are not numbers.
        """
        probs_NK = self.student.predict(["Is all well?"])
        if probs_NK.shape != (1, len(self.student.names)) or not np.isfinite(probs_NK).all():
            raise EngineError("the student's probabilities are not numbers: serve another one")
        about = {name: getattr(self.student, name) for name in ("kind", "multi_label", "engine", "precision")}
        return {"status": "ok", "labels": list(self.student.names), **about}

    def _prediction(self, probs_K: FloatArray) -> dict[str, Any]:
        names, best = self.student.names, int(probs_K.argmax())
        found: dict[str, Any] = {"label": names[best], "score": round(float(probs_K[best]), 6)}
        if self.student.multi_label:
            found["labels"] = [name for name, prob in zip(names, probs_K, strict=True) if prob >= DECISION]
        return {**found, "probs": {name: round(float(p), 6) for name, p in zip(names, probs_K, strict=True)}}


def check_server(url: str, *, timeout: float = 10.0) -> dict[str, Any]:
    """What a server's ``/healthz`` says.

    Args:
        url: of the server, without a path.
        timeout: seconds.

    Raises:
        EngineError: there is none, or it is not well.
    """
    try:
        with urllib.request.urlopen(f"{url}/healthz", timeout=timeout) as answer:
            found = json.load(answer)
    except urllib.error.HTTPError as error:
        raise EngineError(f"{url}: the server is not well: it answers {error.code}") from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise EngineError(f"{url}: no server of zsd answers there ({reason}): start one with zsd serve") from None
    if not isinstance(found, dict) or found.get("status") != "ok":
        raise EngineError(f"{url}: what answers there is no server of zsd")
    return found
