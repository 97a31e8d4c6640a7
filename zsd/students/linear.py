"""The linear student: TF-IDF of words and word pairs, and logistic regression. The baseline for all others.

On disk there is nothing that could run code: ``config.json`` (how texts become terms, class names),
``vocabulary.json`` (the terms in the order of their columns), ``model.safetensors`` (``idf``, ``weight``, ``bias``).

Legend: N rows, K labels, F terms.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import TfidfVectorizer

from zsd.errors import StudentError
from zsd.students.base import Answer, Student
from zsd.students.folder import CONFIG
from zsd.teachers.nli import one_line

FloatArray = npt.NDArray[np.float32]
Weights = npt.NDArray[np.float64]
MODEL_TYPE = "zsd-linear"
VOCABULARY, WEIGHTS = "vocabulary.json", "model.safetensors"
TERMS: dict[str, Any] = {
    "lowercase": True,
    "token_pattern": r"(?u)\b\w+\b",
    "ngram_range": (1, 2),
    "sublinear_tf": True,
    "norm": "l2",
}
"""How texts become terms: arguments of scikit-learn's `TfidfVectorizer`."""
BATCH = 4096
"""Texts a call."""


class LinearStudent(Student):
    """A linear student, loaded. It runs in one thread, whatever there are.

    Args:
        directory: where `save_linear` wrote it.

    Raises:
        StudentError: there is none, or it is damaged.
    """

    kind = "linear"
    engine = "scikit-learn"
    precision = "fp32"
    threads = 1

    def __init__(self, directory: str | Path) -> None:
        folder = Path(directory)
        try:
            config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
            terms = json.loads((folder / VOCABULARY).read_text(encoding="utf-8"))
            arrays = load_file(folder / WEIGHTS)
            self.names, self.multi_label = tuple(config["names"]), bool(config["multi_label"])
            self._vectorizer = _vectorizer(config["terms"], terms, arrays["idf"])
            self._weight_FK, self._bias_K = arrays["weight"], arrays["bias"]
            fits = self._weight_FK.shape == (len(terms), len(self.names)) and self._bias_K.shape == (len(self.names),)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
            raise StudentError(f"student {str(directory)!r} cannot be loaded: {one_line(error)}") from None
        if not fits:
            raise StudentError(f"student {str(directory)!r} is damaged: its files do not fit together")

    def answer(self, texts: Sequence[str]) -> Answer:
        """See `Student.answer`."""
        logits = [np.zeros((0, len(self.names)), dtype=np.float32)]
        terms = 0
        for start in range(0, len(texts), BATCH):
            counts_NF: csr_matrix = self._vectorizer.transform(texts[start : start + BATCH])
            terms += counts_NF.nnz
            logits.append(np.asarray(counts_NF @ self._weight_FK + self._bias_K, dtype=np.float32))
        return Answer(logits=np.concatenate(logits), multi_label=self.multi_label, tokens=terms)

    def lengths(self, texts: Sequence[str]) -> npt.NDArray[np.int64]:
        """[N] known terms of each text."""
        counts_N: npt.NDArray[np.int64] = np.diff(self._vectorizer.transform(texts).indptr).astype(np.int64)
        return counts_N

    @property
    def arithmetic(self) -> tuple[float, float]:
        """FLOP of each term, and of a text besides."""
        return 2.0 * len(self.names), 0.0

    def close(self) -> None:
        """Free the weights."""
        del self._vectorizer, self._weight_FK


def _vectorizer(options: dict[str, Any], terms: list[str], idf_F: FloatArray) -> TfidfVectorizer:
    if options.keys() != TERMS.keys():  # another argument could make it read files that the texts name
        raise ValueError(f"its terms are made by {', '.join(options)}, not by {', '.join(TERMS)}")
    options = options | {"ngram_range": tuple(options["ngram_range"])}
    vectorizer = TfidfVectorizer(**options, vocabulary=terms, dtype=np.float32)
    vectorizer.idf_ = idf_F
    return vectorizer


def save_linear(
    directory: Path,
    *,
    names: Sequence[str],
    multi_label: bool,
    terms: Sequence[str],
    idf_F: Weights,
    weight_FK: Weights,
    bias_K: Weights,
) -> None:
    """Write a linear student; see the head of this file."""
    directory.mkdir(parents=True, exist_ok=True)
    config = {"model_type": MODEL_TYPE, "names": list(names), "multi_label": multi_label, "terms": TERMS}
    (directory / CONFIG).write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (directory / VOCABULARY).write_text(json.dumps(list(terms), ensure_ascii=False) + "\n", encoding="utf-8")
    arrays = {"idf": idf_F, "weight": weight_FK, "bias": bias_K}
    save_file(
        {name: np.ascontiguousarray(array, dtype=np.float32) for name, array in arrays.items()}, directory / WEIGHTS
    )
