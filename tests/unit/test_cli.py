from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import zsd
from zsd.cli import build_parser, main
from zsd.options import make

CORPUS = {"--data", "--output", "--text-column", "--id-column", "--limit", "--cpu-actors", "--gpu-actors"} | {
    *("--cpus-per-actor", "--unit-rows", "--ray-address", "--max-rejected", "--target-file-rows"),
}
LABEL = CORPUS | {
    *("--labels", "--label", "--template", "--multi-label", "--no-multi-label", "--temperature", "--teacher"),
    *("--nli-classes", "--max-length", "--long-text", "--engine", "--precision", "--min-agreement"),
    *("--reuse", "--reuse-other", "--content-free", "--no-content-free"),
}
TRAINING = {
    *("--student", "--students", "--num-workers", "--min-workers", "--calibrate", "--weight", "--balance"),
    *("--hard-labels", "--rounds", "--patience", "--gold", "--gold-text-column", "--gold-label-column"),
    *("--gold-weight", "--freeze-embeddings", "--no-freeze-embeddings"),
}
FLAGS = {
    "run": LABEL | TRAINING | {"--test", "--label-column"},
    "label": LABEL | {"--report"},
    "distill": TRAINING
    | {
        *("--soft-labels", "--output", "--heldout-fraction", "--ray-address", "--limit", "--test"),
        "--test-text-column",
    },
    "evaluate": {
        *("--model", "--engine", "--precision", "--data", "--soft-labels", "--output", "--label-column"),
        *("--text-column", "--limit"),
    },
    "predict": CORPUS
    | {
        *("--model", "--engine", "--precision", "--defer-to", "--min-agreement", "--alpha", "--soft-labels"),
        *("--shortlist", "--teacher-engine"),
    },
    "annotate": LABEL
    | TRAINING
    | {
        *("--alpha", "--judging-rows", "--first-rows", "--growth", "--student-engine", "--student-precision"),
    },
    "benchmark": {
        *("--model", "--data", "--output", "--teacher", "--template", "--nli-classes", "--text-column"),
        *("--label-column", "--limit", "--speed-rows", "--rounds", "--engines", "--ray-overhead", "--no-ray-overhead"),
        *("--ray-address", "--round-seconds", "--compiled", "--min-agreement"),
        *("--old-recipe", "--no-old-recipe", "--student-engines"),
    },
    "nightly": LABEL
    | TRAINING
    | {
        "--heldout-fraction",
        *("--registry", "--night", "--test", "--label-column", "--from-scratch", "--no-from-scratch"),
        *("--max-regression", "--min-score", "--class-floor", "--max-class-drop", "--class-rows", "--max-ece"),
        *("--max-ece-rise", "--max-balance-drift", "--keep", "--lock-expiry", "--mlflow"),
    },
    "rollback": {"--registry", "--to", "--lock-expiry"},
    "push": {"--model", "--to", "--title", "--license", "--private", "--no-private"},
    "serve": {
        *("--model", "--check", "--no-check", "--host", "--port", "--replicas", "--cpus-per-replica", "--gpu"),
        *("--no-gpu", "--engine", "--precision", "--max-batch", "--batch-wait", "--max-texts", "--ray-address"),
    },
}
"""The command line is a contract: taking a flag away breaks those who use it."""

Zsd = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Zsd:
    """Run a command; its exit code, standard output and standard error."""

    def call(*argv: str) -> tuple[int, str, str]:
        code = main(argv)
        out, err = capsys.readouterr()
        return code, out, err

    return call


def parse(*argv: str) -> Any:
    options, rest = build_parser().parse_known_args(argv)
    assert rest == []
    return options


@pytest.mark.parametrize("command", FLAGS)
def test_the_flags_of_every_command_are_these(command: str) -> None:
    known = set(parse(command).flags)
    assert known == FLAGS[command] | {"--help", "--config", "--json"}


