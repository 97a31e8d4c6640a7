"""Is a manifest one that Kubernetes and KubeRay would take? A strict check without a network (kubernetes_schemas.py).

KubeRay's resources are checked against a list of their fields. To check the manifests under cluster/kuberay against
KubeRay's own CustomResourceDefinitions, from ray-operator/config/crd/bases in https://github.com/ray-project/kuberay::

    python -m tests.kubernetes ray.io_rayjobs.yaml ray.io_rayclusters.yaml ray.io_raycronjobs.yaml
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import jsonschema

from tests.crds import NAMED, Kind, documents, read_definitions
from tests.kubernetes_schemas import DEFINITIONS, KINDS, VERSION
from zsd.errors import ConfigError

MANIFESTS = Path(__file__).parents[1] / "cluster" / "kuberay"


def problems(document: dict[str, Any]) -> list[str]:
    """What a server would refuse in a manifest, one line each; none in a good one."""
    kind = (str(document.get("apiVersion")), str(document.get("kind")))
    if kind not in KINDS:
        return [f"{kind[0]} {kind[1]}: neither Kubernetes {VERSION} nor KubeRay knows this kind"]
    name = KINDS[kind]
    wanted = ["metadata", "spec"] if "spec" in DEFINITIONS[name]["properties"] else ["metadata"]
    schema = {"$ref": f"#/$defs/{name}", "required": wanted, "properties": {"metadata": NAMED}}
    return _told(document, jsonschema.Draft202012Validator({**schema, "$defs": DEFINITIONS}))


def _told(document: dict[str, Any], validator: Any) -> list[str]:
    return [f"{document['kind']}{one.json_path[1:]}: {one.message[:200]}" for one in validator.iter_errors(document)]


def main(arguments: Sequence[str] | None = None, folder: Path = MANIFESTS) -> int:
    """Check the manifests in a folder against definitions in files; 1 when something is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.kubernetes", description=main.__doc__)
    parser.add_argument("file", nargs="+", type=Path, help="CustomResourceDefinition, as KubeRay publishes it")
    try:
        schemas = {
            kind: schema
            for file in parser.parse_args(arguments).file
            for kind, schema in read_definitions(file).items()
        }
        manifests = [(file, one) for file in sorted(folder.glob("*.yaml")) for one in documents(file)]
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 1
    return _report(schemas, manifests)


def _report(schemas: dict[Kind, dict[str, Any]], manifests: Iterable[tuple[Path, dict[str, Any]]]) -> int:
    checked = wrong = 0
    for file, manifest in manifests:
        schema = schemas.get((manifest["apiVersion"], manifest["kind"]))
        if schema is not None:
            told = _told(manifest, jsonschema.Draft4Validator(schema))
            print("\n".join(f"{file.name}: {line}" for line in told or [f"{manifest['kind']} is valid"]))
            checked += 1
            wrong += bool(told)
    print(f"{checked} manifests checked, {wrong} refused")
    return int(wrong > 0 or checked == 0)


if __name__ == "__main__":
    sys.exit(main())
