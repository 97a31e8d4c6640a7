"""What lies in cluster/ and jobs/ is valid against the schemas, and its commands are ones that the parsers take."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import click
import jsonschema
import pytest
import ray
from botocore.session import get_session
from botocore.validate import ParamValidator
from ray.runtime_env import RuntimeEnv

from tests.command_lines import ROOT, check, check_job_file, check_ray, check_zsd, commands
from tests.compute_engine import instance_problems
from tests.crds import documents
from zsd.errors import ConfigError

CLUSTER = ROOT / "cluster"
LAUNCHERS = [CLUSTER / "aws.yaml", CLUSTER / "gcp.yaml"]
KUBERNETES = sorted((CLUSTER / "kuberay").glob("*.yaml"))
NO_COMMANDS = ("nightly-config.yaml",)
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


def test_a_node_of_gcp_is_one_that_compute_engine_takes() -> None:
    (cluster,) = documents(CLUSTER / "gcp.yaml")
    assert cluster["available_node_types"]
    for name, node in cluster["available_node_types"].items():
        assert instance_problems(node["node_config"]) == [], name


@pytest.mark.parametrize(
    ("place", "value", "told"),
    [
        (["machinetype"], "n2-standard-4", "'machinetype' was unexpected"),
        (["disks"], [], "should be non-empty"),
        (["disks", 0, "autodelete"], True, "'autodelete' was unexpected"),
        (["disks", 0, "initializeParams", "diskSizeGB"], 100, "'diskSizeGB' was unexpected"),
        (["disks", 0, "initializeParams", "diskSizeGb"], "100 GB", "diskSizeGb"),
        (["scheduling"], {"provisioningModel": "spot"}, "provisioningModel"),
        (["scheduling"], {"onHostMaintenence": "TERMINATE"}, "'onHostMaintenence' was unexpected"),
        (["serviceAccounts", 0, "scope"], ["x"], "'scope' was unexpected"),
        (["shieldedInstanceConfig", "enableSecureBoot"], "yes", "enableSecureBoot"),
    ],
)
def test_a_mistake_in_a_node_of_gcp_is_found(place: list[Any], value: object, told: str) -> None:
    (cluster,) = documents(CLUSTER / "gcp.yaml")
    node = cluster["available_node_types"]["head"]["node_config"]
    inner = node
    for step in place[:-1]:
        inner = inner[step]
    inner[place[-1]] = value
    assert [one for one in instance_problems(node) if told in one]


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
        "#   docker run --rm image:1 zsd run --outputs run",
        'CMD ["zsd", "labels"]',
        ".venv/bin/zsd runs",
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


def test_the_local_cluster_gives_ray_only_what_it_takes() -> None:
    text = (CLUSTER / "local.sh").read_text(encoding="utf-8").replace("\\\n", " ")
    text = re.sub(r"\$\(\(.*?\)\)|\$\{ZSD_\w+:-(\d+)\}|\$\w+", lambda found: found[1] or "1", text)  # any value will do
    (common,) = re.findall(r"^common=\((.*?)\)$", text, flags=re.DOTALL | re.MULTILINE)
    started = re.findall(r"^\s*begin \w+ (.*)$", text, flags=re.MULTILINE)
    asked = re.findall(r"\$\((ray [^|]*?) 2>\S+ \|", text)
    assert len(started) == 3
    assert len(asked) == 1
    for words in started:
        check_ray(["start", *shlex.split(common), *shlex.split(words)])
    for words in asked:
        check(shlex.split(words))


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
    assert model_steps(text) == []


MODEL_STEP = (
    r"^(?:COPY|ADD)\b.*model|https?:|from_pretrained|snapshot_download|"
    r"(?:^RUN|[;&|])\s+(?:curl|wget|git|hf|huggingface-cli)\b"
)


def model_steps(dockerfile: str) -> list[str]:
    """The steps that put a model into an image, or anything else that pip and apt-get do not."""
    steps = dockerfile.replace("\\\n", " ").splitlines()
    return [step for step in steps if not step.startswith("#") and re.search(MODEL_STEP, step)]


@pytest.mark.parametrize(
    "step",
    [
        "COPY models /opt/models",
        "ADD https://example.org/x.tar /opt/x",
        "RUN hf download x/y",
        "RUN pip install huggingface_hub \\\n    && huggingface-cli download x/y",
        "RUN wget $TEACHER",
        "RUN true; curl --location $TEACHER",
        "RUN python -c 'from huggingface_hub import snapshot_download as get; get(1)'",
        "RUN git clone $TEACHER",
    ],
)
def test_a_model_in_the_image_is_found(step: str) -> None:
    assert model_steps(f"FROM python\n{step}\nUSER 1000") != []


def test_versions_of_ray_agree_everywhere() -> None:
    (pinned,) = re.findall(r"^ray==(\S+)$", (CLUSTER / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    texts = [file.read_text(encoding="utf-8") for file in KUBERNETES]
    assert {version for text in texts for version in re.findall(r'rayVersion: "(.+?)"', text)} == {pinned}


def test_every_job_is_a_command_of_zsd() -> None:
    names = {file.stem for file in (ROOT / "jobs").glob("*.py")} - {"__init__", "distill_classifier"}
    assert {"label", "distill", "predict", "benchmark", "nightly"} <= names
    for name in names:
        with pytest.raises(SystemExit) as end:
            check_zsd([name, "--help"])
        assert end.value.code == 0, name
