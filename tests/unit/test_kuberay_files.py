"""The manifests under cluster/kuberay are valid, and what one names of another is there."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from tests.command_lines import check, check_job_file
from tests.crds import documents
from tests.kubernetes import MANIFESTS, problems

FILES = sorted(MANIFESTS.glob("*.yaml"))
RUNNING = ("RayJob", "RayCronJob", "CronJob")
Document = dict[str, Any]


def everything() -> list[Document]:
    return [copy.deepcopy(one) for file in FILES for one in documents(file)]


def named(kind: str, name: str) -> Document:
    found = [one for one in everything() if (one["kind"], one["metadata"]["name"]) == (kind, name)]
    assert len(found) == 1, f"{len(found)} of the manifests are the {kind} {name}"
    return found[0]


def below(value: Any, key: str) -> Iterator[Document]:
    """Every mapping inside a value that has a key."""
    if isinstance(value, dict):
        if key in value:
            yield value
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from below(one, key)


def missing(manifests: list[Document]) -> list[str]:
    """What a pod of these manifests needs from another manifest and does not find, by its kind and name."""
    there = {(one["kind"], one["metadata"]["name"]) for one in manifests}
    wanted = set()
    for pod in below(manifests, "containers"):
        wanted.add(("ServiceAccount", pod["serviceAccountName"]))
        for volume in pod["volumes"]:
            if "persistentVolumeClaim" in volume:
                wanted.add(("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]))
            if "configMap" in volume:
                wanted.add(("ConfigMap", volume["configMap"]["name"]))
    return sorted(f"{kind} {name}" for kind, name in wanted - there)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_manifest_is_valid_for_kubernetes(file: Path) -> None:
    assert documents(file)
    for document in documents(file):
        assert problems(document) == []


def test_what_the_pods_need_is_there() -> None:
    assert missing(everything()) == []


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("ConfigMap", "zsd-nightly"),
        ("ConfigMap", "zsd-job"),
        ("PersistentVolumeClaim", "zsd-shared"),
        ("PersistentVolumeClaim", "zsd-cache"),
        ("ServiceAccount", "zsd"),
    ],
)
def test_what_is_renamed_is_missed(kind: str, name: str) -> None:
    manifests = everything()
    for one in manifests:
        if (one["kind"], one["metadata"]["name"]) == (kind, name):
            one["metadata"]["name"] = "renamed"
    assert missing(manifests) == [f"{kind} {name}"]


def test_pods_are_not_root_and_mount_what_they_have() -> None:
    pods = list(below(everything(), "containers"))
    assert len(pods) == 10
    for pod in pods:
        assert pod["securityContext"]["runAsNonRoot"] is True
        volumes = {volume["name"] for volume in pod["volumes"]}
        for container in pod["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes


@pytest.mark.parametrize("kind", RUNNING)
def test_what_a_manifest_runs_is_a_real_command_on_the_job_file_that_it_mounts(kind: str, tmp_path: Path) -> None:
    (document,) = [one for one in everything() if one["kind"] == kind]
    words = command_of(document)
    check(words)
    pod = pod_of_the_driver(document)
    (config,) = [word for word in words if word.endswith(".toml")]
    job = tmp_path / PurePosixPath(config).name
    job.write_text(mounted(pod, config), encoding="utf-8")
    check_job_file(job, words[words.index("zsd") + 1])
    (labels,) = re.findall(r'^labels = "(.+)"', job.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert len(mounted(pod, labels).splitlines()) > 1


def test_no_other_manifest_runs_anything() -> None:
    for document in everything():
        if document["kind"] not in RUNNING:
            assert not [*below(document, "entrypoint"), *below(document, "command")]


def command_of(document: Document) -> list[str]:
    if document["kind"] == "CronJob":
        words: list[str] = submitter(document)["command"]
        return words
    (job,) = below(document, "entrypoint")
    return str(job["entrypoint"]).split()


def submitter(document: Document) -> Document:
    (pod,) = below(document, "containers")
    (container,) = pod["containers"]
    return dict(container)


def pod_of_the_driver(document: Document) -> Document:
    """The head of the manifest's own Ray cluster, or of the one that it submits its job to."""
    cluster = document if document["kind"] != "CronJob" else named("RayCluster", cluster_of_the_cron_job())
    (head,) = below(cluster, "headGroupSpec")
    return dict(head["headGroupSpec"]["template"]["spec"])


def mounted(pod: Document, path: str) -> str:
    """What a file holds that a pod mounts from a ConfigMap."""
    place = PurePosixPath(path)
    mounts = [mount for container in pod["containers"] for mount in container["volumeMounts"]]
    (volume,) = [mount["name"] for mount in mounts if mount["mountPath"] == str(place.parent)]
    (source,) = [one["configMap"]["name"] for one in pod["volumes"] if one["name"] == volume]
    return str(named("ConfigMap", source)["data"][place.name])


def cluster_of_the_cron_job() -> str:
    address = environment()["RAY_API_SERVER_ADDRESS"]["value"]
    found = re.fullmatch(r"http://([\w-]+)-head-svc:8265", address)  # the service as KubeRay names it
    assert found, address
    return found[1]


def environment() -> Document:
    return {one["name"]: one for one in submitter(named("CronJob", "zsd-nightly"))["env"]}


def test_the_cron_job_has_the_token_of_its_ray_cluster() -> None:
    cluster = cluster_of_the_cron_job()
    assert named("RayCluster", cluster)["spec"]["authOptions"] == {"mode": environment()["RAY_AUTH_MODE"]["value"]}
    assert environment()["RAY_AUTH_TOKEN"]["valueFrom"] == {"secretKeyRef": {"name": cluster, "key": "auth_token"}}


def test_a_job_of_the_cron_job_submits_one_ray_job_however_often_its_pod_starts() -> None:
    """Ray refuses an id that it has had (`submit_job` of ray/dashboard/modules/job/job_manager.py)."""
    words = command_of(named("CronJob", "zsd-nightly"))
    variable = re.fullmatch(r"\$\((\w+)\)", words[words.index("--submission-id") + 1])
    assert variable
    source = environment()[variable[1]]["valueFrom"]["fieldRef"]["fieldPath"]
    assert source == "metadata.labels['batch.kubernetes.io/job-name']"


def test_a_refused_night_is_not_run_again() -> None:
    """`ray job submit` exits with 1 whatever the code of the job was (ray/dashboard/modules/job/cli.py)."""
    nightly = [one for one in everything() if "schedule" in one.get("spec", {})]
    assert {one["kind"] for one in nightly} == {"CronJob", "RayCronJob"}
    for one in nightly:
        job = one["spec"]["jobTemplate"]
        assert job.get("spec", job)["backoffLimit"] == 0
