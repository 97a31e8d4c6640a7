"""A million rows through ingest and label: counts exact, memory as for ten thousand rows, the cost of a row.

    python -m tests.scale.million --rows 1000000

The corpus (`tests.corpora`) has duplicates and bad rows of every kind planted; the teacher is the stand-in
(`tests.standin`), so that what is measured is everything but the model. Exit code 1 where a count or the memory is off.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests import standin
from tests.corpora import Planted, write_corpus
from zsd.verify import verify_store

LABELS = ("technology", "sports")
MOST_GROWTH = 1.3
REASONS = {"blank": "empty", "not text": "not text: number", "no JSON": "invalid JSON", "no text": "no key 'text'"}
"""What the corpus calls a planted kind of bad row, where it is not its name in `tests.corpora.BAD`."""

INGEST = """
import json, sys, time
from zsd.corpus import ingest_local
from zsd.machine import peak_memory_mb
began, cpu = time.monotonic(), time.process_time()
result = ingest_local([sys.argv[1]], sys.argv[2], unit_rows=512)
seconds, cpu = time.monotonic() - began, time.process_time() - cpu
print(json.dumps({"rows": result.rows, "seconds": seconds, "cpu": cpu, "peak_mb": peak_memory_mb()}))
"""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One corpus through ``zsd label``.

    Attributes:
        planted: what the corpus holds.
        manifest: of the store.
        seconds: of the whole command.
        driver_mb: peak resident memory of the driver.
        actor_mb: the same of the largest actor.
    """

    planted: Planted
    manifest: dict[str, Any]
    seconds: float
    driver_mb: float
    actor_mb: float

    def problems(self, output: Path) -> list[str]:
        """Which counts are not the planted ones, and what is wrong with the store."""
        planted, manifest = self.planted, self.manifest
        reasons = Counter[str]()
        for kind, count in planted.by_kind.items():
            reasons[REASONS.get(kind, kind)] += count
        wanted = {
            "rows_in": planted.rows,
            "rows": planted.distinct,
            "duplicates": planted.duplicates,
            "rejected": planted.bad,
            "rejected_by_reason": dict(reasons),
            "pairs": len(LABELS) * planted.distinct,
        }
        wrong = [
            f"{name}: {manifest[name]}, planted {count}" for name, count in wanted.items() if manifest[name] != count
        ]
        return wrong + verify_store(str(output)).problems

    def line(self) -> str:
        """All figures."""
        m = self.manifest
        return (
            f"label of {m['rows_in']:,} rows: {m['rows']:,} labelled, {m['duplicates']:,} duplicates, "
            f"{m['rejected']:,} rejected, {len(m['shards'])} file(s), {len(m['timeline'])} units, "
            f"{self.seconds:.0f} s; peak memory: driver {self.driver_mb:,.0f} MiB, actor {self.actor_mb:,.0f} MiB"
        )


def run(folder: Path, rows: int) -> tuple[Run, Path]:
    """Make a corpus and label it."""
    corpus, output, memory = folder / f"{rows}.jsonl", folder / f"out-{rows}", folder / f"memory-{rows}"
    planted = write_corpus(corpus, rows)
    memory.mkdir()
    command = [sys.executable, "-m", "tests.standin", "label", "--data", str(corpus), "--output", str(output)]
    command += ["--engine", "torch", "--cpu-actors", "2", "--cpus-per-actor", "1"]
    command += [flag for name in LABELS for flag in ("--label", name)]
    began = time.monotonic()
    subprocess.run(command, check=True, env={**os.environ, standin.MEMORY: str(memory)})
    seconds = time.monotonic() - began
    peaks = {file.name: float(file.read_text()) for file in memory.iterdir()}
    driver = peaks.pop("driver")
    manifest = json.loads((output / "manifest.json").read_text())
    return Run(
        planted=planted, manifest=manifest, seconds=seconds, driver_mb=driver, actor_mb=max(peaks.values())
    ), output


def ingest(corpus: Path, output: Path) -> dict[str, float]:
    """The ingest alone, in one process: its rows, seconds, CPU seconds and peak memory."""
    done = subprocess.run([sys.executable, "-c", INGEST, corpus, output], check=True, capture_output=True, text=True)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--small", type=int, default=10_000, help="rows of the run that memory is compared with")
    parser.add_argument("--ingest-only", action="store_true")
    asked = parser.parse_args()
    problems: list[str] = []
    runs: dict[int, Run] = {}
    with tempfile.TemporaryDirectory(prefix="zsd-scale-") as name:
        folder = Path(name)
        for rows in () if asked.ingest_only else (asked.small, asked.rows):
            runs[rows], output = run(folder, rows)
            print(runs[rows].line(), flush=True)
            problems += [f"{rows:,} rows: {one}" for one in runs[rows].problems(output)]
        if asked.ingest_only:
            write_corpus(folder / f"{asked.rows}.jsonl", asked.rows)
        figures = ingest(folder / f"{asked.rows}.jsonl", folder / "ingest")
    speed = figures["rows"] / figures["cpu"]
    print(
        f"ingest of {figures['rows']:,} rows in one process: {speed:,.0f} rows/s per core of CPU used "
        f"({figures['cpu']:.1f} CPU s, {figures['seconds']:.1f} s), peak {figures['peak_mb']:,.0f} MiB"
    )
    if runs:
        small, large = runs[asked.small], runs[asked.rows]
        grown = {"driver": large.driver_mb / small.driver_mb, "actor": large.actor_mb / small.actor_mb}
        print("memory, times the small run: " + ", ".join(f"{who} {times:.2f}" for who, times in grown.items()))
        problems += [f"the {who}'s memory grew {n:.2f} times" for who, n in grown.items() if n > MOST_GROWTH]
    print("\n".join(problems) or "all counts are the planted ones" * bool(runs))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
