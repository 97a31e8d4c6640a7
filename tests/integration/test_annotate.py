"""Deferral and `zsd annotate` on a real Ray cluster."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.unit.test_annotate_job import config
from tests.unit.test_predict_job import WORDS
from zsd.assets import sample_path
from zsd.config import PredictConfig
from zsd.distributed.annotate import annotate
from zsd.distributed.predict import predict
from zsd.verify import verify_store


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


@pytest.mark.slow
def test_annotate_on_a_cluster(cluster: None, teacher_of: Callable[..., str], tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    texts = dict.fromkeys(" ".join(rng.choice(WORDS, size=4)) for _ in range(900))
    (tmp_path / "all.txt").write_text("\n".join(texts))
    asked = config(tmp_path / "all.txt", tmp_path / "out", teacher_of("bert"), gpu_actors=0, cpu_actors=2)
    manifest = annotate(asked, {})
    assert verify_store(str(tmp_path / "out")).problems == []
    assert sum(manifest["answered_by"].values()) == len(texts)
    assert manifest["annotation"]["pairs_saved"] > 0
    assert annotate(asked, {}) == manifest
