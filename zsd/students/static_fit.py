"""Training of a static student on soft labels.

Token ids of all training rows are held in memory, 4 bytes each; texts are not.

Legend: N rows, K labels, V tokens of the vocabulary, D dimensions.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import Tokenizer

from zsd.losses import binary_cross_entropy, soft_cross_entropy
from zsd.ragged import spans
from zsd.students.rows import Rows, SoftRows, Split
from zsd.students.static import BATCH, BagClassifier, flat_tokens, save_static, token_model
from zsd.students.token_embeddings import inverse_frequency, start_tokens

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class StaticOptions:
    """How a static student is trained.

    Args:
        hidden: units of the perceptron's hidden layer.
        batch: rows of an optimizer step.
        embedding_rate: learning rate of the token embeddings; falls linearly to 0.
        head_rate: that of the perceptron.
        least_epochs: passes over the rows at least.
        steps: optimizer steps wanted: fewer rows are passed over more often for it, up to `most_epochs`.
        most_epochs: passes at most.
        patience: epochs without a better loss on the rows to choose by after which training ends.
    """

    hidden: int = 256
    batch: int = 256
    embedding_rate: float = 3e-3
    head_rate: float = 1e-3
    least_epochs: int = 4
    steps: int = 400
    most_epochs: int = 40
    patience: int = 2

    def epochs(self, rows: int) -> int:
        """Passes over so many rows."""
        steps = -(-rows // self.batch)
        return max(self.least_epochs, min(self.most_epochs, -(-self.steps // steps)))


@dataclass(frozen=True, kw_only=True)
class Bags:
    """N texts as token ids that lie end to end.

    Attributes:
        ids: token ids of all texts, int32.
        starts: [N] where each text begins.
        counts: [N] its tokens.
        probs: [N, K] float32 targets.
        weights: [N] float32 of the loss.
    """

    ids: npt.NDArray[np.int32]
    starts: IntArray
    counts: IntArray
    probs: FloatArray
    weights: FloatArray

    @classmethod
    def of(cls, rows: Iterable[SoftRows], tokenizer: Tokenizer, embeddings_VD: FloatArray) -> Bags:
        """Tokenize rows, one batch of texts in memory at a time."""
        model = token_model(tokenizer, embeddings_VD)
        ids, counts, probs, weights = [], [], [], []
        for some in rows:
            for start in range(0, len(some), BATCH):
                found, counts_N = flat_tokens(model, some.texts[start : start + BATCH])
                ids.append(found.astype(np.int32))
                counts.append(counts_N)
            probs.append(some.probs)
            weights.append(some.weights)
        counts_N = np.concatenate(counts)
        return cls(
            ids=np.concatenate(ids),
            starts=np.cumsum(counts_N) - counts_N,
            counts=counts_N,
            probs=np.concatenate(probs),
            weights=np.concatenate(weights),
        )

    def __len__(self) -> int:
        return len(self.counts)

    def batch(self, rows: IntArray) -> tuple[torch.Tensor, torch.Tensor]:
        """Token ids and offsets of some rows, as `BagClassifier` takes them."""
        counts = self.counts[rows]
        ids = self.ids[spans(self.starts[rows], counts)]
        return torch.from_numpy(ids.astype(np.int64)), torch.from_numpy(np.cumsum(counts) - counts)


def fit_static(
    rows: Rows,
    directory: Path,
    *,
    checkpoint: str,
    names: list[str],
    multi_label: bool,
    temperature: float,
    split: Split,
    seed: int,
    write: Callable[[str], None],
    options: StaticOptions | None = None,
) -> dict[str, Any]:
    """Train a static student and write it; returns what its card says of the training.

    Args:
        rows: with soft labels.
        directory: where to.
        checkpoint: see `start_tokens`.
        names: K class names.
        multi_label: binary cross-entropy on each label instead of soft cross-entropy over the labels.
        temperature: the one the soft labels were softened with: what is learned of them is sharpened by it again.
        split: of the rows; held-out ones take no part, and those to choose by choose the epoch that is kept.
        seed: everything random depends on it alone.
        write: takes progress lines.
        options: how.

    Raises:
        StudentError: the checkpoint is no encoder.
        InputError: the rows leave one side of the split empty.
    """
    options = options or StaticOptions()
    tokenizer, embeddings_VD, weighted = start_tokens(checkpoint)
    train = Bags.of(split.side(rows, "training"), tokenizer, embeddings_VD)
    choosing = Bags.of(split.side(rows, "choosing"), tokenizer, embeddings_VD)
    if not weighted:
        counts_V = np.bincount(train.ids, minlength=len(embeddings_VD))
        embeddings_VD = embeddings_VD * inverse_frequency(counts_V)[:, None]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = BagClassifier(embeddings_VD, labels=len(names), hidden=options.hidden)
    _train(model, train, choosing, options, multi_label=multi_label, seed=seed, write=write)
    with torch.no_grad():
        for parameter in model.head[-1].parameters():  # the layer that makes the logits
            parameter.mul_(temperature)
    save_static(model, tokenizer, directory, names=names, multi_label=multi_label)
    return {
        "train_rows": len(train),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "training_arguments": asdict(options) | {"seed": seed, "checkpoint": checkpoint},
    }


def _train(
    model: BagClassifier,
    train: Bags,
    choosing: Bags,
    options: StaticOptions,
    *,
    multi_label: bool,
    seed: int,
    write: Callable[[str], None],
) -> None:
    """Leaves the weights of the epoch with the least loss on the rows to choose by in the model."""
    row_loss = binary_cross_entropy if multi_label else soft_cross_entropy
    optimizers = [
        torch.optim.SparseAdam([model.bag.weight], lr=options.embedding_rate),
        torch.optim.AdamW(model.head.parameters(), lr=options.head_rate),
    ]
    epochs = options.epochs(len(train))
    steps = epochs * -(-len(train) // options.batch)
    falls = [torch.optim.lr_scheduler.LinearLR(one, 1.0, 1e-2, steps) for one in optimizers]
    random = np.random.default_rng(seed)
    best, best_epoch, best_state = np.inf, 0, copy.deepcopy(model.state_dict())
    for epoch in range(1, epochs + 1):
        order = random.permutation(len(train))
        for start in range(0, len(order), options.batch):
            rows = order[start : start + options.batch]
            weights_N = torch.from_numpy(train.weights[rows])
            losses_N = row_loss(model(*train.batch(rows)), torch.from_numpy(train.probs[rows]))
            for optimizer in optimizers:
                optimizer.zero_grad()
            ((losses_N * weights_N).sum() / weights_N.sum()).backward()  # type: ignore[no-untyped-call]
            for optimizer, fall in zip(optimizers, falls, strict=True):
                optimizer.step()
                fall.step()
        with torch.inference_mode():
            losses_N = row_loss(model(*choosing.batch(np.arange(len(choosing)))), torch.from_numpy(choosing.probs))
        loss = float(losses_N.mean())
        write(f"train: static, epoch {epoch} of {epochs}, loss on rows to choose by {loss:.4f}")
        if loss < best:
            best, best_epoch, best_state = loss, epoch, copy.deepcopy(model.state_dict())
        if epoch - best_epoch >= options.patience:
            break
    model.load_state_dict(best_state)
