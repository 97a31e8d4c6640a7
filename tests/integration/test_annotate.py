"""`zsd annotate` on a real Ray cluster."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.test_annotate_job import ROWS, config, write_corpus
from zsd.distributed.annotate import annotate
from zsd.verify import verify_store


@pytest.mark.slow
def test_annotate_on_a_cluster(cluster: None, teacher_of: Callable[..., str], tmp_path: Path) -> None:
    write_corpus(tmp_path / "all.txt")
    pool = {"gpu_actors": 0, "cpu_actors": 2, "cpus_per_actor": 1}
    asked = config(tmp_path / "all.txt", tmp_path / "out", teacher_of("bert"), **pool)
    manifest = annotate(asked, {})
    assert verify_store(str(tmp_path / "out")).problems == []
    assert sum(manifest["answered_by"].values()) == ROWS
    assert manifest["annotation"]["pairs_saved"] > 0
    assert annotate(asked, {}) == manifest
