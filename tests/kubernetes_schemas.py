"""The schemas of the kinds that the manifests under cluster/kuberay have, and of what is in them.

What is Kubernetes' own, pods in KubeRay's resources included, has the schema that Kubernetes publishes, of the
version `VERSION`, from the package kubernetes-validate. These refuse a field that they do not list.

The ray.io resources are listed in `RAY`, in a notation of its own, without their ``status``: their fields in KubeRay
1.6, the oldest that knows RayCronJob, from its API reference
(https://docs.ray.io/en/latest/cluster/kubernetes/references/api.html); every field, choice and required field of the
CustomResourceDefinition of RayCronJob as it was in 1.6's development was looked up. Not here are rules across fields
(CEL). A few rules are of KubeRay's operator, which refuses what its definitions let through: the choices of
submissionMode and serviceType, and numbers that must not be negative.

``name!`` is required. A type is a JSON type, ``natural`` (from 0), ``positive``, ``map`` (of texts), another entry,
a type of Kubernetes' core/v1 or batch/v1, ``[type]`` for a list that is not empty, ``a|b`` for a choice, or ``=a``.
"""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

from tests.crds import Kind

VERSION = "1.30.0"  # fields are only ever added: what an old server takes, a newer one takes too

RAY = """
RayJob: apiVersion! =ray.io/v1, kind! =RayJob, metadata! ObjectMeta, spec! RayJobSpec
RayCluster: apiVersion! =ray.io/v1, kind! =RayCluster, metadata! ObjectMeta, spec! RayClusterSpec
RayCronJob: apiVersion! =ray.io/v1, kind! =RayCronJob, metadata! ObjectMeta, spec! RayCronJobSpec
RayCronJobSpec: jobTemplate! RayJobSpec, schedule! string, suspend boolean
RayJobSpec: entrypoint string, runtimeEnvYAML string, jobId string, metadata map, rayClusterSpec RayClusterSpec,
 clusterSelector map, submissionMode K8sJobMode|HTTPMode|InteractiveMode|SidecarMode, suspend boolean,
 submitterPodTemplate PodTemplate, submitterConfig SubmitterConfig, entrypointNumCpus number,
 entrypointNumGpus number, entrypointResources string, shutdownAfterJobFinishes boolean,
 ttlSecondsAfterFinished natural, backoffLimit natural, activeDeadlineSeconds positive,
 preRunningDeadlineSeconds positive, deletionStrategy DeletionStrategy,
 managedBy ray.io/kuberay-operator|kueue.x-k8s.io/multikueue
SubmitterConfig: backoffLimit natural
DeletionStrategy: onSuccess DeletionPolicy, onFailure DeletionPolicy, deletionRules [DeletionRule]
DeletionPolicy: policy DeleteCluster|DeleteWorkers|DeleteSelf|DeleteNone
DeletionRule: policy! DeleteCluster|DeleteWorkers|DeleteSelf|DeleteNone, condition! DeletionCondition
DeletionCondition: jobStatus SUCCEEDED|FAILED, jobDeploymentStatus =Failed, ttlSeconds natural
RayClusterSpec: rayVersion string, headGroupSpec! HeadGroup, workerGroupSpecs [WorkerGroup], authOptions AuthOptions,
 enableInTreeAutoscaling boolean, autoscalerOptions Autoscaler, gcsFaultToleranceOptions FaultTolerance,
 suspend boolean, headServiceAnnotations map, managedBy ray.io/kuberay-operator|kueue.x-k8s.io/multikueue,
 upgradeStrategy UpgradeStrategy
AuthOptions: mode disabled|token, secretName string, enableK8sTokenAuth boolean
Autoscaler: idleTimeoutSeconds integer, upscalingMode Default|Aggressive|Conservative, version v1|v2, image string,
 imagePullPolicy Always|Never|IfNotPresent, resources ResourceRequirements, env [EnvVar], envFrom [EnvFromSource],
 volumeMounts [VolumeMount], securityContext SecurityContext, command [string], args [string]
FaultTolerance: redisAddress! string, redisUsername Credential, redisPassword Credential,
 externalStorageNamespace string
Credential: value string, valueFrom EnvVarSource
UpgradeStrategy: type Recreate|None
HeadGroup: template! PodTemplate, rayStartParams map, serviceType ClusterIP|NodePort|LoadBalancer,
 headService Service, enableIngress boolean, labels map, resources map
WorkerGroup: groupName! string, replicas natural, minReplicas natural, maxReplicas natural, numOfHosts positive,
 rayStartParams map, template! PodTemplate, scaleStrategy ScaleStrategy, idleTimeoutSeconds integer,
 suspend boolean, labels map, resources map
ScaleStrategy: workersToDelete [string]
PodTemplate: metadata PodMetadata, spec! PodSpec
PodMetadata: name string, namespace string, labels map, annotations map, finalizers [string]
"""

