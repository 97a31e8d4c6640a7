"""A job on a cluster that has no node for work yet waits for one, and says so.

    python -m tests.faults.late_nodes

The head has no CPU, as on autoscaled clusters; a node joins when the job has said what it waits for. It stands for what
an autoscaler would start: the pending actors are the demand that autoscalers act on.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.corpora import write_corpus
from tests.faults.driver import Driver
from tests.faults.nodes import Nodes
from zsd.verify import verify_store

WAITING = "0 of 2 actors are at work; the others wait for room in the cluster (0 of 0 CPUs"


def main() -> int:
    nodes = Nodes([{"num_cpus": 0}], {})
    try:
        with tempfile.TemporaryDirectory(prefix="zsd-late-") as name:
            folder = Path(name)
            write_corpus(folder / "corpus.jsonl", 300)
            job = Driver(
                data=str(folder / "corpus.jsonl"),
                output=str(folder / "out"),
                folder=folder / "job",
                address=nodes.address,
                pace="cpu=1000",
                flags=("--cpu-actors", "2", "--unit-rows", "16"),
            )
            job.start()
            told = job.wait_until(lambda: WAITING in job.log())
            nodes.add_node(num_cpus=1)
            code = job.finish()
            print(job.log())
            return 0 if told and code == 0 and not verify_store(job.output).problems else 1
    finally:
        nodes.close()


if __name__ == "__main__":
    sys.exit(main())
