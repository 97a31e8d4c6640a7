"""Is a manifest one that Kubernetes and KubeRay would take? A strict check without a network.

`FIELDS` lists, in a notation of its own, the fields that the API servers know: those of the ray.io resources as in
KubeRay 1.6 (https://docs.ray.io/en/latest/cluster/kubernetes/references/api.html) without their ``status``, those of
Kubernetes 1.30 as far as a manifest of ours may want them. Like a server with strict field validation it refuses what
it does not know: a field that a manifest needs and that is missing here is added here, after a look at the reference.

``name!`` is required. A type is a JSON type, ``map`` (of texts), ``quantity``, ``quantities``, ``any``, another entry,
``[type]`` for a list, or ``a|b`` for a choice.
"""

from __future__ import annotations

from typing import Any

import jsonschema

FIELDS = """
Metadata: name string, generateName string, namespace string, labels map, annotations map
RayJob: apiVersion! ray.io/v1, kind! RayJob, metadata! Metadata, spec! RayJobSpec
RayCronJob: apiVersion! ray.io/v1, kind! RayCronJob, metadata! Metadata, spec! RayCronJobSpec
RayCronJobSpec: jobTemplate! RayJobSpec, schedule! string, suspend boolean
RayJobSpec: entrypoint string, runtimeEnvYAML string, jobId string, metadata map, rayClusterSpec RayClusterSpec,
 clusterSelector map, submissionMode K8sJobMode|HTTPMode|InteractiveMode|SidecarMode, suspend boolean,
 submitterPodTemplate PodTemplate, submitterConfig SubmitterConfig, entrypointNumCpus number, entrypointNumGpus number,
 entrypointResources string, shutdownAfterJobFinishes boolean, ttlSecondsAfterFinished integer, backoffLimit integer,
 activeDeadlineSeconds integer, preRunningDeadlineSeconds integer, deletionStrategy any, managedBy string
SubmitterConfig: backoffLimit integer
RayClusterSpec: rayVersion string, headGroupSpec! HeadGroup, workerGroupSpecs [WorkerGroup], authOptions AuthOptions,
 enableInTreeAutoscaling boolean, autoscalerOptions Autoscaler, gcsFaultToleranceOptions any, suspend boolean,
 headServiceAnnotations map, managedBy string, upgradeStrategy any
AuthOptions: mode disabled|token, secretName string, enableK8sTokenAuth boolean
Autoscaler: idleTimeoutSeconds integer, upscalingMode Default|Aggressive|Conservative, version v1|v2, image string,
 imagePullPolicy string, resources Resources, env [EnvVar], envFrom any, volumeMounts [VolumeMount],
 securityContext SecurityContext, command [string], args [string]
HeadGroup: template! PodTemplate, rayStartParams map, serviceType ClusterIP|NodePort|LoadBalancer, headService any,
 enableIngress boolean, labels map, resources quantities
WorkerGroup: groupName! string, replicas integer, minReplicas! integer, maxReplicas! integer, numOfHosts integer,
 rayStartParams map, template! PodTemplate, scaleStrategy any, idleTimeoutSeconds integer, suspend boolean, labels map,
 resources quantities
CronJob: apiVersion! batch/v1, kind! CronJob, metadata! Metadata, spec! CronJobSpec
CronJobSpec: schedule! string, timeZone string, concurrencyPolicy Allow|Forbid|Replace, suspend boolean,
 startingDeadlineSeconds integer, successfulJobsHistoryLimit integer, failedJobsHistoryLimit integer,
 jobTemplate! JobTemplate
JobTemplate: metadata Metadata, spec! JobSpec
JobSpec: template! PodTemplate, backoffLimit integer, activeDeadlineSeconds integer, ttlSecondsAfterFinished integer,
 parallelism integer, completions integer, podFailurePolicy any, suspend boolean
PodTemplate: metadata Metadata, spec! PodSpec
PodSpec: containers! [Container], initContainers [Container], volumes [Volume], restartPolicy Always|OnFailure|Never,
 serviceAccountName string, automountServiceAccountToken boolean, nodeSelector map, tolerations [Toleration],
 affinity any, securityContext PodSecurity, terminationGracePeriodSeconds integer, imagePullSecrets any,
 priorityClassName string, runtimeClassName string, topologySpreadConstraints any, hostNetwork boolean
PodSecurity: runAsNonRoot boolean, runAsUser integer, runAsGroup integer, fsGroup integer, supplementalGroups [integer],
 fsGroupChangePolicy OnRootMismatch|Always, seccompProfile Seccomp
Seccomp: type! RuntimeDefault|Unconfined|Localhost, localhostProfile string
SecurityContext: allowPrivilegeEscalation boolean, readOnlyRootFilesystem boolean, privileged boolean,
 runAsNonRoot boolean, runAsUser integer, runAsGroup integer, capabilities Capabilities, seccompProfile Seccomp
Capabilities: add [string], drop [string]
Toleration: key string, operator Exists|Equal, value string, effect NoSchedule|PreferNoSchedule|NoExecute,
 tolerationSeconds integer
Container: name! string, image string, imagePullPolicy Always|Never|IfNotPresent, command [string], args [string],
 workingDir string, env [EnvVar], envFrom any, ports any, resources Resources, volumeMounts [VolumeMount],
 securityContext SecurityContext, lifecycle any, livenessProbe any, readinessProbe any, startupProbe any
Resources: requests quantities, limits quantities
EnvVar: name! string, value string, valueFrom EnvSource
EnvSource: secretKeyRef KeyRef, configMapKeyRef KeyRef, fieldRef any, resourceFieldRef any
KeyRef: name string, key! string, optional boolean
VolumeMount: name! string, mountPath! string, subPath string, readOnly boolean
Volume: name! string, persistentVolumeClaim ClaimRef, configMap ConfigMapRef, secret any, emptyDir EmptyDir,
 hostPath any, nfs any, csi any, ephemeral any, projected any
ClaimRef: claimName! string, readOnly boolean
ConfigMapRef: name string, items any, defaultMode integer, optional boolean
EmptyDir: medium string, sizeLimit quantity
ConfigMap: apiVersion! v1, kind! ConfigMap, metadata! Metadata, data map, immutable boolean
ServiceAccount: apiVersion! v1, kind! ServiceAccount, metadata! Metadata, automountServiceAccountToken boolean
PersistentVolumeClaim: apiVersion! v1, kind! PersistentVolumeClaim, metadata! Metadata, spec! ClaimSpec
ClaimSpec: accessModes! [ReadWriteOnce|ReadOnlyMany|ReadWriteMany|ReadWriteOncePod], resources! Resources,
 storageClassName string, volumeName string, volumeMode string
"""
QUANTITY = {"type": ["string", "integer", "number"], "pattern": r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$"}
SIMPLE: dict[str, dict[str, Any]] = {
    **{name: {"type": name} for name in ("string", "integer", "number", "boolean")},
    "map": {"type": "object", "additionalProperties": {"type": "string"}},
    "quantity": QUANTITY,
    "quantities": {"type": "object", "additionalProperties": QUANTITY},
    "any": {},
}


def problems(document: dict[str, Any]) -> list[str]:
    """What a server would refuse in a manifest, one line each; none in a good one."""
    kind = document.get("kind")
    if kind not in DEFINITIONS:
        return [f"kind {kind!r} is not known"]
    validator = jsonschema.Draft202012Validator({"$ref": f"#/$defs/{kind}", "$defs": DEFINITIONS})
    return [f"{kind}{error.json_path[1:]}: {error.message[:200]}" for error in validator.iter_errors(document)]


def _type(name: str) -> dict[str, Any]:
    if name.startswith("["):
        return {"type": "array", "items": _type(name[1:-1]), "minItems": 1}
    if name in SIMPLE:
        return SIMPLE[name]
    if name in NAMES and "|" not in name:
        return {"$ref": f"#/$defs/{name}"}
    return {"enum": name.split("|")}


def _definition(fields: str) -> dict[str, Any]:
    pairs = [one.split() for one in fields.split(",")]
    return {
        "type": "object",
        "properties": {
            name.rstrip("!"): {"const": kind} if name in ("kind!", "apiVersion!") else _type(kind)
            for name, kind in pairs
        },
        "required": [name.rstrip("!") for name, _ in pairs if name.endswith("!")],
        "additionalProperties": False,
    }


ENTRIES = dict(line.split(": ", 1) for line in FIELDS.strip().replace(",\n ", ", ").splitlines())
NAMES = frozenset(ENTRIES)
DEFINITIONS = {name: _definition(fields) for name, fields in ENTRIES.items()}
