"""`zsd ablation` as a job: ``ray job submit --working-dir . -- python jobs/ablation.py --soft-labels DIR ...``."""

import sys
from collections.abc import Sequence

from zsd.cli import main as zsd


def main(argv: Sequence[str]) -> int:
    """Run the job; returns its exit code."""
    return zsd(["ablation", *argv])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
