from __future__ import annotations

import json
from pathlib import Path

import pytest

from zsd.errors import OutputError
from zsd.output import claim

IDENTITY = {"labels": {"names": ["a", "b"]}, "temperature": 1.0}


def work(folder: Path) -> None:
    (folder / "soft_labels").mkdir()


def test_the_same_job_resumes(tmp_path: Path) -> None:
    output = tmp_path / "a" / "b"
    claim(str(output), "label", IDENTITY)
    work(output)
    claim(str(output), "label", dict(reversed(IDENTITY.items())))
    assert json.loads((output / "job-label.json").read_text()) == IDENTITY


def test_a_tuple_is_the_list_it_becomes(tmp_path: Path) -> None:
    for _ in range(2):
        claim(str(tmp_path), "label", {"data": ("a", "b")})
        if not (tmp_path / "soft_labels").exists():
            work(tmp_path)


def test_what_is_hidden_in_its_file_does_not_make_another_job_of_it(tmp_path: Path) -> None:
    for _ in range(2):
        claim(str(tmp_path), "label", {"labels": {"names": ["PASSWORD=geändert", "other"]}})
        if not (tmp_path / "soft_labels").exists():
            work(tmp_path)


def test_a_different_job_names_what_differs(tmp_path: Path) -> None:
    claim(str(tmp_path), "label", IDENTITY)
    work(tmp_path)
    with pytest.raises(OutputError) as caught:
        claim(str(tmp_path), "label", {**IDENTITY, "temperature": 2.0, "new": "x" * 500})
    message = str(caught.value)
    assert "temperature was 1.0, now 2.0" in message
    assert "new was None, now 'xxx" in message
    assert "labels" not in message
    assert len(message) < 500
    assert json.loads((tmp_path / "job-label.json").read_text()) == IDENTITY


@pytest.mark.parametrize("job", ["label", "predict", "distill", "benchmark"])
def test_a_job_that_got_no_further_than_a_mistake_gives_way(tmp_path: Path, job: str) -> None:
    claim(str(tmp_path), job, {"teacher": "typo"})
    claim(str(tmp_path), job, {"teacher": "right"})
    assert json.loads((tmp_path / f"job-{job}.json").read_text()) == {"teacher": "right"}


def test_jobs_of_one_chain_share_a_directory(tmp_path: Path) -> None:
    for job in ("label", "distill", "benchmark"):
        claim(str(tmp_path), job, IDENTITY)


def test_label_and_predict_do_not(tmp_path: Path) -> None:
    claim(str(tmp_path), "label", IDENTITY)
    with pytest.raises(OutputError, match="rows of a label job"):
        claim(str(tmp_path), "predict", IDENTITY)


@pytest.mark.parametrize("name", ["notes.txt", "student/", "job-descriptions.json"])
def test_what_zsd_did_not_write_is_left_alone(tmp_path: Path, name: str) -> None:
    place = tmp_path / name
    place.mkdir() if name.endswith("/") else place.write_text("mine")
    with pytest.raises(OutputError, match="not empty"):
        claim(str(tmp_path), "distill", IDENTITY)
    assert [one.name for one in tmp_path.iterdir()] == [name.rstrip("/")]


def test_what_a_killed_writer_left_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / ".job-label.json.0123.tmp").write_text("{")
    claim(str(tmp_path), "label", IDENTITY)


def test_a_file_or_a_place_below_one(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(OutputError, match="is a file"):
        claim(str(file), "label", IDENTITY)
    with pytest.raises(OutputError, match="cannot be written"):
        claim(str(file / "below"), "label", IDENTITY)
