"""A CustomResourceDefinition as a schema, and the command that holds the manifests against KubeRay's."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.crds import closed
from tests.kubernetes import MANIFESTS, main

FREE = {"type": "object", "x-kubernetes-preserve-unknown-fields": True, "properties": {"sure": {"type": "integer"}}}
SPEC: dict[str, Any] = {
    "type": "object",
    "required": ["size", "copies"],
    "properties": {
        "size": {"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}, {"type": "string"}]},
        "copies": {"type": "integer", "default": 1, "minimum": 1},
        "note": {"type": "string", "nullable": True},
        "tags": {"type": "object", "additionalProperties": {"type": "string"}},
        "parts": {
            "type": "array",
            "items": {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer", "default": 1}}},
        },
        "free": FREE,
    },
}
GOOD: dict[str, Any] = {"size": "3Gi", "note": None, "tags": {"a": "b"}, "parts": [{}], "free": {"any": 1, "sure": 2}}


def crd(group: str = "example.org", kind: str = "Box", spec: dict[str, Any] | None = None) -> dict[str, Any]:
    fields = {"apiVersion": {"type": "string"}, "metadata": {"type": "object"}, "spec": spec or SPEC}
    version = {"served": True, "storage": True, "schema": {"openAPIV3Schema": {"type": "object", "properties": fields}}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.lower()}s.{group}"},
        "spec": {"group": group, "names": {"kind": kind}, "versions": [{"name": "v1", **version}]},
    }


def box(spec: object = GOOD, **more: object) -> dict[str, Any]:
    return {"apiVersion": "example.org/v1", "kind": "Box", "metadata": {"name": "b"}, "spec": spec, **more}


def written(file: Path, *content: object) -> Path:
    file.parent.mkdir(exist_ok=True)
    file.write_text(yaml.safe_dump_all(content), encoding="utf-8")
    return file


def check(tmp_path: Path, *manifests: object) -> int:
    written(tmp_path / "manifests" / "boxes.yaml", *manifests)
    return main([str(written(tmp_path / "crd.yaml", crd()))], tmp_path / "manifests")


def test_a_good_manifest_passes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}}
    assert check(tmp_path, other, box(), box({"size": 3})) == 0
    assert capsys.readouterr().out.splitlines() == [
        *["boxes.yaml: Box is valid"] * 2,
        "2 manifests checked, 0 refused",
    ]


@pytest.mark.parametrize(
    ("manifest", "told"),
    [
        (box({**GOOD, "sizes": 3}), "Box.spec: Additional properties are not allowed ('sizes' was unexpected)"),
        (box(statuses={}), "'statuses' was unexpected"),
        (box({"copies": 2}), "'size' is a required property"),
        (box({**GOOD, "size": 1.5}), "Box.spec.size"),
        (box({**GOOD, "size": None}), "Box.spec.size"),
        (box({**GOOD, "copies": 0}), "Box.spec.copies"),
        (box({**GOOD, "tags": {"a": 1}}), "Box.spec.tags.a"),
        (box({**GOOD, "parts": [{"m": 1}]}), "'m' was unexpected"),
        (box({**GOOD, "free": {"sure": "1"}}), "Box.spec.free.sure"),
        (box(metadata={}), "'name' is a required property"),
    ],
)
def test_a_manifest_that_a_server_refuses_is_told(
    manifest: dict[str, Any], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(tmp_path, manifest) == 1
    output = capsys.readouterr().out
    assert told in output
    assert output.endswith("1 manifests checked, 1 refused\n")


def test_a_schema_is_not_changed_by_closing_it() -> None:
    before = copy.deepcopy(SPEC)
    jsonschema.Draft4Validator.check_schema(closed(SPEC))
    assert before == SPEC


def test_a_definition_of_a_kind_that_no_manifest_has_is_no_success(tmp_path: Path) -> None:
    assert main([str(written(tmp_path / "crd.yaml", crd()))]) == 1


def test_our_own_manifests_are_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    free = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    file = written(tmp_path / "crd.yaml", crd("ray.io", "RayJob", free), crd("ray.io", "RayCronJob", free))
    assert main([str(file)]) == 0
    assert capsys.readouterr().out.endswith("2 manifests checked, 0 refused\n")


@pytest.mark.parametrize(
    "content",
    [
        box(),
        "text",
        {**crd(), "spec": {}},
        {**crd(), "spec": {**crd()["spec"], "versions": []}},
        {**crd(), "apiVersion": "apiextensions.k8s.io/v1beta1"},
        None,
    ],
)
def test_a_file_that_is_no_definition_is_told_in_one_line(
    content: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path / "x.yaml", content)
    assert main([str(file)], MANIFESTS) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert str(file) in line
    assert "CustomResourceDefinition" in line


@pytest.mark.parametrize("content", [None, b"a: [", b"\xff\xfe\xfa"])
def test_a_file_that_is_no_yaml_is_told_in_one_line(
    content: bytes | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "x.yaml"
    if content is not None:
        file.write_bytes(content)
    assert main([str(file)], MANIFESTS) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{file} cannot be read" in line
