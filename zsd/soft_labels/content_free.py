"""Texts that say nothing, for contextual calibration (Zhao et al. 2021), and what the teacher answers to them.

Words drawn at random from the corpus, as Fei et al. (ACL 2023) do it, and not the "N/A" of the first paper, to which an
NLI teacher answers nothing that helps: on 500 rows of AG News "N/A" and its like took accuracy from 76.4 to 75.0,
random words to 81.0. Random words of a corpus lean to its frequent classes, so the correction shares batch
calibration's weakness on skewed corpora.

Legend: M content-free texts, K labels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from zsd import storage
from zsd.errors import ConfigError
from zsd.shards import Store, read_json, write_json
from zsd.soft_labels.logits import Logits

CONTENT_FREE = "content_free.json"
RANDOM_TEXTS = 32
WORDS = 24
"""Words of a random text: about as many as a short paragraph has."""


@dataclass(frozen=True, kw_only=True)
class ContentFree(Logits):
    """The teacher's logits of M texts.

    Attributes:
        texts: M texts.
    """

    texts: tuple[str, ...]


def content_free_texts(corpus: Sequence[str]) -> list[str]:
    """Random words of some texts of the corpus (at least one with a word), the same for the same texts."""
    words = [word for text in corpus for word in text.split()[:200]]
    seed = hashlib.blake2b("\0".join(words).encode(), digest_size=8).digest()
    generator = np.random.default_rng(int.from_bytes(seed))
    return [" ".join(generator.choice(words, size=WORDS)) for _ in range(RANDOM_TEXTS)]


def write_content_free(output: str, content: ContentFree) -> None:
    """Keep the logits beside the store; of several actors the last one wins, whose engine may round otherwise."""
    write_json(
        storage.join(output, CONTENT_FREE),
        {
            "texts": list(content.texts),
            "entailment": content.entailment.astype(float).round(5).tolist(),
            "contradiction": content.contradiction.astype(float).round(5).tolist(),
        },
    )


def read_content_free(store: Store) -> ContentFree:
    """What was kept when the store was labelled.

    Raises:
        ConfigError: nothing was: it was not asked for, or all rows came from earlier stores.
    """
    uri = storage.join(store.root, CONTENT_FREE)
    if not storage.exists(uri):
        raise ConfigError(
            f"{store.root}: holds no {CONTENT_FREE}: contextual calibration needs a store of zsd label --content-free; "
            "information calibration does not"
        )
    content = read_json(uri)
    logits = (np.array(content[name], dtype=np.float32) for name in ("entailment", "contradiction"))
    entailment_MK, contradiction_MK = logits
    return ContentFree(texts=tuple(content["texts"]), entailment=entailment_MK, contradiction=contradiction_MK)
