"""Drop-in for Hugging Face's research script ``distill_classifier.py``, on Ray: same flags, same JSON file."""

import sys

from zsd.distributed.distill_classifier import main

if __name__ == "__main__":
    sys.exit(main())
