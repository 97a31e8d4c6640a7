"""How near the pool comes to the ideal: 2 CPU actors and 2 GPU actors (logical ones) that are 5 times faster.

    python -m tests.scale.pool

A ``zsd label`` process with the stand-in teacher, whose actors sleep as long as their pace says. In the ideal nobody
waits: from the moment an actor has begun its first unit it works at its pace until all rows are done. Exit code 1: the
rows were shared otherwise than 5 to 1, or it took 15% longer than the ideal.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from tests.corpora import write_corpus
from tests.faults.driver import LABELS, Driver
from tests.faults.nodes import Nodes
from zsd.distributed.cluster import LOGICAL_GPUS

CPU_ROWS, GPU_ROWS = 100.0, 500.0
"""Rows/s of an actor."""

MOST_TIMES_IDEAL = 1.15
SHARE = (4.25, 5.75)
"""Rows of the GPU actors for each of the CPU actors: 5, and 15% either way."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=48_000)
    asked = parser.parse_args()
    nodes = Nodes([{"num_cpus": 4, "num_gpus": 2}], {LOGICAL_GPUS: "1"})
    try:
        with tempfile.TemporaryDirectory(prefix="zsd-pool-") as folder:
            corpus = Path(folder, "corpus.jsonl")
            write_corpus(corpus, asked.rows, duplicates=0, bad=0)
            job = Driver(
                data=str(corpus),
                output=f"{folder}/out",
                folder=Path(folder, "job"),
                address=nodes.address,
                pace=f"cpu={CPU_ROWS * len(LABELS)},gpu={GPU_ROWS * len(LABELS)}",
                flags=("--cpu-actors", "2", "--gpu-actors", "2"),
            )
            job.start()
            if job.finish():
                print(job.log(), file=sys.stderr)
                return 1
            timeline = json.loads(Path(folder, "out", "manifest.json").read_text())["timeline"]
    finally:
        nodes.close()
    pace = {worker: GPU_ROWS if worker.startswith("gpu") else CPU_ROWS for worker in {u["worker"] for u in timeline}}
    begun = {worker: min(unit["started"] for unit in timeline if unit["worker"] == worker) for worker in pace}
    first, last = min(begun.values()), max(unit["started"] + unit["seconds"] for unit in timeline)
    ideal = (asked.rows + sum(speed * begun[worker] for worker, speed in pace.items())) / sum(pace.values())
    rows = {k: sum(unit["rows"] for unit in timeline if unit["worker"].startswith(k)) for k in ("cpu", "gpu")}
    print(
        f"{asked.rows:,} rows in {len(timeline)} units: GPU actors {rows['gpu']:,}, CPU actors {rows['cpu']:,}: "
        f"{rows['gpu'] / rows['cpu']:.2f} to 1"
    )
    times = (last - first) / (ideal - first)
    print(f"{last - first:.1f} s, ideal {ideal - first:.1f} s: {times:.3f} times the ideal")
    return int(times > MOST_TIMES_IDEAL or not SHARE[0] <= rows["gpu"] / rows["cpu"] <= SHARE[1])


if __name__ == "__main__":
    sys.exit(main())
