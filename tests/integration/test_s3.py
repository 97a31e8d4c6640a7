"""Label and distill from and to a real S3 server that fails and dawdles."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.integration.conftest import SIX_UNITS, label_config
from tests.s3_server import Server, s3_server
from zsd import storage
from zsd.assets import sample_path
from zsd.distributed.label import label
from zsd.shards import Store
from zsd.verify import repair_store, verify_store


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with s3_server() as running:
        running.make_bucket("corpora")
        yield running


def test_a_job_on_a_store_that_fails_gives_what_it_gives_on_a_disk(unit_by_unit: Path, server: Server) -> None:
    remote = server.uri("corpora/out")
    corpus = server.uri("corpora/in/corpus.txt")
    storage.write_bytes_atomic(corpus, sample_path("corpus.txt").read_bytes())
    server.faults(fail=0.1, slow=0.05)
    asked = replace(label_config(Path(), Path(), **SIX_UNITS), data=(corpus,), output=remote)
    manifest = label(asked)
    assert server.faults() > 5, "nothing failed"
    assert manifest["rows"] == 96
    columns = ["id", "text", "label", "probs", "entailment"]
    one, other = (Store(str(uri)).read(columns).sort_by("id") for uri in (unit_by_unit, remote))
    assert one.equals(other)
    assert verify_store(remote).problems == []
    _damage_and_repair(remote)
    assert label(asked)["rows"] == 96
    assert Store(remote).read(columns).sort_by("id").equals(one)


def _damage_and_repair(remote: str) -> None:
    store = Store(remote)
    part = storage.join(store.directory, store.parts[0])
    storage.write_bytes_atomic(part, storage.read_bytes(part)[:-20])
    found = verify_store(remote)
    assert any("unreadable" in problem for problem in found.problems)
    assert repair_store(found) == [store.parts[0]]
