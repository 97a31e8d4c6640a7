"""What a row is: user files of many formats become shards of (id, text), and nothing is dropped silently."""

from zsd.corpus.conflicts import find_id_conflicts, write_id_conflicts
from zsd.corpus.ingest import ingest_local
from zsd.corpus.normalize import NORMALIZATION, normalize_text, normalize_texts, text_ids
from zsd.corpus.readers import read_rows
from zsd.corpus.record import IngestResult, Inputs
from zsd.corpus.reduce import ReduceResult, Shard, reduce_partition
from zsd.corpus.rows import MAX_TEXT_CHARS, Rejected, RowBatch
from zsd.corpus.sources import KNOWN_ENDINGS, Source, resolve_sources
from zsd.corpus.spill import SpillResult, choose_partitions, spill

__all__ = [
    "KNOWN_ENDINGS",
    "MAX_TEXT_CHARS",
    "NORMALIZATION",
    "IngestResult",
    "Inputs",
    "ReduceResult",
    "Rejected",
    "RowBatch",
    "Shard",
    "Source",
    "SpillResult",
    "choose_partitions",
    "find_id_conflicts",
    "ingest_local",
    "normalize_text",
    "normalize_texts",
    "read_rows",
    "reduce_partition",
    "resolve_sources",
    "spill",
    "text_ids",
    "write_id_conflicts",
]
