"""Where a static student starts: the token embeddings of a teacher on their main axes, frequent tokens weighted down.

So does Model2Vec (Tulkens & van Dongen 2024, https://github.com/MinishLab/model2vec), which takes the encoder's output
for each token alone; on AG News the held-out rows saw no difference to the encoder's own embedding matrix, which costs
no pass over the vocabulary. The weights are those of smooth inverse frequency (Arora, Liang & Ma 2017), a / (a + p),
with p counted in the corpus itself.

Legend: V tokens of the vocabulary, H hidden units, D dimensions.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from sklearn.decomposition import PCA
from tokenizers import Tokenizer
from transformers import AutoModel

from zsd.errors import StudentError
from zsd.quiet import quiet_transformers
from zsd.students.checkpoint import from_pretrained, load_tokenizer
from zsd.students.folder import student_kind
from zsd.students.static import token_matrix
from zsd.teachers.nli import one_line

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]

DIMENSIONS = 256
SIF = 1e-3
"""a: tokens rarer than one in a thousand keep more than half of their weight."""


def start_tokens(checkpoint: str) -> tuple[Tokenizer, FloatArray, bool]:
    """A tokenizer without special tokens, truncation and padding, and a first embedding for each of its tokens.

    Args:
        checkpoint: directory or hub name of an encoder, or directory of a static student or another Model2Vec model.

    Returns:
        the tokenizer, embeddings_VD, and whether frequent tokens weigh less in them already.

    Raises:
        StudentError: there is neither.
    """
    if student_kind(checkpoint) == "static":
        return _static_tokens(checkpoint)
    with quiet_transformers():
        tokenizer = Tokenizer.from_str(load_tokenizer(checkpoint).backend_tokenizer.to_str())
        model = from_pretrained(AutoModel, checkpoint, dtype=torch.float32)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    matrix_VH = model.get_input_embeddings().weight.detach().numpy()
    size = max(tokenizer.get_vocab().values()) + 1
    if size > len(matrix_VH) or size != tokenizer.get_vocab_size():
        raise StudentError(
            f"student static: the tokenizer of {checkpoint!r} has {tokenizer.get_vocab_size()} tokens numbered up to "
            f"{size - 1} and its embedding matrix {len(matrix_VH)} rows: name another checkpoint with static:CHECKPOINT"
        )
    return tokenizer, principal_components(matrix_VH[:size], DIMENSIONS), False


def _static_tokens(directory: str) -> tuple[Tokenizer, FloatArray, bool]:
    from model2vec import StaticModel

    try:
        model = StaticModel.from_pretrained(Path(directory))
    except (OSError, ValueError, KeyError) as error:
        raise StudentError(f"student {directory!r} cannot be loaded: {one_line(error)}") from None
    model.tokenizer.no_truncation()
    return model.tokenizer, token_matrix(model), True


def principal_components(matrix_VH: FloatArray, dimensions: int) -> FloatArray:
    """[V, D] rows on their D main axes, scaled to a mean length of 1; D is H or V where that is less."""
    reduced_VD = PCA(n_components=min(dimensions, *matrix_VH.shape), svd_solver="covariance_eigh").fit_transform(
        matrix_VH.astype(np.float64)
    )
    scaled_VD: FloatArray = (reduced_VD / np.linalg.norm(reduced_VD, axis=1).mean()).astype(np.float32)
    return scaled_VD


def inverse_frequency(counts_V: IntArray) -> FloatArray:
    """[V] weights a / (a + p) of tokens that occur counts_V times in the corpus; 1 for one that never does."""
    weights_V: FloatArray = (SIF / (SIF + counts_V / max(1, counts_V.sum()))).astype(np.float32)
    return weights_V
