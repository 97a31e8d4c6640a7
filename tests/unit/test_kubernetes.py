"""The check of manifests finds the mistakes that a server would."""

from __future__ import annotations

from typing import Any

import pytest

from tests.crds import documents
from tests.kubernetes import MANIFESTS, problems

CLUSTER = ["spec", "rayClusterSpec"]
TEMPLATE = [*CLUSTER, "headGroupSpec", "template"]
POD = [*TEMPLATE, "spec"]
WORKERS = [*CLUSTER, "workerGroupSpecs", 0]


def refused(document: dict[str, Any], path: list[Any], value: object, told: str) -> bool:
    assert problems(document) == []
    place: Any = document
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return any(told in problem for problem in problems(document))


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        (["kind"], "RayJobs", "RayJobs"),
        (["apiVersion"], "ray.io/v1alpha1", "v1alpha1"),
        (["metadata", "name"], None, "metadata.name"),
        (["spec", "entrypont"], "x", "entrypont"),
        (["spec", "submissionMode"], "Http", "submissionMode"),
        (["spec", "managedBy"], "me", "managedBy"),
        (["spec", "preRunningDeadlineSeconds"], 0, "preRunningDeadlineSeconds"),
        (["spec", "ttlSecondsAfterFinished"], 2**31, "ttlSecondsAfterFinished"),
        (["spec", "deletionStrategy"], {"deletionRules": [{"policy": "DeleteSelf"}]}, "'condition' is a required"),
        ([*CLUSTER, "upgradeStrategy"], {"type": "Always"}, "upgradeStrategy"),
        ([*CLUSTER, "headGroupSpec", "rayStartParams", "num-cpus"], 0, "num-cpus"),
        ([*CLUSTER, "headGroupSpec", "resources"], {"CPU": 0}, "resources"),
        ([*WORKERS, "minReplicas"], "0", "minReplicas"),
        ([*WORKERS, "groupNames"], "x", "groupNames"),
        (TEMPLATE, None, "template"),
        ([*TEMPLATE, "metadata"], {"generateName": "x"}, "generateName"),
        ([*POD, "nodeSelektor"], {}, "nodeSelektor"),
        ([*POD, "restartPolicy"], "Sometimes", "restartPolicy"),
        ([*POD, "volumes", 0, "persistentVolumeClaim", "claim"], "x", "'claim' was unexpected"),
        ([*POD, "containers", 0, "envs"], [], "envs"),
        ([*POD, "containers", 0, "resources", "limits", "memory"], "8 GB", "8 GB"),
    ],
)
def test_a_mistake_in_a_ray_job_is_found(path: list[Any], value: object, told: str) -> None:
    assert refused(documents(MANIFESTS / "rayjob.yaml")[1], path, value, told)


@pytest.mark.parametrize(
    ("name", "path", "value", "told"),
    [
        ("raycronjob.yaml", ["spec", "timeZone"], "Etc/UTC", "timeZone"),  # KubeRay 1.6 does not know it
        ("raycronjob.yaml", ["spec", "jobTemplate", "spec"], {}, "'spec' was unexpected"),
        ("raycluster.yaml", ["spec", "authOptions", "mode"], "tokens", "tokens"),
        ("raycluster.yaml", ["spec", "rayClusterSpec"], {}, "'rayClusterSpec' was unexpected"),
        ("cronjob.yaml", ["spec", "concurrencyPolicy"], "Never", "concurrencyPolicy"),
        ("cronjob.yaml", ["spec", "timezone"], "Etc/UTC", "timezone"),
        ("cronjob.yaml", ["spec", "jobTemplate", "spec", "template"], {}, "'spec' is a required property"),
        ("nightly-config.yaml", ["data", "rows"], 3, "data.rows"),
        ("nightly-config.yaml", ["spec"], {}, "'spec' was unexpected"),
        ("storage.yaml", ["automountServiceAccountTokens"], False, "automountServiceAccountTokens"),
    ],
)
def test_a_mistake_in_another_manifest_is_found(name: str, path: list[Any], value: object, told: str) -> None:
    assert refused(documents(MANIFESTS / name)[0], path, value, told)


def test_a_mistake_in_a_claim_is_found() -> None:
    assert refused(documents(MANIFESTS / "storage.yaml")[1], ["spec", "accessModes"], ["ReadWrite"], "accessModes")
    assert refused(documents(MANIFESTS / "storage.yaml")[1], ["spec"], {}, "'resources' is a required property")
