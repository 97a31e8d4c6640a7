"""What a job on a store writes and says, searched for the credentials it used and for those it refused."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pyarrow.fs as pafs
import pytest
import ray

from tests.s3_server import SECRET, s3_server
from zsd import storage
from zsd.assets import sample_path
from zsd.cli import main

PASSWORD = "hunter2/and+more"
FLAGS = ("--labels", str(sample_path("labels.txt")), "--engine", "torch", "--cpu-actors", "1", "--gpu-actors", "0")


def contents(fs: pafs.FileSystem, folder: str) -> dict[str, bytes]:
    """Every file below a folder but those that go while it is read."""
    read = {}
    for info in fs.get_file_info(pafs.FileSelector(folder, recursive=True)):
        with contextlib.suppress(FileNotFoundError):
            if info.is_file:
                read[info.path] = fs.open_input_stream(info.path).read()
    return read


def test_no_credential_is_written_or_said(
    cluster: None, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZSD_CACHE", str(tmp_path / "cache"))
    figures = str(tmp_path / "figures.json")
    with s3_server() as server:
        server.make_bucket("corpora")
        corpus, output = server.uri("corpora/in.txt"), server.uri("corpora/out")
        storage.write_bytes_atomic(corpus, b"\n".join(sample_path("corpus.txt").read_bytes().splitlines()[:12]))
        assert main(["label", "--data", corpus, "--output", output, *FLAGS, "--json", figures]) == 0
        assert main(["verify", output]) == 0
        assert main(["status", output]) == 0
        opened, signed = f"s3://key:{PASSWORD}@corpora/in.txt", f"s3://corpora/in.txt?X-Amz-Signature={PASSWORD}"
        for name, uri in (("--data", opened), ("--output", signed), ("--labels", signed)):
            asked = {"--data": corpus, "--output": output, "--labels": "labels.txt", name: uri}
            assert main(["label", *[word for pair in asked.items() for word in pair]]) == 2
        assert main(["verify", signed]) == 2
        assert main(["verify", signed, "--outptu"]) == 2
        place = storage.resolve(server.uri("corpora"))
        written = contents(place.fs, place.path) | contents(pafs.LocalFileSystem(), str(tmp_path))
    assert len(written) >= 8
    out, err = capfd.readouterr()
    assert err.count("must hold no secret") == 4
    nothing_is_seen(written, out, err)


def nothing_is_seen(written: dict[str, bytes], out: str, err: str) -> None:
    """No credential is in these files, in Ray's logs, or in what was said."""
    logs = contents(pafs.LocalFileSystem(), str(Path(ray._private.worker._global_node.get_logs_dir_path())))
    for name, content in {**written, **logs, "standard output": out.encode(), "standard error": err.encode()}.items():
        assert SECRET.encode() not in content, name
        assert b"hunter2" not in content, name


def test_no_credential_is_written_or_said_by_nights(
    cluster: None, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZSD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)
    lines = sample_path("corpus.txt").read_bytes().splitlines(keepends=True)
    with s3_server() as server:
        server.make_bucket("nights")
        corpus, output, registry = (server.uri(f"nights/{name}") for name in ("in.txt", "out", "registry"))
        asked = {"--data": corpus, "--output": output, "--registry": registry, "--student": "linear"}
        asked |= {"--class-floor": "0", "--max-balance-drift": "100"}

        def nightly(night: str, **more: str) -> int:
            words = asked | {"--night": night} | {f"--{name.replace('_', '-')}": value for name, value in more.items()}
            return main(["nightly", *[word for pair in words.items() for word in pair], *FLAGS])

        storage.write_bytes_atomic(corpus, b"".join(lines[:60]))
        assert nightly("one", json=str(tmp_path / "one.json"), mlflow=f"sqlite:///{tmp_path / 'mlflow.db'}") == 0
        storage.write_bytes_atomic(corpus, b"".join(lines[:80]))
        assert nightly("two", min_score="1") == 3
        assert main(["rollback", "--registry", registry, "--to", "one"]) == 0
        opened, signed = f"s3://key:{PASSWORD}@nights/x", f"s3://nights/x?X-Amz-Signature={PASSWORD}"
        for name, uri in (("data", opened), ("output", signed), ("registry", opened), ("test", signed)):
            assert nightly("three", **{name: uri}) == 2
        for uri in (f"postgresql://user:{PASSWORD}@db/tracking", f"https://user:{PASSWORD}@tracking:5000"):
            assert nightly("three", mlflow=uri) == 2
        job = tmp_path / "job.toml"
        job.write_text(f'[nightly]\nmlflow = "postgresql://user:{PASSWORD}@db/tracking"\n', encoding="utf-8")
        assert nightly("three", config=str(job)) == 2
        assert main(["rollback", "--registry", signed]) == 2
        job.unlink()
        server.faults(fail=1.0)
        assert nightly("three") != 0
        server.faults()
        place = storage.resolve(server.uri("nights"))
        written = contents(place.fs, place.path) | contents(pafs.LocalFileSystem(), str(tmp_path))
    names = [name.removeprefix("nights/") for name in written]
    for name in ("registry/current.json", "registry/changelog.jsonl", "registry/lock/", "out/nights/two/night.json"):
        assert any(one.startswith(name) for one in names), name
    assert str(tmp_path / "mlflow.db") in names
    out, err = capfd.readouterr()
    assert err.count("must hold no secret") == 8
    nothing_is_seen(written, out, err)
