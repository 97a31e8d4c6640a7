"""What an instance of Compute Engine may be asked to be: the part of it that files of the cluster launcher use.

From the reference of the resource, https://cloud.google.com/compute/docs/reference/rest/v1/instances, without what only
a server sets and what few need. A field that is not listed here is refused: a misspelt one, or one to be looked up
there and added. Ray passes ``node_config`` on as it is and adds a name, labels and, where it has none, a network.
"""

from __future__ import annotations

from typing import Any

import jsonschema

TEXT = {"type": "string"}
FLAG = {"type": "boolean"}
WHOLE = {"type": ["integer", "string"], "pattern": "^[0-9]+$"}  # an int64 travels as text
TEXTS = {"type": "object", "additionalProperties": TEXT}


def _one(**fields: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": fields, "additionalProperties": False}


def _list(item: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": item, "minItems": 1}


def _of(*choices: str) -> dict[str, Any]:
    return {"enum": list(choices)}


DISK = _one(
    boot=FLAG,
    autoDelete=FLAG,
    type=_of("PERSISTENT", "SCRATCH"),
    mode=_of("READ_WRITE", "READ_ONLY"),
    interface=_of("SCSI", "NVME"),
    source=TEXT,
    deviceName=TEXT,
    initializeParams=_one(diskSizeGb=WHOLE, diskType=TEXT, sourceImage=TEXT, labels=TEXTS),
)
NETWORK = _one(
    network=TEXT,
    subnetwork=TEXT,
    accessConfigs=_list(_one(name=TEXT, type=_of("ONE_TO_ONE_NAT"), networkTier=_of("PREMIUM", "STANDARD"))),
)
SCHEDULING = _one(
    provisioningModel=_of("STANDARD", "SPOT"),
    instanceTerminationAction=_of("DELETE", "STOP"),
    onHostMaintenance=_of("MIGRATE", "TERMINATE"),
    automaticRestart=FLAG,
    preemptible=FLAG,
)
INSTANCE = _one(
    machineType=TEXT,
    minCpuPlatform=TEXT,
    disks=_list(DISK),
    networkInterfaces=_list(NETWORK),
    serviceAccounts=_list(_one(email=TEXT, scopes=_list(TEXT))),
    scheduling=SCHEDULING,
    guestAccelerators=_list(_one(acceleratorType=TEXT, acceleratorCount={"type": "integer", "minimum": 1})),
    shieldedInstanceConfig=_one(enableSecureBoot=FLAG, enableVtpm=FLAG, enableIntegrityMonitoring=FLAG),
    metadata=_one(items=_list(_one(key=TEXT, value=TEXT))),
    labels=TEXTS,
    tags=_one(items=_list(TEXT)),
)
INSTANCE["required"] = ["machineType", "disks"]


def instance_problems(node: dict[str, Any]) -> list[str]:
    """What Compute Engine would refuse in a node's configuration, one line each; none in a good one."""
    return [
        f"{one.json_path}: {one.message[:200]}" for one in jsonschema.Draft202012Validator(INSTANCE).iter_errors(node)
    ]
