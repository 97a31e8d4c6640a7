"""Files of CustomResourceDefinitions as schemas that refuse what a server with strict field validation refuses.

A definition holds an OpenAPI v3 schema in Kubernetes' own form of it
(https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/): a field that is not
listed is dropped by a server, or refused with strict validation. Rules in CEL (``x-kubernetes-validations``) are the
one thing here that a server also checks and that is not checked.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from zsd.errors import ConfigError

Kind = tuple[str, str]  # apiVersion, kind


def documents(file: Path) -> list[Any]:
    """What a YAML file holds, without its empty documents.

    Raises:
        ConfigError: the file cannot be read, or is no YAML.
    """
    try:
        return [one for one in yaml.safe_load_all(file.read_text(encoding="utf-8")) if one]
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{file} cannot be read as YAML: {' '.join(str(error).split())}") from error


def read_definitions(file: Path) -> dict[Kind, dict[str, Any]]:
    """The schemas (JSON Schema, draft 4) of the versions that the definitions in a file have served.

    Raises:
        ConfigError: the file cannot be read, or something in it is not a CustomResourceDefinition of
            apiextensions.k8s.io/v1.
    """
    found: dict[Kind, dict[str, Any]] = {}
    for document in documents(file):
        try:
            if (document["apiVersion"], document["kind"]) != ("apiextensions.k8s.io/v1", "CustomResourceDefinition"):
                raise ValueError(f"it is a {document['kind']} of {document['apiVersion']}")
            spec = document["spec"]
            for version in spec["versions"]:
                if version["served"]:
                    kind = (f"{spec['group']}/{version['name']}", spec["names"]["kind"])
                    found[kind] = _resource(version["schema"]["openAPIV3Schema"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ConfigError(
                f"{file} is no CustomResourceDefinition of apiextensions.k8s.io/v1 ({error}): give one of KubeRay's, "
                "from ray-operator/config/crd/bases"
            ) from error
    if not found:
        raise ConfigError(f"{file} holds no CustomResourceDefinition that has a version served")
    return found


def closed(schema: dict[str, Any]) -> dict[str, Any]:
    """A part of a definition's schema as JSON Schema in which a field that is not listed is refused."""
    made = dict(schema)
    if schema.get("x-kubernetes-int-or-string"):
        made["type"] = ["integer", "string"]
    if "type" in made and schema.get("nullable"):
        made["type"] = [*([made["type"]] if isinstance(made["type"], str) else made["type"]), "null"]
    if "items" in schema:
        made["items"] = closed(schema["items"])
    fields = {name: closed(field) for name, field in schema.get("properties", {}).items()}
    if schema.get("x-kubernetes-embedded-resource"):
        fields = {**_EVERY_RESOURCE, **fields}
    if fields:
        made["properties"] = fields
    if "required" in schema:  # a server fills in the defaults before it looks for what is missing
        required = [name for name in schema["required"] if "default" not in fields.get(name, {})]
        made["required"] = required
        if not required:  # draft 4 knows no empty list
            del made["required"]
    if isinstance(schema.get("additionalProperties"), dict):
        made["additionalProperties"] = closed(schema["additionalProperties"])
    elif schema.get("type") == "object" and "additionalProperties" not in schema:
        made["additionalProperties"] = bool(schema.get("x-kubernetes-preserve-unknown-fields"))
    return made


NAMED = {"required": ["name"], "properties": {"name": {"type": "string"}}}  # of the metadata that kubectl apply takes
_EVERY_RESOURCE = {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"}}


def _resource(schema: dict[str, Any]) -> dict[str, Any]:
    made = closed({**schema, "x-kubernetes-embedded-resource": True})
    # a server has its own schema of a resource's metadata, whatever the definition says
    made["properties"] = {**made["properties"], "metadata": {"type": "object", **NAMED}}
    made["required"] = sorted({*made.get("required", ()), *_EVERY_RESOURCE})
    return made
