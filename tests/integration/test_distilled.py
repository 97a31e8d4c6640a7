"""What a distilled student is, and what is done with it on a real Ray cluster: predict, defer, evaluate, benchmark.

The training itself is in `test_distill`. All that needs `distilled` is here, so that only one process makes it.
"""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, pipeline

from zsd.assets import sample_path
from zsd.benchmark_config import BenchmarkConfig
from zsd.cli import main
from zsd.config import DistillConfig, PredictConfig
from zsd.distributed.benchmark import benchmark
from zsd.distributed.predict import predict
from zsd.distributed.train import distill
from zsd.shards import Store, matrix
from zsd.students import load_student
from zsd.training_data import heldout_mask
from zsd.verify import verify_store

NAMES = ["technology", "sports", "health", "travel"]


def test_student_is_a_plain_transformers_checkpoint(distilled: Path) -> None:
    directory = str(distilled / "student")
    model = AutoModelForSequenceClassification.from_pretrained(directory)
    assert [model.config.id2label[k] for k in range(4)] == NAMES
    assert model.config.num_hidden_layers == 3
    (scores,) = pipeline("text-classification", model=directory, top_k=None)(["The striker scored twice."])
    assert {one["label"] for one in scores} == set(NAMES)
    assert sum(one["score"] for one in scores) == pytest.approx(1, abs=1e-4)


def test_card_tells_where_the_student_comes_from(distilled: Path, labelled: Path) -> None:
    card = json.loads((distilled / "student" / "zsd.json").read_text())
    ids = Store(str(labelled)).read(["id"])["id"].to_pylist()
    assert card["heldout"]["rows"] == heldout_mask(ids).sum()
    assert card["train_rows"] + card["heldout"]["rows"] == len(ids)
    assert card["labels"]["names"] == NAMES
    assert 0 <= card["heldout"]["agreement"] <= 1
    assert not (distilled / "checkpoints").exists()


def test_student_learned_what_the_teacher_says(distilled: Path, labelled: Path) -> None:
    rows = Store(str(labelled)).read(["text", "probs"])
    student_NK = load_student(distilled).predict(rows["text"].to_pylist())
    agreement = (student_NK.argmax(axis=1) == matrix(rows["probs"]).argmax(axis=1)).mean()
    assert agreement > 0.6  # 40 steps on 140 rows; chance is about 0.27


def test_training_goes_on_from_an_earlier_student(distilled: Path, labelled: Path, tmp_path: Path) -> None:
    config = DistillConfig(soft_labels=str(labelled), output=str(tmp_path), student=str(distilled / "student"))
    card = distill(config, {"max_steps": 1, "learning_rate": 1e-9})
    one, other = (load_file(out / "student" / "model.safetensors") for out in (distilled, tmp_path))
    for name, tensor in one.items():
        np.testing.assert_allclose(tensor.numpy(), other[name].numpy(), atol=1e-6, err_msg=name)
    assert card["freeze_embeddings"] is True


def test_predictions_are_those_of_the_student(distilled: Path, tmp_path: Path) -> None:
    config = PredictConfig(
        model=str(distilled),
        data=(str(sample_path("test.csv")),),
        output=str(tmp_path / "out"),
        gpu_actors=0,
        cpu_actors=1,
    )
    manifest = predict(config)
    assert manifest["rows"] == manifest["rows_in"] == 169
    assert verify_store(str(tmp_path / "out")).problems == []
    rows = pq.read_table(tmp_path / "out" / "predictions")
    expected_NK = load_student(distilled).predict(rows["text"].to_pylist())
    np.testing.assert_allclose(matrix(rows["probs"]), expected_NK, atol=1e-4)


def test_evaluate_counts_what_it_says(
    distilled: Path, gold_rows: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "figures.json"
    data = str(sample_path("test.csv"))
    assert main(["evaluate", "--model", str(distilled), "--data", data, "--json", str(target)]) == 0
    assert "accuracy" in capsys.readouterr().out
    best_N = load_student(distilled).predict(list(gold_rows)).argmax(axis=1)
    right = [NAMES[k] == gold for k, gold in zip(best_N, gold_rows.values(), strict=True)]
    assert json.loads(target.read_text())["accuracy"] == pytest.approx(np.mean(right))


def test_an_actor_asks_the_teacher_where_the_student_has_shown_nothing(
    labelled: Path, distilled: Path, tmp_path: Path
) -> None:
    asked = PredictConfig(
        model=str(distilled),
        data=(str(sample_path("test.csv")),),
        output=str(tmp_path / "out"),
        soft_labels=str(labelled),
        defer_to="teacher",
        teacher_engine="torch",
        limit=24,
        gpu_actors=0,
        cpu_actors=1,
    )
    manifest = predict(asked)
    assert verify_store(str(tmp_path / "out")).problems == []
    assert manifest["answered_by"] == {"student": 0, "teacher": 24}  # some 16 held-out rows prove nothing
    assert set(pq.read_table(tmp_path / "out" / "predictions")["answered_by"].to_pylist()) == {"teacher"}
    assert manifest["teacher_pairs"] == 4 * manifest["teacher_rows"]


def test_benchmark_writes_figures_and_a_report(distilled: Path, tmp_path: Path, gold_rows: dict[str, str]) -> None:
    config = BenchmarkConfig(
        model=(str(distilled),),
        data=(str(sample_path("test.csv")),),
        output=str(tmp_path),
        limit=24,
        speed_rows=4,
        rounds=1,
        engines=("torch:fp32",),
    )
    result = benchmark(config)
    written = json.loads((tmp_path / "benchmark" / "benchmark.json").read_text())
    assert written["task"]["rows"] == 24
    kinds = {one["kind"]: one for one in written["contestants"]}
    assert kinds.keys() == {"pipeline", "recipe", "teacher", "student"}
    assert kinds["pipeline"]["speedup"] == 1
    assert kinds["pipeline"]["agreement"] == kinds["recipe"]["agreement"] == kinds["teacher"]["agreement"] == 1
    assert all(one["peak_share"] > 0 and one["flops_per_row"] > 0 for one in kinds.values())
    assert all(one["rows_per_second"] > 0 and one["peak_memory_mb"] > 0 for one in kinds.values())
    assert result["quality"]["teacher"]["accuracy"] > 0.5
    overhead = written["ray_overhead"]
    assert overhead["ratio"] == pytest.approx(overhead["label_rows_per_second"] / overhead["bare_rows_per_second"])
    page = (tmp_path / "benchmark" / "report.html").read_text()
    assert "transformers" in page
