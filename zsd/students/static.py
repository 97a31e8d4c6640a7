"""The static student: the mean of token embeddings, scaled to length 1, through a small perceptron.

On disk it is a Model2Vec model (https://github.com/MinishLab/model2vec), so that
``model2vec.inference.StaticModelPipeline.from_pretrained`` classifies with it and
``model2vec.train.StaticModelForClassification.from_pretrained`` trains it on; here the same library runs it.

Legend: N rows, K labels, V tokens of the vocabulary, D dimensions.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from model2vec import StaticModel
from model2vec.inference import StaticModelPipeline
from model2vec.persistence import save_pretrained
from safetensors import SafetensorError
from safetensors.numpy import save_file
from tokenizers import Tokenizer
from torch import Tensor, nn

from zsd.errors import StudentError
from zsd.students.base import Answer, Student
from zsd.teachers.nli import one_line

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
TOKENIZER = "tokenizer.json"
HEAD = "head.safetensors"
BATCH = 1024
"""Texts a call."""
ACTIVATIONS = {False: "softmax", True: "sigmoid"}
"""Of the outputs, by whether the student is multi-label."""


class StaticStudent(Student):
    """A static student, loaded.

    Args:
        directory: where `save_static` wrote it.
        threads: processor threads of the arithmetic; the tokenizer takes those of RAYON_NUM_THREADS, or all.

    Raises:
        StudentError: there is none, or it is damaged.
    """

    kind = "static"
    engine = "torch"
    precision = "fp32"

    def __init__(self, directory: str | Path, *, threads: int) -> None:
        try:
            if not (Path(directory) / HEAD).is_file():  # the library would look for an older form, no safetensors
                raise FileNotFoundError(f"no {HEAD} is there: distil a student from it, or make it again")
            json.loads((Path(directory) / TOKENIZER).read_text(encoding="utf-8"))  # the library raises a bare Exception
            pipeline = StaticModelPipeline.from_pretrained(Path(directory))
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            raise StudentError(f"student {str(directory)!r} cannot be loaded: {one_line(error)}") from None
        if pipeline.classes_ is None or not pipeline.head.layers:
            raise StudentError(f"student {str(directory)!r} is an embedding model, no classifier: distil one from it")
        torch.set_num_threads(threads)
        self.threads = threads
        self.names = tuple(map(str, pipeline.classes_))
        self.multi_label = pipeline.head.activation.value == ACTIVATIONS[True]
        self._tokens = pipeline.model
        self._embeddings = torch.from_numpy(token_matrix(pipeline.model))
        self._head = [(torch.from_numpy(one.weight), torch.from_numpy(one.bias)) for one in pipeline.head.layers]

    def answer(self, texts: Sequence[str]) -> Answer:
        """See `Student.answer`."""
        logits = [np.zeros((0, len(self.names)), dtype=np.float32)]
        tokens = 0
        for start in range(0, len(texts), BATCH):
            ids, counts = flat_tokens(self._tokens, texts[start : start + BATCH])
            tokens += len(ids)
            logits.append(self._logits(ids, counts))
        return Answer(logits=np.concatenate(logits), multi_label=self.multi_label, tokens=tokens)

    def lengths(self, texts: Sequence[str]) -> IntArray:
        """[N] tokens of each text."""
        return flat_tokens(self._tokens, texts)[1]

    @property
    def arithmetic(self) -> tuple[float, float]:
        """FLOP of each token, which is added to a sum, and of a text besides."""
        return float(self._embeddings.shape[1]), 2.0 * sum(weight.numel() for weight, _ in self._head)

    @torch.inference_mode()
    def _logits(self, ids: IntArray, counts_N: IntArray) -> FloatArray:
        offsets_N = torch.from_numpy(np.cumsum(counts_N) - counts_N)
        hidden = F.embedding_bag(torch.from_numpy(ids), self._embeddings, offsets_N, mode="mean")
        hidden = F.normalize(hidden) if self._tokens.normalize else hidden
        for number, (weight, bias) in enumerate(self._head):
            hidden = F.linear(hidden if number == 0 else F.relu(hidden), weight, bias)
        found: FloatArray = hidden.numpy()
        return found

    def close(self) -> None:
        """Free the embeddings."""
        del self._tokens, self._embeddings, self._head


class BagClassifier(nn.Module):
    """A static student in training.

    Args:
        embeddings_VD: where its token embeddings start.
        labels: K.
        hidden: units of the perceptron's one hidden layer.
    """

    def __init__(self, embeddings_VD: FloatArray, *, labels: int, hidden: int) -> None:
        super().__init__()
        # Sparse: a step changes the embeddings of the batch's own tokens only.
        self.bag = nn.EmbeddingBag.from_pretrained(
            torch.from_numpy(embeddings_VD.copy()), freeze=False, mode="mean", sparse=True
        )
        self.head = nn.Sequential(nn.Linear(embeddings_VD.shape[1], hidden), nn.ReLU(), nn.Linear(hidden, labels))

    def forward(self, ids: Tensor, offsets_N: Tensor) -> Tensor:
        """[N, K] logits of N lists of token ids that lie end to end and begin at the offsets."""
        logits_NK: Tensor = self.head(F.normalize(self.bag(ids, offsets_N)))
        return logits_NK


def token_model(tokenizer: Tokenizer, embeddings_VD: FloatArray) -> StaticModel:
    """What turns texts into token ids, the same in training and in use."""
    return StaticModel(embeddings_VD, tokenizer, normalize=True, max_length=None)


def token_matrix(model: StaticModel) -> FloatArray:
    """[V, D] what each token adds to a text's sum; some Model2Vec models share rows among tokens and weigh them."""
    embeddings_VD: FloatArray = model.embedding.astype(np.float32)
    if model.token_mapping is not None:
        embeddings_VD = embeddings_VD[model.token_mapping]
    if model.weights is not None:
        embeddings_VD = embeddings_VD * model.weights.astype(np.float32)[:, None]
    return embeddings_VD


def flat_tokens(model: StaticModel, texts: Sequence[str]) -> tuple[IntArray, IntArray]:
    """The token ids of N texts end to end, unknown tokens left out, and [N] how many each has."""
    ids = model.tokenize(list(texts))
    counts_N = np.fromiter(map(len, ids), dtype=np.int64, count=len(ids))
    return np.fromiter(itertools.chain.from_iterable(ids), dtype=np.int64, count=int(counts_N.sum())), counts_N


def save_static(
    model: BagClassifier, tokenizer: Tokenizer, directory: Path, *, names: Sequence[str], multi_label: bool
) -> None:
    """Write a Model2Vec classifier: config.json, model.safetensors, head.safetensors and tokenizer.json."""
    embeddings_VD = model.bag.weight.detach().numpy()
    layers = [layer for layer in model.head if isinstance(layer, nn.Linear)]
    config: Any = {
        "model_type": "model2vec",
        "architectures": ["StaticModel"],
        "normalize": True,
        "max_length": None,
        "hidden_dim": embeddings_VD.shape[1],
        "head_config": {
            "n_layers": len(layers),
            "activation": ACTIVATIONS[multi_label],
            "classes": list(names),
        },
    }
    # Without the library's model card, which would name a licence that is not ours to give.
    save_pretrained(directory, embeddings_VD, tokenizer, config, create_model_card=False)
    head = {f"head.{n}.weight": layer.weight.detach().numpy() for n, layer in enumerate(layers)}
    head |= {f"head.{n}.bias": layer.bias.detach().numpy() for n, layer in enumerate(layers)}
    save_file(head, directory / HEAD)
