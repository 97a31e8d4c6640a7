"""Nights on a growing corpus: what is promoted, what is refused and why, what is done again and what is not."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import ray

from tests.corpora import write_corpus
from tests.faults.content import Reference
from tests.faults.driver import Driver
from tests.s3_server import Server, s3_server
from zsd import storage
from zsd.assets import sample_path
from zsd.cli import main
from zsd.errors import StoreError
from zsd.night import Night
from zsd.registry import Registry
from zsd.run_lock import hold
from zsd.shards import matrix, vectors

NEW = 16
"""Texts of the second night that no store knows."""
TRACKING = "http://tracking:5000"
"""Nothing is there: see `tracked`."""


@dataclass
class Nights:
    """A place where nights run."""

    folder: Path
    options: list[str]
    corpus: list[str] = field(default_factory=list)

    def run(self, night: str, *more: str) -> tuple[int, dict[str, Any]]:
        """`zsd nightly`; its exit code and figures."""
        corpus = self.folder / f"{night}.txt"
        text = "".join(f"{one}\n" for one in self.corpus)
        if not corpus.exists() or corpus.read_text() != text:
            corpus.write_text(text)
        figures = self.folder / f"{night}.json"
        options = [*self.options, "--data", str(corpus), "--output", str(self.folder / "out"), "--night", night]
        code = main(["nightly", *options, *more, "--json", str(figures)])
        return code, json.loads(figures.read_text()) if figures.exists() else {}

    @property
    def registry(self) -> Registry:
        return Registry(str(self.folder / "out" / "registry"))

    @property
    def current(self) -> str:
        pointer = self.registry.current()
        assert pointer is not None
        return pointer.version


@pytest.fixture(scope="module")
def nights(labelled: Path, tmp_path_factory: pytest.TempPathFactory, sample_texts: list[str]) -> Nights:
    """A first night has run, on 120 rows whose logits were there already."""
    return _first_night(tmp_path_factory.mktemp("nights"), labelled, sample_texts[:120])


def _first_night(folder: Path, labelled: Path, corpus: list[str]) -> Nights:
    options = ["--labels", str(sample_path("labels.txt")), "--test", str(sample_path("test.csv")), "--engine", "torch"]
    options += ["--cpu-actors", "1", "--gpu-actors", "0", "--cpus-per-actor", "2", "--student", "linear"]
    options += ["--reuse", str(labelled), "--class-floor", "0"]
    options += ["--max-regression", "0.1", "--max-class-drop", "0.3", "--max-ece-rise", "0.3"]
    place = Nights(folder, options, corpus)
    code, first = place.run("one")
    assert (code, first["decision"], first["label"]["pairs"]) == (0, "promoted", 0)
    return place


@pytest.fixture(scope="module")
def second(nights: Nights, sample_texts: list[str]) -> dict[str, Any]:
    """The second night, on more rows, that dies before its gate and is run again."""
    nights.corpus = sample_texts[: 160 + NEW]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("zsd.distributed.nightly.judge_student", _die)
        assert nights.run("two")[0] == 1
    assert nights.current == "0001-one"
    with tracked() as (checked, logged):
        code, result = nights.run("two", "--mlflow", TRACKING)
    assert code == 0
    assert checked == [TRACKING]
    assert logged == [(TRACKING, "two", "promoted", result["version"], result["metrics"])]
    return result


@contextmanager
def tracked() -> Iterator[tuple[list[str], list[tuple[Any, ...]]]]:
    """What MLflow is asked whether it is there, and what it is given to log."""
    checked: list[str] = []
    logged: list[tuple[Any, ...]] = []

    def log(uri: str, result: dict[str, Any], night: Night) -> None:
        logged.append((uri, night.name, *(result[name] for name in ("decision", "version", "metrics"))))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("zsd.distributed.nightly.check_tracking", checked.append)
        patch.setattr("zsd.distributed.nightly.log_night", log)
        yield checked, logged


def _die(*_: Any) -> None:
    raise StoreError("the storage failed")


def test_the_second_night_runs_new_rows_only_and_is_promoted(nights: Nights, second: dict[str, Any]) -> None:
    assert second["decision"] == "promoted"
    assert second["label"]["pairs"] == 4 * NEW, "the teacher saw more than the new rows"
    assert second["label"]["rows"] == 160 + NEW
    assert second["production"] == nights.current == "0002-two"
    gate = {check["name"]: check for check in second["gate"]["checks"]}
    assert gate["regression"]["passed"]
    assert gate["class balance"]["value"] is not None
    assert second["metrics"]["production"]["rows"] == second["metrics"]["candidate"]["rows"] == 169
    folder = nights.folder / "out" / "nights" / "two"
    assert "0001-one" in (folder / "drift.html").read_text()
    drift = json.loads((folder / "drift.json").read_text())
    assert (drift["against"], drift["previous"]["against"]) == ("0001-one", "one")


def test_a_rerun_after_a_crash_does_nothing_twice(nights: Nights, second: dict[str, Any]) -> None:
    assert [line["event"] for line in nights.registry.changelog()][:2] == ["promoted", "promoted"]
    assert nights.registry.versions() == ["0001-one", "0002-two"]


def test_a_finished_night_is_left_alone(
    nights: Nights, second: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    with hold(nights.registry.lock_folder, job="other", expiry=60):  # it does not even ask for the lock
        assert nights.run("two") == (0, second)
    assert "is finished (promoted), nothing to do" in capsys.readouterr().err


def test_another_corpus_under_the_same_name_is_refused(
    nights: Nights, second: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    nights.corpus = nights.corpus[:-1]
    assert nights.run("two")[0] == 2
    assert "belongs to a different nightly job: inputs was" in capsys.readouterr().err


def test_a_night_with_the_rows_and_recipe_of_production_changes_nothing(
    nights: Nights, second: dict[str, Any], sample_texts: list[str]
) -> None:
    nights.corpus = list(reversed(sample_texts[: 160 + NEW]))
    with tracked() as (checked, logged):
        code, result = nights.run("again", "--mlflow", TRACKING)
    assert (code, result["decision"], result["label"]["pairs"]) == (0, "unchanged", 0)
    assert (checked, logged) == ([TRACKING], [])
    assert nights.current == "0002-two"


def test_a_bad_night_is_refused_with_the_reason_and_a_rollback_works(
    nights: Nights, second: dict[str, Any], sample_texts: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    garbage = _garbage()
    nights.corpus = [*sample_texts[: 160 + NEW], *garbage]
    for night in ("again", "two"):
        _shift_labels(nights.folder / "out" / "nights" / night)
    code, result = nights.run("three")
    assert (code, result["decision"], result["version"]) == (3, "refused", None)
    assert nights.current == result["production"] == "0002-two"
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith("zsd: error: night three is refused: accuracy ")
    assert "below the" in told
    assert "class balance of the rows that production has not seen drifted" in told
    assert result["label"]["pairs"] == 4 * len(set(garbage))
    assert (result["drift"]["against"], result["drift"]["previous"]["against"]) == ("0002-two", "again")
    assert nights.run("three")[0] == 3, "the same answer to the same question"
    assert nights.registry.changelog()[-1]["event"] == "refused"
    assert main(["rollback", "--registry", nights.registry.uri]) == 0
    assert nights.current == "0001-one"
    assert main(["rollback", "--registry", nights.registry.uri, "--to", "two"]) == 0
    assert nights.current == "0002-two"
    assert main(["rollback", "--registry", nights.registry.uri, "--to", "three"]) == 2


def test_bad_rows_are_refused_for_as_long_as_they_are_in_the_corpus(
    labelled: Path, tmp_path: Path, sample_texts: list[str]
) -> None:
    garbage = _garbage()
    place = _first_night(tmp_path, labelled, sample_texts[:120])
    place.corpus = sample_texts[:160]
    assert place.run("two")[1]["decision"] == "promoted"
    place.corpus = [*sample_texts[:160], *garbage]
    assert _failed(*place.run("three")) == {"class balance"}
    place.corpus = [*sample_texts[:164], *garbage]
    code, fourth = place.run("four")
    assert fourth["label"]["new_rows"] == 4, "the teacher was asked again for rows of the night before"
    assert _failed(code, fourth) == {"class balance"}
    assert place.current == "0002-two"
    place.corpus = sample_texts[:164]
    code, fifth = place.run("five")
    assert (code, fifth["decision"], fifth["label"]["new_rows"]) == (0, "promoted", 0)


def _garbage() -> list[str]:
    dice = np.random.default_rng(0)
    return ["".join(dice.choice(list("qxzj#%&0123456789 "), size=40)) for _ in range(60)]


def _failed(code: int, night: dict[str, Any]) -> set[str]:
    """The checks for which a night was refused."""
    assert (code, night["decision"]) == (3, "refused")
    return {check["name"] for check in night["gate"]["checks"] if not check["passed"]}


def _shift_labels(store: Path) -> None:
    """What a broken job upstream might do: every logit stands under the next class."""
    for file in (store / "soft_labels").glob("*.parquet"):
        table = pq.read_table(file)
        for name in ("entailment", "contradiction"):
            shifted = vectors(np.roll(matrix(table[name]), 1, axis=1))
            table = table.set_column(table.schema.get_field_index(name), table.schema.field(name), shifted)
        pq.write_table(table, file)


def test_a_night_does_not_start_while_another_runs(
    nights: Nights, second: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    with hold(nights.registry.lock_folder, job="night zero", expiry=60):
        assert nights.run("four")[0] == 4
    assert "night zero on" in capsys.readouterr().err
    assert not (nights.folder / "out" / "nights" / "four").exists()


@pytest.mark.slow
def test_of_two_that_start_at_once_exactly_one_runs(tmp_path: Path, teacher_of: Callable[..., str]) -> None:
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("".join(f"a text about number {n}\n" for n in range(64)))
    command = [sys.executable, "-m", "zsd.cli", "nightly", "--data", str(corpus), "--output", str(tmp_path / "out")]
    command += ["--label", "sports", "--label", "business", "--teacher", teacher_of("bert"), "--engine", "torch"]
    command += ["--student", "layers:1", "--max_steps", "4", "--cpu-actors", "1", "--cpus-per-actor", "1"]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    running = [
        subprocess.Popen([*command, "--night", name], env=environment, stderr=subprocess.PIPE, text=True)
        for name in ("one", "two")
    ]
    try:
        told = [process.communicate(timeout=900)[1] for process in running]
    finally:
        for process in running:
            process.kill()
    assert sorted(process.returncode for process in running) == [0, 4], told
    assert Registry(str(tmp_path / "out" / "registry")).versions() == [
        f"0001-{name}" for name, process in zip(("one", "two"), running, strict=True) if process.returncode == 0
    ]


CALLS = {
    "zsd.registry:write_json": "the student is copied, its version is not finished",
    "zsd.registry:Registry.promote": "the version is finished, not in production",
    "zsd.registry:Registry.record": "it is in production, not in the changelog",
    "zsd.distributed.nightly:forget_nights": "all is decided, the night is not finished",
}
"""Calls at which a night is killed, in the order in which it comes to them."""


@pytest.mark.slow
def test_a_night_that_is_killed_again_and_again_ends_as_one_that_is_not(cluster: None, tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus.jsonl", 400, bad=0.05, duplicates=0.05)

    def driver(name: str, *module: str) -> Driver:
        return Driver(
            data=str(tmp_path / "corpus.jsonl"),
            output=str(tmp_path / name),
            folder=tmp_path / f"{name}-job",
            address=ray.get_runtime_context().gcs_address,
            pace="cpu=75",  # some 7 s of labelling for two actors: there is time to kill them in the middle
            flags=(
                *("--unit-rows", "16", "--cpu-actors", "2", "--gpu-actors", "0", "--max-rejected", "0.2"),
                *("--night", "one", "--student", "linear", "--class-floor", "0"),
            ),
            module=(*(module or ("tests.standin",)), "nightly"),
        )

    whole, killed = driver("whole"), driver("killed")
    whole.start()
    assert whole.finish() == 0, whole.log()
    night = Path(killed.output) / "nights" / "one"
    killed.start()
    assert killed.wait_until_ended(4), killed.log()
    killed.kill()
    assert not (night / "manifest.json").exists(), "killed too late"
    killed.start()
    assert killed.wait_until((night / "job-distill.json").exists), killed.log()
    killed.kill()
    assert not (night / "student" / "zsd.json").exists(), "killed too late"
    for call, told in CALLS.items():
        dying = driver("killed", "tests.faults.dying", call)
        dying.start()
        assert dying.finish() == -signal.SIGKILL, f"{told}: {dying.log()}"
    killed.start()
    assert killed.finish() == 0, killed.log()
    assert killed.log().count("has died") == 2 + len(CALLS), "the lock of a dead run was not seen as such"

    assert Reference(str(Path(whole.output) / "nights" / "one")).differences(str(night)) == []
    ends = [json.loads((Path(job.output) / "nights" / "one" / "night.json").read_text()) for job in (whole, killed)]
    assert [end.pop("seconds") > 0 for end in ends] == [True, True]
    assert ends[0] == ends[1]
    assert ends[1]["decision"] == "promoted"
    registries = [Registry(str(Path(job.output) / "registry")) for job in (whole, killed)]
    for registry in registries:
        assert [(line["event"], line["version"]) for line in registry.changelog()] == [("promoted", "0001-one")]
        assert registry.versions() == ["0001-one"]
        pointer = registry.current()
        assert pointer is not None
        assert (pointer.version, pointer.before) == ("0001-one", ())
    weights = [Path(registry.student("0001-one"), "model.safetensors").read_bytes() for registry in registries]
    assert weights[0] == weights[1]


@pytest.fixture(scope="module")
def server(cluster: None) -> Iterator[Server]:
    with s3_server() as running:
        running.make_bucket("nights")
        yield running


@pytest.mark.slow
def test_a_store_is_corpus_output_and_registry_of_nights(
    server: Server, teacher_of: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZSD_CACHE", str(tmp_path / "cache"))
    corpus, registry = server.uri("nights/in/corpus.txt"), server.uri("nights/registry")
    options = ["--data", corpus, "--output", server.uri("nights/out"), "--registry", registry]
    options += ["--label", "sports", "--label", "business", "--teacher", teacher_of("bert"), "--engine", "torch"]
    options += ["--student", "layers:1", "--max_steps", "4", "--cpu-actors", "1", "--gpu-actors", "0"]
    options += ["--max-regression", "0.1", "--max-ece-rise", "0.1", "--max-balance-drift", "100"]  # of ten rows
    faults = 0
    for number, (night, rows) in enumerate((("one", 60), ("two", 80), ("three", 90)), 1):
        text = "".join(f"a text about number {n}\n" for n in range(rows))
        storage.write_bytes_atomic(corpus, text.encode())
        server.faults(fail=0.02, slow=0.02)  # what Ray Train writes is tried three times only
        figures = tmp_path / f"{night}.json"
        assert main(["nightly", *options, "--night", night, "--keep", "2", "--json", str(figures)]) == 0
        faults += server.faults()
        result = json.loads(figures.read_text())
        assert result["version"] == f"000{number}-{night}"
        assert result["label"]["pairs"] == 2 * {"one": 60, "two": 20, "three": 10}[night]
        assert result["start"] == (None if number == 1 else f"000{number - 1}-{('one', 'two')[number - 2]}")
        card = storage.read_bytes(storage.join(Registry(registry).student(result["version"]), "zsd.json"))
        started = Registry(registry).student(result["start"]) if result["start"] else "layers:1"
        assert json.loads(card)["student"] == started, "not warm-started"
    assert faults > 0, "nothing failed"
    assert Registry(registry).versions() == ["0002-two", "0003-three"]
    assert main(["rollback", "--registry", registry]) == 0
    assert main(["rollback", "--registry", registry]) == 2, "the version before it is gone"
    assert [line["event"] for line in Registry(registry).changelog()][-2:] == ["removed", "rolled back"]
    assert main(["nightly", *options, "--night", "three", "--keep", "2"]) == 0
    pointer = Registry(registry).current()
    assert pointer is not None
    assert pointer.version == "0002-two", "a finished night promotes nothing again"
