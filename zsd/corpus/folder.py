"""The folder of an ingest: whether it is done, and what an interrupted one left.

A spill folder with its marker means: begun and not finished, so what lies there is ours and may go. A corpus folder
with files but neither marker nor ``ingest.json`` is not ours, and is refused.
"""

from __future__ import annotations

import json
from dataclasses import replace

from zsd import storage
from zsd.corpus.record import IngestResult, Inputs, differences
from zsd.errors import OutputError, StoreError


class IngestFolder:
    """Where an ingest writes.

    Args:
        output: path or URI of the whole job's folder.
    """

    def __init__(self, output: str) -> None:
        self.output = storage.resolve(output).uri
        self.rejected = storage.join(self.output, "rejected")
        self.spill = storage.join(self.output, "corpus", "_spill")
        self._corpus = storage.join(self.output, "corpus")
        self._record = storage.join(self._corpus, "ingest.json")
        self._marker = storage.join(self.spill, "begun")

    def finished(self, asked: Inputs) -> IngestResult | None:
        """The record of a finished ingest of the same inputs; None if there is none.

        Raises:
            OutputError: the folder holds an ingest of other inputs.
            StoreError: its record is damaged.
        """
        if not storage.exists(self._record):
            return None
        result = self._read_record()
        changed = list(differences(result.inputs, asked))
        if changed:
            told = "; ".join(changed[:5]) + (f"; and {len(changed) - 5} more" if len(changed) > 5 else "")
            if replace(asked, unit_rows=result.inputs.unit_rows) == result.inputs:
                rows = result.inputs.unit_rows
                raise OutputError(
                    f"{self.output}: its corpus is cut into row groups of {rows} rows, not of {asked.unit_rows}: give "
                    f"--unit-rows {rows} to go on with it, or choose another --output"
                )
            raise OutputError(f"{self.output}: holds another corpus: {told}: choose another --output")
        storage.delete_folder(self.spill)
        return result

    def _read_record(self) -> IngestResult:
        try:
            return IngestResult.from_dict(json.loads(storage.read_bytes(self._record)))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise StoreError(
                f"{self._record}: is damaged: delete the folder {self._corpus} and run the same command again; what is "
                "labelled stays and counts"
            ) from None

    def begin(self) -> None:
        """Make the spill folder; clear away what an interrupted ingest left.

        Raises:
            OutputError: there is a corpus that no ingest of zsd has left half done.
        """
        names = storage.list_names(self._corpus)
        if names and not storage.exists(self._marker):
            raise OutputError(f"{self._corpus}: holds {names[0]} but no ingest.json: choose another --output")
        self.clear()
        storage.write_bytes_atomic(self._marker, b"")

    def finish(self, result: IngestResult) -> None:
        """Write ``ingest.json``: from now on the corpus is there."""
        record = json.dumps(result.to_dict(), ensure_ascii=False, indent=2)
        storage.write_bytes_atomic(self._record, record.encode())
        storage.delete_folder(self.spill)

    def clear(self) -> None:
        """Remove all that an unfinished ingest wrote; the marker goes last."""
        results = {
            self._corpus: "shard-",
            self.rejected: "part-ingest-",
            storage.join(self.output, "duplicates"): "part-",
        }
        for folder, prefix in results.items():
            storage.delete_temporaries(folder)
            for name in storage.list_names(folder, prefix, ".parquet"):
                storage.delete_file(storage.join(folder, name))
        storage.delete_folder(self.spill)
        for folder in results:
            storage.delete_empty_folder(folder)
