"""What growth costs: 1% new rows, and one class more, beside labelling everything.

    python -m tests.scale.growth --rows 50000 --engine openvino --precision bf16    the real bundled teacher
    python -m tests.scale.growth --rows 8000 --pace cpu=320                          the stand-in, 320 pairs/s an actor

Every step is a ``zsd label`` process; its start-up is that of a job of one row. Pairs are exact; exit code 1 if not.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests import standin
from tests.corpora import good

NAMES = ("travel", "sports", "business", "health")


def job(folder: Path, name: str, texts: list[str], names: tuple[str, ...], flags: list[str]) -> tuple[float, int]:
    """Seconds of the command and pairs that it ran."""
    (folder / f"{name}.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
    module = "tests.standin" if os.environ.get(standin.PACE) else "zsd.cli"
    command = [sys.executable, "-m", module, "label", "--data", str(folder / f"{name}.txt")]
    command += ["--output", str(folder / name), *flags, *(flag for one in names for flag in ("--label", one))]
    began = time.monotonic()
    subprocess.run(command, check=True)
    seconds = time.monotonic() - began
    return seconds, json.loads((folder / name / "manifest.json").read_text())["pairs"]


def texts_of(rows: int) -> list[str]:
    """Distinct short texts."""
    dice = random.Random(0)
    return [json.loads(good(500 * n, dice))["text"] for n in range(rows)]  # numbers of which none is odd


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--pace", help="use the stand-in teacher at this speed (see tests.standin)")
    parser.add_argument("--engine", default="torch")
    parser.add_argument("--precision")
    asked = parser.parse_args()
    if asked.pace:
        os.environ[standin.PACE] = asked.pace
    flags = ["--engine", asked.engine, *(["--precision", asked.precision] if asked.precision else [])]
    new = asked.rows // 100
    texts = texts_of(asked.rows + new)
    old = texts[: asked.rows]
    with tempfile.TemporaryDirectory(prefix="zsd-growth-") as name:
        folder = Path(name)
        again = [*flags, "--reuse", str(folder / "first")]
        start, _ = job(folder, "start", ["one row"], NAMES, flags)
        done = {
            "everything": job(folder, "first", old, NAMES, flags),
            "1% new rows": job(folder, "grown", texts, NAMES, again),
            "a fifth class": job(folder, "fifth", old, (*NAMES, "politics"), again),
        }
    wanted = {"everything": 4 * asked.rows, "1% new rows": 4 * new, "a fifth class": asked.rows}
    whole, pairs = done["everything"]
    print(f"{asked.rows:,} rows, 4 classes; start-up (a job of one row): {start:.1f} s")
    print(f"{'':<14} {'pairs':>9} {'share':>7} {'seconds':>8} {'without start-up':>17} {'share':>7}")
    for what, (seconds, ran) in done.items():
        net = seconds - start
        print(f"{what:<14} {ran:>9,} {ran / pairs:>7.2%} {seconds:>8.1f} {net:>17.1f} {net / (whole - start):>7.2%}")
    return 0 if {what: ran for what, (_, ran) in done.items()} == wanted else 1


if __name__ == "__main__":
    sys.exit(main())
