"""What lies in cluster/ and jobs/ is valid against the schemas, and its commands are ones that the parsers take."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import click
import jsonschema
import pytest
import ray
from botocore.session import get_session
from botocore.validate import ParamValidator
from ray.runtime_env import RuntimeEnv
from ray.scripts.scripts import cli as ray_cli

from tests.command_lines import ROOT, check, check_job_file, check_zsd, commands
from tests.crds import documents
from tests.kubernetes import problems
from zsd.errors import ConfigError

CLUSTER = ROOT / "cluster"
LAUNCHERS = [CLUSTER / "aws.yaml", CLUSTER / "gcp.yaml"]
KUBERNETES = sorted((CLUSTER / "kuberay").glob("*.yaml"))
NO_COMMANDS = ("storage.yaml", "nightly-config.yaml")
CONFIGS = sorted((ROOT / "jobs" / "configs").glob("*.toml"))
WITH_COMMANDS = [
    *(*LAUNCHERS, *KUBERNETES, *CONFIGS, CLUSTER / "Dockerfile", CLUSTER / "local.sh"),
    *(ROOT / "jobs" / "runtime_env.yaml", ROOT / "README.md"),
]


def relative(file: Path) -> str:
    return str(file.relative_to(ROOT))


@pytest.fixture
def at_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("file", LAUNCHERS, ids=relative)
def test_a_launcher_file_is_valid_for_ray(file: Path) -> None:
    schema = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text(encoding="utf-8"))
    (cluster,) = documents(file)
    jsonschema.validate(cluster, schema)
    kinds = cluster["available_node_types"]
    assert cluster["head_node_type"] in kinds
    assert {"cpu", "cpu_spot", "gpu_spot"} <= kinds.keys()
    assert any(node["resources"].get("GPU") for node in kinds.values())
    for key in ("head_start_ray_commands", "worker_start_ray_commands"):
        for command in cluster[key]:
            check(command.split())


def test_a_node_of_aws_is_one_that_ec2_takes() -> None:
    shape = get_session().get_service_model("ec2").operation_model("RunInstances").input_shape
    (cluster,) = documents(CLUSTER / "aws.yaml")
    added = {"MinCount": 1, "MaxCount": 1}  # by Ray
    for name, node in cluster["available_node_types"].items():
        report = ParamValidator().validate({**node["node_config"], **added}, shape)
        assert not report.has_errors(), f"{name}: {report.generate_report()}"
    renamed = ParamValidator().validate({"InstanceTyp": "m7i.xlarge", **added}, shape)
    assert "InstanceTyp" in renamed.generate_report()


@pytest.mark.parametrize("file", KUBERNETES, ids=relative)
def test_a_manifest_is_valid_for_kubernetes(file: Path) -> None:
    for document in documents(file):
        assert problems(document) == []


@pytest.mark.parametrize("file", KUBERNETES, ids=relative)
def test_what_a_manifest_runs_is_a_real_command_on_a_valid_job_file(file: Path, tmp_path: Path) -> None:
    maps = {
        one["metadata"]["name"]: one["data"] for f in KUBERNETES for one in documents(f) if one["kind"] == "ConfigMap"
    }
    found = entrypoints(documents(file))
    assert bool(found) != (file.name in NO_COMMANDS)
    for words in found:
        check(words)
        (config,) = [word for word in words if word.endswith(".toml")]
        named = {data[Path(config).name] for data in maps.values() if Path(config).name in data}
        assert len(named) == 1, f"{config} is in no ConfigMap"
        job = tmp_path / Path(config).name
        job.write_text(named.pop(), encoding="utf-8")
        check_job_file(job, words[words.index("zsd") + 1])


def entrypoints(value: Any) -> list[list[str]]:
    """Every entrypoint and container command below a value."""
    if isinstance(value, list):
        return [words for one in value for words in entrypoints(one)]
    if not isinstance(value, dict):
        return []
    own = [value["entrypoint"].split()] if "entrypoint" in value else []
    own += [[*value["command"], *value.get("args", [])]] if "command" in value else []
    return own + [words for one in value.values() for words in entrypoints(one)]


def test_pods_are_not_root_and_what_they_mount_is_there() -> None:
    claims = {one["metadata"]["name"] for f in KUBERNETES for one in documents(f) if one["kind"] != "RayJob"}
    pods = [pod for file in KUBERNETES for document in documents(file) for pod in pod_specs(document)]
    assert len(pods) >= 7
    for pod in pods:
        assert pod["securityContext"]["runAsNonRoot"] is True
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        for container in pod["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes.keys()
        for volume in volumes.values():
            source = volume.get("persistentVolumeClaim", {}).get("claimName") or volume.get("configMap", {}).get("name")
            assert source is None or source in claims


def pod_specs(value: Any) -> list[dict[str, Any]]:
    if isinstance(value, list):
        return [pod for one in value for pod in pod_specs(one)]
    if not isinstance(value, dict):
        return []
    return [value] * ("containers" in value) + [pod for one in value.values() for pod in pod_specs(one)]


@pytest.mark.parametrize("file", WITH_COMMANDS, ids=relative)
def test_every_command_is_one_that_its_program_takes(file: Path, at_root: None) -> None:
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".md":
        text = "\n".join(re.findall(r"```bash\n(.*?)```", text, flags=re.DOTALL))
    found = list(commands(text))
    assert found or file.name in NO_COMMANDS, "no command was found"
    for words in found:
        try:
            check(words)
        except SystemExit as end:  # --help and --version
            assert end.code == 0, words


@pytest.mark.parametrize(
    "line",
    [
        "zsd label --data a --outptu b --label x --label y",
        "zsd distill --soft-labels a --output b --num_train_epoch 3",
        "ray job submit --workin-dir . -- python jobs/label.py --data a",
        "ray job submit --working-dir . -- python jobs/label.py --dat a",
        "RAY_ADDRESS=x ray start --heads",
        "cd x && zsd lable --data a",
        "# zsd label --config jobs/configs/absent.toml",
    ],
)
def test_a_renamed_flag_or_file_is_found(line: str, at_root: None) -> None:
    (words,) = commands(line)
    with pytest.raises((ConfigError, click.UsageError, AssertionError)):
        check(words)


@pytest.mark.parametrize("file", CONFIGS, ids=relative)
def test_every_job_file_is_read_by_the_real_loader(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    tables = [name for name in re.findall(r"^\[(\w+)\]", text, flags=re.MULTILINE) if name != "training"]
    assert "label" in tables or "nightly" in tables
    for table in tables:
        check_job_file(file, table)
    for line in text.splitlines():
        assert line.startswith(("#", "[", "]")) or not line or "=" in line, line
    explained = [line for line in text.splitlines() if "#" in line]
    assert len(explained) > len(text.splitlines()) / 5, "comment it"


def test_the_runtime_environment_is_one_that_ray_takes(at_root: None) -> None:
    content = documents(ROOT / "jobs" / "runtime_env.yaml")[0]
    RuntimeEnv(**{**content, "working_dir": str(ROOT)})
    assert not any(re.search("(^|_)(KEY|TOKEN|SECRET|PASSWORD)(_|$)", name) for name in content["env_vars"])


def test_the_local_cluster_gives_ray_only_flags_that_it_has() -> None:
    start = ray_cli.get_command(click.Context(ray_cli), "start")
    assert start is not None
    known = {name for one in start.params for name in (*one.opts, *one.secondary_opts)}
    text = (CLUSTER / "local.sh").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = re.findall(r"^\s*begin \w+ (.*)$", text, flags=re.MULTILINE) + re.findall(
        r"common=\((.*?)\)", text, re.DOTALL
    )
    used = {flag for line in lines for flag in re.findall(r"--[a-z-]+", line)}
    assert {"--head", "--block", "--num-cpus", "--address"} <= used <= known


def test_the_image_is_not_root_and_has_the_versions_that_were_tested() -> None:
    text = (CLUSTER / "Dockerfile").read_text(encoding="utf-8")
    constraints = (CLUSTER / "constraints.txt").read_text(encoding="utf-8").splitlines()
    users = re.findall(r"^USER (\S+)", text, flags=re.MULTILINE)
    assert users
    assert users[-1] not in ("root", "0")
    (torch,) = re.findall(r"^ARG TORCH=(\S+)", text, flags=re.MULTILINE)
    assert f"torch=={torch}" in constraints
    copies = re.findall(r"^COPY (.+) \S+$", text, flags=re.MULTILINE)
    assert len(copies) >= 4
    for names in copies:
        assert all((ROOT / name).exists() for name in names.split()), names
    assert "--constraint" in text
    extras = set(re.findall(r"/opt/zsd\[([\w,]+)\]", text)[0].split(","))
    assert "tracking" in extras, "a night with --mlflow needs it"
    assert all(f"\n{extra} = [" in (ROOT / "pyproject.toml").read_text(encoding="utf-8") for extra in extras)
    assert "model" not in " ".join(re.findall(r"^(?:COPY|ADD) .*", text, flags=re.MULTILINE))


def test_versions_of_ray_agree_everywhere() -> None:
    (pinned,) = re.findall(r"^ray==(\S+)$", (CLUSTER / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    texts = [file.read_text(encoding="utf-8") for file in KUBERNETES]
    assert {version for text in texts for version in re.findall(r'rayVersion: "(.+?)"', text)} == {pinned}


def test_a_job_of_the_runtime_environment_names_every_command() -> None:
    for name in ("label", "distill", "predict", "benchmark"):
        with pytest.raises(SystemExit):
            check_zsd([name, "--help"])
