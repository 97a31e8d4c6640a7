"""What `zsd label --report` shows: each correction of a finished store, on the terminal and as a page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from zsd import storage
from zsd.report.corrections import corrections_table, write_corrections
from zsd.shards import Store
from zsd.soft_labels.figures import correction_figures


def label_report(output: str) -> dict[str, Any]:
    """Print the table, write the page where the store lies on a local or mounted disk; returns the figures.

    Raises:
        InputError: there is no finished store.
        StoreError: a shard is missing or damaged.
    """
    figures = correction_figures(Store(output))
    print(corrections_table(figures))
    place = storage.resolve(output)
    if place.is_local:
        print(f"\nreport: {write_corrections(figures, Path(place.path))}")
    else:
        print("\nno page: it is written to a local or mounted folder only")
    return figures
