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
        flags = [
            "--labels",
            str(sample_path("labels.txt")),
            "--engine",
            "torch",
            "--cpu-actors",
            "1",
            "--gpu-actors",
            "0",
        ]
        assert main(["label", "--data", corpus, "--output", output, *flags, "--json", figures]) == 0
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
    logs = contents(pafs.LocalFileSystem(), str(Path(ray._private.worker._global_node.get_logs_dir_path())))
    assert len(written) >= 8
    out, err = capfd.readouterr()
    assert err.count("must hold no secret") == 4
    for name, content in {**written, **logs, "standard output": out.encode(), "standard error": err.encode()}.items():
        assert SECRET.encode() not in content, name
        assert b"hunter2" not in content, name
