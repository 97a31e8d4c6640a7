"""A pruned encoder trained to answer as the dense one does, under masks: self-distillation on unlabeled pairs.

After oBERT (Kurtic et al. 2022): the dense model teaches its own sparse copy, by its logits and by its hidden states.
What lies outside the encoder's blocks (embeddings, head) stays as it is.

Legend: B pairs in a batch, L tokens, D hidden size, C NLI classes.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zsd.compile.nli_pairs import TokenizedPairs, homogeneous_batches
from zsd.compile.prune import apply_masks, cubic_sparsity, encoder_blocks, encoder_linears, magnitude_masks
from zsd.compile.training_state import TrainingState, mean_of
from zsd.console import Progress, say
from zsd.machine import cpu_has_bf16

BATCH = 32
LEARNING_RATE = 2e-4
WARMUP = 0.02
RAMP = 0.45
"""Share of the steps over which the sparsity grows; the learning rate falls after it."""
MASK_EVERY = 10
"""Steps between two looks at which weights are to be cut next."""
SAVE_EVERY = 100
"""Steps between two saved states."""
CLIP = 1.0
MAX_LENGTH = 128
"""Tokens a pair is cut to: what is learned there holds for longer pairs too, and costs less."""


@dataclass(frozen=True, kw_only=True)
class FineTuning:
    """How long and how a sparse model is trained.

    Args:
        steps: batches of `BATCH` pairs.
        sparsity: to be reached by cutting small weights on the way; None keeps the zeros the model has.
        initial: sparsity at the start.
        seed: of the order of the pairs.
    """

    steps: int
    sparsity: float | None
    initial: float
    seed: int


def finetune(
    sparse: nn.Module,
    dense: nn.Module,
    pairs: TokenizedPairs,
    names: Sequence[str],
    plan: FineTuning,
    *,
    state: Path,
    max_length: int = MAX_LENGTH,
) -> float:
    """Train `sparse` in place against `dense`; a run that was killed goes on from `state`.

    Args:
        sparse: the model to train, in evaluation mode (no dropout), float32.
        dense: the model it came from, of the same structure.
        pairs: what both answer.
        names: which inputs the models take.
        plan: how long.
        state: where the state is saved on the way.
        max_length: most tokens the model takes.

    Returns:
        mean loss over the last tenth of the steps.

    Raises:
        StoreError: `state` is damaged.
    """
    layers = encoder_linears(sparse)
    trained = _train_only_blocks(sparse)
    optimizer = torch.optim.AdamW(list(trained.values()), lr=LEARNING_RATE, weight_decay=0.0, fused=True)
    masks = {name: layer.weight != 0 for name, layer in layers.items()}
    saved = TrainingState("sparsify", state, trained, optimizer, masks)
    done = saved.load()
    batches = homogeneous_batches(pairs.lengths, batch=BATCH, batches=plan.steps, seed=plan.seed)
    sizes = [len(batch) for batch in batches]
    shown = Progress("sparsify: distilling", total=sum(sizes), done=sum(sizes[:done]))
    ramp = int(RAMP * plan.steps)
    bf16 = cpu_has_bf16()
    for step in range(done, plan.steps):
        started = time.time()
        if plan.sparsity is not None and (step == ramp or (step < ramp and step % MASK_EVERY == 0)):
            grown = cubic_sparsity(step / ramp if ramp else 1.0, plan.sparsity, plan.initial)
            masks.update(magnitude_masks(layers, grown))
            apply_masks(layers, masks)
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * learning_rate_share(step / plan.steps)
        inputs = pairs.batch(batches[step], names, max_length=max_length)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = distance(sparse, dense, inputs)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(list(trained.values()), CLIP)
        optimizer.step()
        optimizer.zero_grad()
        apply_masks(layers, masks)
        saved.losses.append(float(loss.detach()))
        shown.add(sizes[step], started=started)
        if (step + 1) % SAVE_EVERY == 0:
            saved.save(step + 1)
            say(f"sparsify: step {step + 1:,} of {plan.steps:,}, loss {mean_of(saved.losses[-SAVE_EVERY:]):.4f}")
    return mean_of(saved.losses[-max(1, plan.steps // 10) :])


def learning_rate_share(progress: float) -> float:
    """Share of the learning rate: a short warm-up, level while the sparsity grows, then falling to 0 in a line."""
    return min(progress / WARMUP if WARMUP else 1.0, 1.0, (1.0 - progress) / (1.0 - RAMP))


def distance(sparse: nn.Module, dense: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    """How far the sparse model is from the dense one on a batch: KL of the classes + error of logits and hidden states.

    The errors are squared and relative to the dense model's own size, so that all three are about 1 for a destroyed
    model and 0 for an equal one. The logits' own error is there because zero-shot classification compares the
    entailment logits of many hypotheses, also where both models are certain and their KL is 0.
    Of the hidden states every second is compared, counted from the last but one: of the last, the head reads one
    token, and the logits speak for that.
    """
    with torch.no_grad():
        wanted = dense(**inputs, output_hidden_states=True)
    got = sparse(**inputs, output_hidden_states=True)
    got_BC, wanted_BC = got.logits.float(), wanted.logits.float()
    divergence = F.kl_div(got_BC.log_softmax(-1), wanted_BC.log_softmax(-1), log_target=True, reduction="batchmean")
    mask_BL = inputs["attention_mask"].bool()
    hidden = [
        relative_error(ours[mask_BL], theirs[mask_BL])
        for ours, theirs in zip(got.hidden_states[-2:0:-2], wanted.hidden_states[-2:0:-2], strict=True)
    ]
    return divergence + relative_error(got_BC, wanted_BC) + sum(hidden, torch.zeros(())) / max(1, len(hidden))


def relative_error(got: Tensor, wanted: Tensor) -> Tensor:
    """Squared error over the squared size of what was wanted."""
    got, wanted = got.float(), wanted.float()
    return F.mse_loss(got, wanted) / wanted.square().mean().clamp(min=1e-6)


def _train_only_blocks(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters of the encoder's blocks by name; all others are frozen."""
    blocks = tuple(f"{name}." for name in encoder_blocks(model))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith(blocks))
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
