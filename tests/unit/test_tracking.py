from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from zsd.errors import ConfigError, StoreError
from zsd.night import Night
from zsd.nightly_config import TRACKING_FILE
from zsd.tracking import check_tracking, figures, log_night

RESULT: dict[str, Any] = {
    "night": "monday",
    "decision": "promoted",
    "version": "0001-monday",
    "reason": None,
    "label": {"rows": 10, "new_rows": 4},
    "metrics": {"score": 0.5, "candidate": {"per_class": {"a/b (c)": {"f1": 0.25}}}, "production": None},
    "drift": {"against": "0000-x", "unseen": {"classes": {"psi": 0.1, "js": None}}},
}


@pytest.fixture
def night(tmp_path: Path, teacher_of: Callable[..., str]) -> Night:
    folder = tmp_path / "monday"
    folder.mkdir()
    shutil.copytree(teacher_of("bert"), folder / "student")
    (folder / "gate.json").write_text("{}")
    return Night(name="monday", folder=str(folder), identity={}, recipe={"seed": 1, "labels": {"names": ["a", "b"]}})


def test_every_number_has_a_name_that_mlflow_takes() -> None:
    found = dict(figures(RESULT))
    assert found["label.new_rows"] == 4
    assert found["drift.unseen.classes.psi"] == 0.1
    assert found["metrics.candidate.per_class.a/b _c_.f1"] == 0.25
    assert all(isinstance(value, float) for value in found.values())


def test_mlflow_that_is_not_installed_is_said_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(ConfigError, match=r"--mlflow sqlite:///x.db: MLflow is not installed: pip install"):
        check_tracking("sqlite:///x.db")


def test_a_night_is_one_run_with_figures_reports_and_the_model(
    night: Night, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import mlflow

    monkeypatch.chdir(tmp_path)
    check_tracking(TRACKING_FILE)
    assert f"zsd: tracking: sqlite:///{tmp_path / 'mlflow.db'}\n" in capsys.readouterr().err
    log_night(TRACKING_FILE, RESULT, night)
    log_night(TRACKING_FILE, RESULT, night)  # the rerun of a night that died while it logged
    assert (tmp_path / "mlflow.db").is_file()
    monkeypatch.chdir("/")  # what is read below lies where it was logged, not where this process is now
    (run,) = mlflow.search_runs(search_all_experiments=True, output_format="list")
    assert run.info.run_name == "monday"
    assert run.data.params["seed"] == "1"
    assert run.data.metrics["metrics.score"] == 0.5
    assert run.data.tags["decision"] == "promoted"
    client = mlflow.MlflowClient()
    assert "gate.json" in {file.path for file in client.list_artifacts(run.info.run_id)}
    models = client.search_logged_models([run.info.experiment_id])
    folder = Path(models[0].artifact_location.removeprefix("file://"))
    assert tmp_path in folder.parents, "the model lies elsewhere than beside the database"
    signature = mlflow.models.get_model_info(str(folder)).signature
    assert json.loads(signature.to_dict()["inputs"]) == [{"type": "string", "name": "text", "required": True}]
    assert not list(folder.rglob("*.pkl"))
    answers = mlflow.pyfunc.load_model(str(folder)).predict([{"text": "a text"}, {"text": "another"}])
    assert len(answers) == 2
    assert set(answers["label"]) <= {"entailment", "neutral", "contradiction"}
    assert answers["score"].between(1 / 3, 1).all()
    assert list(folder.rglob("model.safetensors"))


def test_a_server_that_is_not_there_is_one_line() -> None:
    with pytest.raises(ConfigError, match="--mlflow nonsense://x: cannot be reached"):
        check_tracking("nonsense://x")


def test_a_database_that_cannot_be_opened_is_one_line(
    night: Night, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow.store.db.utils

    monkeypatch.setattr(mlflow.store.db.utils, "MAX_RETRY_COUNT", 1)
    with pytest.raises(ConfigError, match=f"--mlflow sqlite:///{tmp_path}: cannot be reached: .*unable to open"):
        check_tracking(f"sqlite:///{tmp_path}")
    with pytest.raises(StoreError, match=r"unable to open.*run the same command again to log it"):
        log_night(f"sqlite:///{tmp_path}", RESULT, night)


def test_a_database_without_its_driver_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for driver in ("psycopg", "psycopg2"):
        monkeypatch.setitem(sys.modules, driver, None)
    with pytest.raises(ConfigError, match=r"--mlflow postgresql://db:5432/x: cannot be reached: .*psycopg"):
        check_tracking("postgresql://db:5432/x")


def test_nights_of_one_name_in_two_projects_are_two_runs(night: Night, tmp_path: Path) -> None:
    import mlflow

    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    refused = RESULT | {"decision": "refused", "version": None, "reason": "worse"}
    log_night(uri, refused, night)
    log_night(uri, refused, replace(night, folder=str(tmp_path / "elsewhere"), recipe={"seed": 2}))
    runs = mlflow.search_runs(search_all_experiments=True, output_format="list")
    assert {run.info.run_name for run in runs} == {"monday"}
    assert sorted(run.data.params["seed"] for run in runs) == ["1", "2"]
