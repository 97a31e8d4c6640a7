"""Corpora of any size, made on the spot: distinct realistic rows, planted duplicates, planted rows of every bad kind.

    python -m tests.corpora 1000000 corpus.jsonl

Rows are JSON lines, because only there a text may be a number, a lone surrogate or no valid UTF-8.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

WHO = ("The council", "A local club", "Her doctor", "The airline", "A start-up", "The minister", "Our landlord")
DID = ("postponed", "praised", "sold", "reviewed", "cancelled", "insured", "rebuilt", "tested", "moved", "photographed")
WHAT = ("the new bridge", "a second-hand bicycle", "the vaccine trial", "two return tickets", "its payment service")
WHERE = ("in Lagos", "near the harbour", "at São Paulo's airport", "on the night train", "in Kyoto", "outside Malmö")
WHY = (
    "after weeks of rain",
    "because nobody had asked",
    "to save money",
    "despite three complaints",
    "before the vote",
)

GOOD_ODDITIES: tuple[Callable[[int], bytes], ...] = (
    lambda n: json.dumps({"text": f"🎉🏆 Match {n} is won! 👩‍👩‍👧 celebrate ✈️"}, ensure_ascii=False).encode(),
    lambda n: json.dumps({"text": f"فاز الفريق بالمباراة رقم {n} في الدوحة"}, ensure_ascii=False).encode(),
    lambda n: json.dumps({"text": f"הקבוצה ניצחה במשחק {n}"}, ensure_ascii=False).encode(),
    lambda n: json.dumps({"text": f"line {n}\u0000 with\u0007 control\u009f characters\u200b"}).encode(),
    lambda n: json.dumps({"text": f"special tokens </s> <s> [SEP] [MASK] <pad> number {n}"}).encode(),
)
"""Rows that look bad and are none: emoji, right-to-left, control characters, the names of special tokens."""

BAD: dict[str, Callable[[int], bytes]] = {
    "null": lambda n: b'{"text": null}',
    "empty": lambda n: b'{"text": ""}',
    "blank": lambda n: b'{"text": " \\n\\t "}',
    "not text": lambda n: b'{"text": %d}' % n,
    "invalid UTF-8": lambda n: b'{"text": "caf\xe9 %d"}' % n,
    "lone surrogate": lambda n: b'{"text": "half a character \\ud83d %d"}' % n,
    "no JSON": lambda n: b'{"text": "cut off %d' % n,
    "no text": lambda n: b'{"body": "row %d"}' % n,
}
MEGABYTE = "a megabyte of text, most of which no model ever sees; " * 19_000


@dataclass(kw_only=True)
class Planted:
    """What a corpus holds: ``rows == distinct + duplicates + bad``."""

    rows: int = 0
    distinct: int = 0
    duplicates: int = 0
    bad: int = 0
    by_kind: dict[str, int] = field(default_factory=dict)


def lines(
    rows: int, planted: Planted, *, seed: int = 0, duplicates: float = 0.02, bad: float = 0.01
) -> Iterator[bytes]:
    """The rows one by one; `planted` counts them."""
    dice = random.Random(seed)
    kinds = list(BAD)
    earlier: list[bytes] = []
    for n in range(rows):
        planted.rows += 1
        roll = dice.random()
        if roll < bad:
            kind = kinds[planted.bad % len(kinds)]
            planted.bad += 1
            planted.by_kind[kind] = planted.by_kind.get(kind, 0) + 1
            yield BAD[kind](n)
        elif roll < bad + duplicates and earlier:
            planted.duplicates += 1
            yield dice.choice(earlier)
        else:
            planted.distinct += 1
            line = good(n, dice)
            if len(earlier) < 1000:
                earlier.append(line)
            yield line


def good(n: int, dice: random.Random) -> bytes:
    """A row that no other number has; one in 500 is odd, one in 100,000 (the first 10,000 have one) a megabyte long."""
    if n % 100_000 == 9_999:
        return json.dumps({"text": f"{n} {MEGABYTE}"[:1_000_000]}).encode()
    if n % 500 == 499:
        return GOOD_ODDITIES[n // 500 % len(GOOD_ODDITIES)](n)
    words = (
        f"{dice.choice(WHO)} {dice.choice(DID)} {dice.choice(WHAT)} {dice.choice(WHERE)} {dice.choice(WHY)}, case {n}."
    )
    return b'{"text": "%s"}' % words.encode()


def write_corpus(file: Path, rows: int, *, seed: int = 0, duplicates: float = 0.02, bad: float = 0.01) -> Planted:
    """Write a corpus and say what it holds."""
    planted = Planted()
    with file.open("wb") as out:
        out.writelines(line + b"\n" for line in lines(rows, planted, seed=seed, duplicates=duplicates, bad=bad))
    return planted


if __name__ == "__main__":
    print(json.dumps(vars(write_corpus(Path(sys.argv[2]), int(sys.argv[1])))))
