"""The training of a draft (`zsd.compile.draft`): rows with all that is asked of them, against known logits.

Legend: N rows, H hypotheses, R rows of a batch, A hypotheses asked of each, P pairs, L tokens.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification

from zsd.batching import IntArray, PairSet
from zsd.compile.nli_pairs import homogeneous_batches
from zsd.compile.training_state import TrainingState, mean_of
from zsd.console import Progress, say
from zsd.encoder_layers import choose_layers, layer_list, renumbered, smaller_config
from zsd.engines.base import FloatArray
from zsd.errors import EngineError
from zsd.machine import cpu_has_bf16
from zsd.quiet import quiet_transformers
from zsd.teachers.nli import NLITeacher
from zsd.teachers.weights import input_names, load_weights

BATCH = 64
"""Pairs of a step, about."""
MOST_ASKED = 24
"""Hypotheses of a row in a step, the likeliest of which are half: those decide."""
LEARNING_RATE = 5e-4
WARMUP = 0.05
LEVEL = 0.3
"""Share of the steps after which the learning rate falls."""
CLIP = 1.0
SAVE_EVERY = 100
SEED = 0


@dataclass(frozen=True, kw_only=True)
class DraftRows:
    """What a draft learns from.

    Attributes:
        pairs: N * H of them, row by row.
        logits: [N, H, 2] the teacher's entailment and contradiction logits.
        multi_label: several classes may be true of a row.
    """

    pairs: PairSet
    logits: FloatArray
    multi_label: bool


def asked_of_a_row(hypotheses: int) -> int:
    """A: how many of the H hypotheses a step asks of a row."""
    return min(hypotheses, MOST_ASKED)


def rows_of_a_step(hypotheses: int) -> int:
    """R: how many rows a step takes, of `asked_of_a_row` pairs each."""
    return max(1, BATCH // asked_of_a_row(hypotheses))


def check_layers(teacher: NLITeacher, layers: int) -> None:
    """Refuse a draft that is no smaller than its teacher, before anything is loaded.

    Raises:
        EngineError: it is not, or the teacher is no stack of encoder layers.
    """
    total = getattr(teacher.config, "num_hidden_layers", None)
    if total is None or teacher.config.is_encoder_decoder:
        raise EngineError(
            f"{teacher} ({teacher.config.model_type}) is not a stack of encoder layers: leave --draft away"
        )
    if layers >= total:
        raise EngineError(f"{teacher} has {total} layers: --draft {layers} must be fewer")


def cut_to_layers(teacher: NLITeacher, layers: int) -> nn.Module:
    """The teacher with its last layer, or with more of them, evenly spaced, in float32 and evaluation mode.

    The last layer learned a little better than the first (AG News: of 1,000 rows 99.4 % agreed with 17 % of the pairs
    run again, of the first 98.7 %). Where only the first layer can stand first (ModernBERT), it is among them.

    Raises:
        EngineError: it is no plain stack of layers, or has not more than that.
        TeacherError: its weights cannot be loaded.
    """
    check_layers(teacher, layers)
    whole: Any = load_weights(teacher, dtype=torch.float32)
    try:
        path, total = layer_list(whole)
    except ValueError as error:
        raise EngineError(f"{teacher} ({whole.config.model_type}) {error}: it can have no draft") from None
    with_last = sorted({round(place) for place in np.linspace(total - 1, 0, layers)})
    told = ""
    for kept in (with_last, choose_layers(total, layers)):
        with quiet_transformers():
            config = smaller_config(whole.config, kept, total)
            model: Any = AutoModelForSequenceClassification.from_config(
                config, dtype=torch.float32, attn_implementation="eager"
            )
        try:
            model.load_state_dict(dict(renumbered(whole.state_dict(), path, kept)))
        except RuntimeError as error:
            told = " ".join(str(error).split())[:200]
        else:
            cut: nn.Module = model.eval()
            return cut
    raise EngineError(f"{teacher} ({whole.config.model_type}) cannot be cut to a draft: {told}")


def train_draft(model: nn.Module, teacher: NLITeacher, rows: DraftRows, *, steps: int, state: Path) -> float:
    """Train a draft in place; a run that was killed goes on from `state`.

    All but the table of token embeddings is trained, whose gradient costs as much as that of a layer.

    Args:
        model: see `cut_to_layers`.
        teacher: whose tokenizer and columns it has.
        rows: to learn from.
        steps: of about `BATCH` pairs.
        state: where the state is saved on the way.

    Returns:
        mean loss over the last tenth of the steps.

    Raises:
        StoreError: `state` is damaged.
    """
    of_model: Any = model
    of_model.get_input_embeddings().weight.requires_grad_(False)
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    optimizer = torch.optim.AdamW(list(trained.values()), lr=LEARNING_RATE, weight_decay=0.0, fused=True)
    saved = TrainingState("draft", state, trained, optimizer)
    done = saved.load()
    names = input_names(model, tuple(teacher.tokenizer.model_input_names))
    columns = [teacher.classes.entailment, teacher.classes.contradiction]
    rows_N, hypotheses = rows.logits.shape[:2]
    longest_N = rows.pairs.lengths.reshape(rows_N, hypotheses).max(axis=1)
    batches = homogeneous_batches(longest_N, batch=rows_of_a_step(hypotheses), batches=steps, seed=SEED)
    sizes = [len(batch) for batch in batches]
    shown = Progress("draft: training", total=sum(sizes), done=sum(sizes[:done]), unit="row passes")
    bf16 = cpu_has_bf16()
    for step in range(done, steps):
        started = time.time()
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * learning_rate_share(step / steps)
        batch_R = batches[step]
        asked_RA = asked_hypotheses(rows.logits[batch_R, :, 0], np.random.default_rng((SEED, step)))
        numbers_P = (batch_R[:, None] * hypotheses + asked_RA).reshape(-1)
        arrays = rows.pairs.batch(numbers_P, length=int(rows.pairs.lengths[numbers_P].max()))
        wanted_RA2 = torch.from_numpy(rows.logits[batch_R[:, None], asked_RA])
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            logits_PC = model(**{name: torch.from_numpy(arrays[name]) for name in names}).logits
        got_RA2 = logits_PC.float()[:, columns].reshape(wanted_RA2.shape)
        loss = distance(got_RA2, wanted_RA2, multi_label=rows.multi_label)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(list(trained.values()), CLIP)
        optimizer.step()
        optimizer.zero_grad()
        saved.losses.append(float(loss.detach()))
        shown.add(sizes[step], started=started)
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == steps:
            saved.save(step + 1)
            say(f"draft: step {step + 1:,} of {steps:,}, loss {mean_of(saved.losses[-SAVE_EVERY:]):.4f}")
    return mean_of(saved.losses[-max(1, steps // 10) :])


def asked_hypotheses(entailment_RH: FloatArray, generator: np.random.Generator) -> IntArray:
    """[R, A] which hypotheses a step asks of each row: all, or the likeliest by the teacher and as many others."""
    rows, hypotheses = entailment_RH.shape
    asked = asked_of_a_row(hypotheses)
    keys_RH = generator.random((rows, hypotheses))
    if asked < hypotheses:
        likeliest_RT = np.argsort(-entailment_RH, axis=1, kind="stable")[:, : asked // 2]
        np.put_along_axis(keys_RH, likeliest_RT, -1.0, axis=1)
    return np.sort(np.argsort(keys_RH, axis=1, kind="stable")[:, :asked], axis=1)


def learning_rate_share(progress: float) -> float:
    """Share of the learning rate: a short warm-up, level for a while, then falling to 0 in a line."""
    return min(1.0, (progress + 1e-3) / WARMUP, (1.0 - progress) / (1.0 - LEVEL))


def distance(got_RA2: Tensor, wanted_RA2: Tensor, *, multi_label: bool) -> Tensor:
    """How far a draft's logits are from the teacher's: KL of the answers, and squared error.

    The KL is of a row's classes (multi-label: of entailment against contradiction of each class) and says which errors
    matter; the squared error keeps the logits' own scale, for the teacher's stand beside them after the second look.
    """
    got, wanted = (got_RA2, wanted_RA2) if multi_label else (got_RA2[..., 0], wanted_RA2[..., 0])
    got, wanted = (logits.reshape(-1, logits.shape[-1]).log_softmax(-1) for logits in (got, wanted))
    return F.kl_div(got, wanted, log_target=True, reduction="batchmean") + F.mse_loss(got_RA2, wanted_RA2)


def save_draft(model: nn.Module, directory: Path) -> None:
    """Write configuration and weights; its tokenizer is the teacher's."""
    of_model: Any = model
    with quiet_transformers():
        of_model.save_pretrained(directory)