# What a server's code asks of Kubernetes' own types and their schemas leave open.
STRICTER = """
PodTemplateSpec: spec! PodSpec
PodSpec: restartPolicy Always|OnFailure|Never
Container: imagePullPolicy Always|Never|IfNotPresent
Toleration: operator Exists|Equal, effect NoSchedule|PreferNoSchedule|NoExecute
PodSecurityContext: fsGroupChangePolicy OnRootMismatch|Always
SeccompProfile: type! RuntimeDefault|Unconfined|Localhost
PersistentVolumeClaimSpec: accessModes! [ReadWriteOnce|ReadOnlyMany|ReadWriteMany|ReadWriteOncePod],
 resources! VolumeResourceRequirements, volumeMode Filesystem|Block
CronJobSpec: concurrencyPolicy Allow|Forbid|Replace
JobTemplateSpec: spec! JobSpec
"""
QUANTITY = {"type": ["string", "integer", "number"], "pattern": r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$"}
INT32 = {"type": "integer", "minimum": -(2**31), "maximum": 2**31 - 1}
SIMPLE: dict[str, dict[str, Any]] = {
    **{name: {"type": name} for name in ("string", "number", "boolean")},
    "integer": INT32,
    "natural": {**INT32, "minimum": 0},
    "positive": {**INT32, "minimum": 1},
    "map": {"type": "object", "additionalProperties": {"type": "string"}},
}


def _published() -> dict[str, dict[str, Any]]:
    folder = files("kubernetes_validate") / "kubernetes-json-schema" / f"v{VERSION}-local-strict"
    text = (folder / "_definitions.json").read_text(encoding="utf-8")
    published: dict[str, dict[str, Any]] = json.loads(text)["$defs"]
    return {**published, "io.k8s.apimachinery.pkg.api.resource.Quantity": QUANTITY}


def _full(name: str, published: dict[str, Any]) -> str | None:
    """The name under which a type of Kubernetes' is published, if it is one."""
    places = ("io.k8s.api.core.v1", "io.k8s.api.batch.v1", "io.k8s.apimachinery.pkg.apis.meta.v1")
    return next((f"{place}.{name}" for place in places if f"{place}.{name}" in published), None)


def _type(name: str, published: dict[str, Any]) -> dict[str, Any]:
    if name.startswith("["):
        return {"type": "array", "items": _type(name[1:-1], published), "minItems": 1}
    if name in SIMPLE:
        return SIMPLE[name]
    if name.startswith("="):
        return {"const": name[1:]}
    if "|" in name:
        return {"enum": name.split("|")}
    known = name if f"\n{name}: " in RAY else _full(name, published)
    assert known is not None, f"{name} is neither an entry nor a type of Kubernetes {VERSION}"
    return {"$ref": f"#/$defs/{known}", "type": "object"}


def _entries(text: str, published: dict[str, Any]) -> dict[str, dict[str, Any]]:
    made: dict[str, dict[str, Any]] = {}
    for line in text.strip().replace(",\n ", ", ").splitlines():
        entry, fields = line.split(": ", 1)
        pairs = [one.split() for one in fields.split(",")]
        made[entry] = {
            "type": "object",
            "properties": {name.rstrip("!"): _type(kind, published) for name, kind in pairs},
            "required": [name.rstrip("!") for name, _ in pairs if name.endswith("!")],
            "additionalProperties": False,
        }
    return made


def _definitions() -> dict[str, dict[str, Any]]:
    published = _published()
    made = {**published, **_entries(RAY, published)}
    for entry, more in _entries(STRICTER, published).items():
        name = _full(entry, published)
        assert name is not None, entry
        own = published[name]
        assert more["properties"].keys() <= own["properties"].keys(), entry
        required = [*own.get("required", ()), *more["required"]]
        made[name] = {**own, "properties": {**own["properties"], **more["properties"]}, "required": required}
    return made


DEFINITIONS = _definitions()
KINDS: dict[Kind, str] = {
    **{
        ("/".join(filter(None, (one["group"], one["version"]))), one["kind"]): name
        for name, definition in DEFINITIONS.items()
        for one in definition.get("x-kubernetes-group-version-kind", ())
        if "properties" in definition
    },
    ("ray.io/v1", "RayJob"): "RayJob",
    ("ray.io/v1", "RayCluster"): "RayCluster",
    ("ray.io/v1", "RayCronJob"): "RayCronJob",
}
