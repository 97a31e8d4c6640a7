"""`zsd annotate` as a job: ``ray job submit --working-dir . -- python jobs/annotate.py --config JOB.TOML``."""

import sys
from collections.abc import Sequence

from zsd.cli import main as zsd


def main(argv: Sequence[str]) -> int:
    """Run the job; returns its exit code."""
    return zsd(["annotate", *argv])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
