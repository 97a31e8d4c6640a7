"""A student behind a real Ray Serve."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.families import tiny_checkpoint
from tests.integration.conftest import free_port
from zsd.cli import main
from zsd.distributed.serve import ServeTask, serving
from zsd.errors import StudentError
from zsd.serve_config import ServeConfig
from zsd.serving import Classifier
from zsd.students import load_student

TEXTS = [f"text number {n}: the match, the market, the moon" for n in range(24)]


@dataclass(frozen=True, kw_only=True)
class WatchedTask(ServeTask):
    """A `ServeTask` that keeps, in the replica that it is unpickled in, how many requests every pass answers."""

    journal: str

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        answer = Classifier.answer

        def watched(classifier: Classifier, requests: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
            with Path(self.journal).open("a") as file:
                file.write(f"{len(requests)}\n")
            return answer(classifier, requests)

        Classifier.answer = watched  # type: ignore[method-assign, assignment]


def ask(url: str, path: str, body: Any = None) -> tuple[int, Any]:
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url + path, data=data), timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_a_served_student_answers_as_it_does_by_itself(
    cluster: None, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    passes = tmp_path / "passes"
    monkeypatch.setattr(Classifier, "answer", Classifier.answer)  # undone, should the task be unpickled here too
    monkeypatch.setattr("zsd.distributed.serve.ServeTask", partial(WatchedTask, journal=str(passes)))
    student = tiny_checkpoint(tmp_path / "student", "bert", num_labels=3, id2label={0: "a", 1: "b", 2: "c"})
    expected_NK = load_student(student, threads=1).predict(TEXTS)
    config = ServeConfig(model=str(student), port=free_port(), batch_wait=0.05, max_texts=30)
    with serving(config):
        assert main(["serve", "--check", "--port", str(config.port)]) == 0
        assert "ok: encoder student, 3 classes" in capsys.readouterr().out
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda text: ask(config.url, "/predict", {"texts": [text]}), TEXTS))
        sizes = [int(line) for line in passes.read_text().split()]
        assert sum(sizes) == len(TEXTS)
        assert len(sizes) <= len(TEXTS) / 2, "requests that came together were not answered by one pass"
        status, whole = ask(config.url, "/predict", {"texts": TEXTS})
        assert {status, *(one[0] for one in answers)} == {200}
        for n, probs_K in enumerate(expected_NK):
            for prediction in (answers[n][1]["predictions"][0], whole["predictions"][n]):
                assert list(prediction["probs"].values()) == pytest.approx(probs_K.tolist(), abs=1e-4)
        assert ask(config.url, "/predict", {"text": "x"}) == (
            422,
            {"error": 'the request must be {"texts": ["a text", ...]}'},
        )
        assert ask(config.url, "/predict", {"texts": ["x"] * 31})[0] == 413
        assert ask(config.url, "/elsewhere")[0] == 404
        assert ask(config.url, "/predict")[0] == 404
    assert main(["serve", "--check", "--port", str(config.port)]) == 1


def test_what_is_no_student_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(StudentError, match="no student here"), serving(ServeConfig(model=str(tmp_path))):
        pass