@pytest.mark.parametrize("command", ["", *FLAGS, "verify"])
def test_help_names_every_flag_and_exits_0(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"] if command else ["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert all(word in text for word in FLAGS.get(command, FLAGS if not command else ["DIR", "--json"]))


def test_help_tells_the_defaults_that_equal_true_and_false(capsys: pytest.CaptureFixture[str]) -> None:
    for command, shown in (
        ("label", "(default: 1.0)"),
        ("distill", "labels (default: 0)"),
        ("ablation", "answers (default: 1)"),
    ):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        assert shown in " ".join(capsys.readouterr().out.split())


def test_nothing_heavy_is_imported_for_help_and_mistakes() -> None:
    code = (
        "import sys; from zsd.cli import main\n"
        "main(['label', '--data', 'x', '--output', 'o', '--label', 'a', '--temperature', '0'])\n"
        "main(['distill', '--output', 'o', '--learning_rate', '1'])\n"
        "print(*({'torch', 'ray', 'transformers', 'numpy', 'pyarrow', 'datasets'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(zsd.__file__).parents[1]
    )
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr
    assert len(done.stderr.strip().splitlines()) == 2


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "COMMAND"),
        (["lable"], "invalid choice: 'lable'"),
        (["label"], "--data is missing"),
        (["label", "--data"], "--data: expected at least one argument: see zsd label --help"),
        (["label", "--temprature", "2"], "unknown argument '--temprature': did you mean '--temperature'?"),
        (["label", "--text_column", "2"], "did you mean '--text-column'?"),
        (["label", "--temperature", "abc"], "--temperature: invalid float value: 'abc'"),
        (["label", "--engine", "tf"], "--engine: invalid choice: 'tf'"),
        (["label", "--limit", "1.5"], "--limit: invalid int value"),
        (["label", "--config", "absent.toml"], "absent.toml: cannot read the job file"),
        (["label", "--data", "x", "--output", "o", "--labels", "l", "--label", "a"], "class names once"),
        (["label", "--data", "x", "--output", "o"], "class names once"),
        (["label", "--data", "x", "--output", "o", "--label", "a", "--temperature", "0"], "--temperature is 0.0"),
        (["label", "--data", "x", "--output", "o", "--label", "a", "--temperature", "nan"], "--temperature is nan"),
        (["evaluate", "--model", "m", "--data", "d", "--limit", "0"], "--limit is 0"),
        (["run", "--labels", "l"], "--labels without a corpus"),
        (["verify"], "DIR"),
        (["verify", "a", "b"], "unknown argument 'b'"),
        (["verify", "a", "--json", "absent/x.json"], "--json absent/x.json: cannot write in absent"),
        (["verify", "a", "--json", "."], "--json '.' is a directory"),
        (["verify", "absent"], "absent: holds no store"),
        (["label", "--data", "x\ny", "--output", ""], "--output is empty"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    argv: list[str], message: str, run: Zsd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run(*argv)
    assert (code, out) == (2, "")
    assert err.startswith("zsd: error: ")
    assert err.count("\n") == 1
    assert message in err
    assert list(tmp_path.iterdir()) == []


def test_a_list_may_be_given_in_parts() -> None:
    assert parse("label", "--data", "a", "b", "--limit", "1", "--data", "c").data == ["a", "b", "c"]
    assert parse("label", "--label", "a b", "--label", "c").label == ["a b", "c"]


def test_flags_win_over_the_job_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = tmp_path / "job.toml"
    job.write_text('output = "top"\n[label]\ndata = ["a"]\nlabels = "l.txt"\nlimit = 5\nmulti_label = true\n')
    seen: list[Any] = []

    def remember(*given: Any) -> None:
        seen.append(make(*given))
        sys.exit(0)

    monkeypatch.setattr("zsd.commands.make", remember)
    for extra in ([], ["--limit", "7", "--output", "o", "--no-multi-label", "--label", "x", "--label", "y"]):
        with pytest.raises(SystemExit):
            main(["label", "--config", str(job), *extra])
    from_file, mixed = seen
    assert (from_file.output, from_file.limit, from_file.labels, from_file.multi_label) == ("top", 5, "l.txt", True)
    assert (mixed.output, mixed.limit, mixed.multi_label, mixed.data) == ("o", 7, False, ("a",))
    assert (mixed.labels, mixed.label) == (None, ("x", "y"))


def evaluate_nothing(_: Any) -> dict[str, Any]:
    print("chatter")
    return {"rows": 1}


def test_json_to_standard_output_is_alone_there(run: Zsd, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("zsd.evaluate.evaluate", evaluate_nothing)
    monkeypatch.setattr("zsd.evaluate.evaluation_table", lambda result: "table")
    command = ["evaluate", "--model", "m", "--data", "d"]
    code, out, err = run(*command, "--json", "-")
    assert (code, json.loads(out), err) == (0, {"rows": 1}, "chatter\ntable\n")
    code, out, err = run(*command, "--json", str(tmp_path / "figures.json"))
    assert (code, out, err) == (0, "chatter\ntable\n", "")
    assert json.loads((tmp_path / "figures.json").read_text()) == {"rows": 1}


def test_an_interrupt_says_how_to_go_on(run: Zsd, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("zsd.evaluate.evaluate", interrupt)
    code, _, err = run("evaluate", "--model", "m", "--data", "d")
    assert (code, err) == (130, "zsd: interrupted: the same command goes on from here\n")
