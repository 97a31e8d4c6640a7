"""Training rows on disk: tokenized once, mapped into memory, read by number.

A training of any size needs some bytes a row in memory and no more: token ids and soft labels stay in Arrow files that
are mapped, so the system keeps what it has room for. Rows are read by number in the order that `TrainingOrder` gives,
so a training goes on at exactly the row where it stopped, with any number of workers.

Each file of the store becomes two, one for each side of the split: ``train-00000.arrow``, ``heldout-00000.arrow``.
A round of self-training has its own labels for the same rows, in files of the same names.

Legend: N rows, K labels, L tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from torch.utils.data import Dataset

from zsd import storage
from zsd.corpus.normalize import text_ids
from zsd.inference import TOKENIZE_ROWS, FloatArray, IntArray, encode
from zsd.shards import matrix, vectors
from zsd.soft_labels import Recipe
from zsd.training_data import BoolArray, heldout_mask, join_labels

TRAIN, HELDOUT = "train", "heldout"


def training_table(
    rows: pa.Table,
    *,
    recipe: Recipe,
    tokenizer: Any,
    max_length: int,
    gold: Mapping[str, Sequence[float]],
    excluded: frozenset[str],
) -> pa.Table:
    """Rows of a store as rows to train on.

    Args:
        rows: columns ``id``, ``text``, ``entailment`` and ``contradiction``.
        recipe: makes probabilities of the logits.
        tokenizer: the student's.
        max_length: tokens a text is cut at.
        gold: K reviewed probabilities by text id (`zsd.corpus.normalize.text_ids`); they replace the teacher's.
        excluded: text ids of rows that are left out.

    Returns:
        Columns ``id``, ``tokens`` (list of uint16 where the vocabulary allows it, else int32), ``probs`` (K float32)
        and ``gold`` (whether they are reviewed).
    """
    probs_NK = recipe.probs(matrix(rows["entailment"]), matrix(rows["contradiction"]))
    gold_N = np.zeros(len(rows), dtype=np.bool_)
    kept_N = np.ones(len(rows), dtype=np.bool_)
    if gold or excluded:
        keys = text_ids(rows["text"].combine_chunks().cast(pa.large_string())).to_pylist()
        kept_N = np.array([key not in excluded for key in keys], dtype=np.bool_)
        for n, key in enumerate(keys):
            if key in gold:
                probs_NK[n], gold_N[n] = gold[key], True
    columns = {"id": rows["id"], "probs": vectors(probs_NK), "gold": pa.array(gold_N)}
    columns["tokens"] = _tokens(rows["text"].to_pylist(), tokenizer, max_length)
    return pa.table(columns).filter(pa.array(kept_N))


def gold_table(
    gold: Mapping[str, Sequence[float]], texts: Sequence[str], *, tokenizer: Any, max_length: int
) -> pa.Table:
    """Reviewed rows whose texts no store knows, in the form of `training_table`; their id is that of the text."""
    keys = text_ids(pa.array(texts, pa.large_string())).cast(pa.string())
    probs_NK = np.array([gold[key] for key in keys.to_pylist()], dtype=np.float32)
    columns = {"id": keys, "probs": vectors(probs_NK), "gold": pa.array(np.ones(len(texts), dtype=np.bool_))}
    return pa.table({**columns, "tokens": _tokens(texts, tokenizer, max_length)})


def _tokens(texts: Sequence[str], tokenizer: Any, max_length: int) -> pa.ChunkedArray:
    kind = pa.large_list(pa.uint16() if len(tokenizer) <= 2**16 else pa.int32())
    chunks = (texts[start : start + TOKENIZE_ROWS] for start in range(0, len(texts), TOKENIZE_ROWS))
    return pa.chunked_array([pa.array(encode(tokenizer, chunk, max_length=max_length), kind) for chunk in chunks], kind)


def write_sides(table: pa.Table, folder: str, part: int, *, heldout_fraction: float) -> None:
    """Write the two sides of a table as files of a folder; each is whole or not there."""
    held_N = heldout_mask(table["id"].to_pylist(), heldout_fraction)
    for side, mask_N in ((HELDOUT, held_N), (TRAIN, ~held_N)):  # the training side last: it tells that both are there
        write_arrow(storage.join(folder, file_name(side, part)), table.filter(pa.array(mask_N)).drop_columns(["id"]))


def write_arrow(uri: str, table: pa.Table) -> None:
    """A table as an Arrow file of one uncompressed batch, so that it can be mapped."""
    table = table.combine_chunks()
    with storage.open_atomic(uri) as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=max(1, len(table)))


def side_files(folder: str, side: str) -> list[str]:
    """Names of the files of one side, in order."""
    return storage.list_names(folder, prefix=f"{side}-", suffix=".arrow")


def file_name(side: str, part: int) -> str:
    """Name of a file of one side."""
    return f"{side}-{part:05d}.arrow"


class TrainingRows(Dataset[dict[str, Any]]):
    """N rows of one side of the split, read from mapped files by number.

    Args:
        folder: local folder of what `write_sides` wrote.
        names: files in it, in order (`side_files`).
        labels: local folder with labels for the same rows that hold instead: columns ``probs`` and ``keep``.

    Attributes:
        lengths: [N] tokens of each row, int32.
        gold: [N] whether its label is reviewed.
        keep: [N] whether it is trained on.
        weights: [N] float32, what its loss is multiplied by.
        copies: [N] how often it comes in an epoch, or None where every row comes once.
    """

    def __init__(self, folder: str, names: Sequence[str], labels: str | None = None) -> None:
        tables = [mapped(storage.join(folder, name)) for name in names]
        relabelled = tables if labels is None else [mapped(storage.join(labels, name)) for name in names]
        self.tokens, self.offsets = [_values(t) for t in tables], [_offsets(t) for t in tables]
        self.probs = [matrix(_column(table, "probs")) for table in relabelled]
        self.starts: IntArray = np.cumsum([0, *map(len, self.probs)], dtype=np.int64)
        self.lengths = _joined([np.diff(offsets).astype(np.int32) for offsets in self.offsets], np.int32)
        self.gold = _joined([_flags(table, "gold") for table in tables], np.bool_)
        self.keep: BoolArray = np.ones(len(self), dtype=np.bool_)
        if labels is not None:
            self.keep = _joined([_flags(table, "keep") for table in relabelled], np.bool_)
        self.weights: FloatArray = np.ones(len(self), dtype=np.float32)
        self.copies: FloatArray | None = None

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __getitem__(self, row: int) -> dict[str, Any]:
        part = int(np.searchsorted(self.starts, row, side="right")) - 1
        n = row - self.starts[part]
        start, stop = self.offsets[part][n : n + 2]
        labels = join_labels(self.probs[part][n], self.weights[row], self.gold[row])
        return {"input_ids": self.tokens[part][start:stop], "labels": labels}


def mapped(uri: str) -> pa.Table:
    """The table in an Arrow file of a local folder, mapped into memory."""
    return pa.ipc.open_file(pa.memory_map(storage.resolve(uri).path)).read_all()


def _column(table: pa.Table, name: str) -> pa.Array:
    """A column of a mapped file without a copy: there is one batch, or none in a file without rows."""
    column = table[name]
    return column.chunk(0) if column.num_chunks else pa.array([], column.type)


def _values(table: pa.Table) -> npt.NDArray[Any]:
    values: npt.NDArray[Any] = _column(table, "tokens").values.to_numpy()
    return values


def _offsets(table: pa.Table) -> IntArray:
    offsets: IntArray = _column(table, "tokens").offsets.to_numpy()
    return offsets


def _flags(table: pa.Table, name: str) -> BoolArray:
    flags: BoolArray = _column(table, name).to_numpy(zero_copy_only=False)
    return flags


def _joined(arrays: Sequence[npt.NDArray[Any]], kind: Any) -> npt.NDArray[Any]:
    return np.concatenate([np.empty(0, dtype=kind), *arrays])
