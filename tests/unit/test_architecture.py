"""What the code may import, and how large a module may be."""

from __future__ import annotations

import ast
import graphlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ORDER = (
    *(
        "errors",
        "redaction",
        "pickled",
        "cache",
        "assets",
        "console",
        "figures",
        "machine",
        "options",
        "quiet",
        "telemetry",
        "filesystems",
        "storage",
        "tickets",
        "run_lock",
        "row_hash",
    ),
    *(
        "labels",
        "engines.registry",
        "distill_config",
        "ablation_config",
        "config",
        "benchmark_config",
        "compile_config",
        "annotate_config",
        "push_config",
        "serve_config",
        "gate",
        "nightly_config",
        "job_file",
        "corpus",
        "units",
        "shards",
        "shard_writer",
        "unit_rows",
    ),
    *("output", "monitor", "manifest", "rejected", "compaction", "verify", "bisection", "backlog", "attempts"),
    *(
        "ahead",
        "ragged",
        "windows",
        "buckets",
        "planning",
        "batching",
        "text_batches",
        "checkpoint",
        "joint_encoder",
        "encoder_layers",
        "confidence",
        "soft_labels",
        "teachers.nli",
        "teachers.weights",
        "engines.lanes",
        "engines.base",
        "compile",
        "engines",
        "teachers",
        "engines.trial",
        "engines.candidates",
        "engines.select",
        "engines.choice",
        "compile.forms",
        "compile.rows",
        "compile.draft_logits",
        "compile.draft",
        "compile.directory",
        "compile.job",
    ),
    *(
        "label_tables",
        "labelling",
        "known_rows",
        "reuse",
        "unfinished",
        "losses",
        "inference",
        "selective",
        "thresholds",
        "deferral",
        "annotation",
        "evaluation",
        "gold_files",
        "gold",
        "training_data",
        "training_events",
        "training_rows",
        "row_weights",
        "self_training",
        "students",
        "heldout",
        "known_logits",
        "referee",
        "teacher_plan",
        "predicting",
        "learned_rows",
        "corpus_profile",
        "drift",
        "registry_log",
        "registry",
        "rollback",
        "night",
        "gate_rows",
        "tracking",
        "mlflow_model",
    ),
    *(
        "training_progress",
        "training",
        "training_job",
        "round_labels",
        "light_training",
        "training_plan",
        "training_flags",
        "benchmark",
        "report",
        "label_report",
        "evaluate",
        "model_card",
        "push",
        "serving",
        "distributed",
        "commands",
        "cli",
    ),
)
"""Rooms from the bottom up: a module imports from its own room and from those before it. `teachers` and `engines` are
two rooms that meet twice: an engine loads what `teachers.nli` describes, `teachers.scoring` calls any engine, and
`engines.trial` compares scores."""

MODULES = {
    ".".join(file.relative_to(ROOT / "zsd").with_suffix("").parts).removesuffix(".__init__"): file
    for file in sorted((ROOT / "zsd").rglob("*.py"))
}


def room(module: str) -> int:
    """Place in `ORDER` of the longest entry that is the module or a package around it."""
    found = [entry for entry in ORDER if module == entry or module.startswith(f"{entry}.")]
    assert found, f"zsd.{module} has no place in ORDER"
    return ORDER.index(max(found, key=len))


def imported(file: Path) -> set[str]:
    """Dotted names of all that a file imports, also inside functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: a relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    return names


def own_imports(module: str) -> set[str]:
    """Modules of zsd that a module imports; a name from a package counts as the package."""
    found = {name.removeprefix("zsd.") for name in imported(MODULES[module]) if name.startswith("zsd.")}
    packages = {name.rpartition(".")[0] for name in found & MODULES.keys()}
    return {name for name in found if name in MODULES and name not in packages} - {module}


@pytest.mark.parametrize("module", [name for name in MODULES if name != "__init__"])
def test_imports_point_upwards_only(module: str) -> None:
    later = {name for name in own_imports(module) if room(name) > room(module)}
    assert not later, f"zsd.{module} imports from rooms above it: {sorted(later)}"


def test_no_module_imports_itself_through_others() -> None:
    graphlib.TopologicalSorter({module: own_imports(module) for module in MODULES}).prepare()


def test_only_distributed_imports_ray() -> None:
    users = {name for name, file in MODULES.items() if {n.split(".")[0] for n in imported(file)} & {"ray"}}
    assert users
    assert all(name.startswith("distributed") for name in users), sorted(users)
    assert not any({n.split(".")[0] for n in imported(file)} & {"ray"} for file in (ROOT / "jobs").glob("*.py"))


def test_modules_are_small_enough_to_read() -> None:
    lines = {name: len(file.read_text(encoding="utf-8").splitlines()) for name, file in MODULES.items()}
    assert {name: count for name, count in lines.items() if count > 300} == {}


def test_jobs_are_thin() -> None:
    jobs = list((ROOT / "jobs").glob("*.py"))
    assert len(jobs) > 5
    for file in jobs:
        source = file.read_text(encoding="utf-8")
        assert len(source.splitlines()) <= 20, file
        assert {name for name in imported(file) if name.startswith("zsd")} <= {
            *(
                "zsd.cli",
                "zsd.cli.main",
                "zsd.distributed.distill_classifier",
                "zsd.distributed.distill_classifier.main",
            )
        }, file
