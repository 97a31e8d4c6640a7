"""The probabilities that `zsd label` writes beside those of the transformers zero-shot pipeline, on the same rows.

    python -m tests.parity --data test.parquet --labels labels.txt --template "This text is about {}." --rows 200

Both run the teacher in fp32, one class a row and multi-label; exit code 1 where any probability is further apart than
the tolerance, or a row is not answered by both.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
from transformers import pipeline

from zsd.assets import BUNDLED_TEACHER
from zsd.labels import DEFAULT_TEMPLATE, LabelSet
from zsd.quiet import quiet_transformers
from zsd.shards import Store, matrix
from zsd.teachers.nli import teacher_checkpoint

TOLERANCE = 1e-4


def pipeline_probs(checkpoint: str, texts: Sequence[str], labels: LabelSet) -> npt.NDArray[np.float64]:
    """[N, K]: what the pipeline says of N texts, the classes in the order of the labels."""
    with quiet_transformers():
        classify: Any = pipeline("zero-shot-classification", model=checkpoint, device="cpu")
    results = classify(
        list(texts), list(labels.names), hypothesis_template=labels.template, multi_label=labels.multi_label
    )
    by_name = [dict(zip(one["labels"], one["scores"], strict=True)) for one in results]
    return np.array([[row[name] for name in labels.names] for row in by_name])


def stored(folder: Path, asked: argparse.Namespace, *, multi_label: bool) -> Store:
    """What ``zsd label`` makes of the rows."""
    output = str(folder / ("multi" if multi_label else "single"))
    command = [sys.executable, "-m", "zsd.cli", "label", "--data", str(folder / "rows.parquet"), "--output", output]
    command += ["--labels", asked.labels, "--template", asked.template, "--teacher", asked.teacher]
    command += ["--engine", asked.engine, "--precision", "fp32", *(["--multi-label"] if multi_label else [])]
    subprocess.run(command, check=True)
    return Store(output)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="a parquet file with a column `text`; its first rows are taken")
    parser.add_argument("--labels", required=True)
    parser.add_argument("--template", default=DEFAULT_TEMPLATE)
    parser.add_argument("--teacher", default=BUNDLED_TEACHER)
    parser.add_argument("--engine", default="torch")
    parser.add_argument("--rows", type=int, default=200)
    asked = parser.parse_args()
    good = True
    with tempfile.TemporaryDirectory(prefix="zsd-parity-") as name:
        folder = Path(name)
        pq.write_table(pq.read_table(asked.data, columns=["text"]).slice(0, asked.rows), folder / "rows.parquet")
        for multi_label in (False, True):
            store = stored(folder, asked, multi_label=multi_label)
            labels, rows = LabelSet.from_dict(store.manifest["labels"]), store.read(["text", "probs"])
            wanted_NK = pipeline_probs(teacher_checkpoint(asked.teacher), rows["text"].to_pylist(), labels)
            furthest = float(np.abs(matrix(rows["probs"]) - wanted_NK).max())
            kind = "multi-label" if multi_label else "single-label"
            print(f"{kind}: {len(rows)} rows, {len(labels)} classes: largest |delta p| {furthest:.1e}", flush=True)
            good = good and furthest <= TOLERANCE and len(rows) == asked.rows
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
