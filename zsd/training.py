"""Distillation with the transformers Trainer: its loss, its held-out metrics, its defaults.

Legend: N rows, K labels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import Sampler
from transformers import (
    EarlyStoppingCallback,
    EvalPrediction,
    PrinterCallback,
    ProgressCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from zsd.errors import ConfigError
from zsd.evaluation import agreement, kl_divergence
from zsd.inference import probabilities
from zsd.losses import distillation_loss
from zsd.quiet import quiet_transformers
from zsd.training_data import Collator, TrainingOrder, split_labels
from zsd.training_progress import ProgressLines
from zsd.training_rows import TrainingRows

OUR_ORDERS = ("group_by_length", "random")
"""Values of ``train_sampling_strategy`` for which `TrainingOrder` gives the order of the rows."""
BATCH_ROWS = 32
MIN_STEPS = 200


@dataclass(frozen=True, kw_only=True)
class Objective:
    """What a student is trained for.

    Args:
        multi_label: binary cross-entropy on each label instead of soft cross-entropy over the labels.
        temperature: the one the soft labels were softened with.
        hard_labels: share of the loss on the teacher's decision instead of its soft label.
        freeze_embeddings: leave the token embedding matrix as it is. For a student cut from its teacher the held-out
            figures are the same either way, and gradients and optimizer state are a third of the size.
        patience: stop after so many evaluations without a better held-out agreement; None: never.
    """

    multi_label: bool
    temperature: float = 1.0
    hard_labels: float = 0.0
    freeze_embeddings: bool = False
    patience: int | None = None


def default_training_arguments(train_rows: int, *, use_cpu: bool = False, workers: int = 1) -> dict[str, Any]:
    """zsd's defaults where they differ from those of `TrainingArguments`; any of them may be overridden.

    To be called in the process that trains: they depend on its hardware.

    Args:
        train_rows: rows on the training side of the split.
        use_cpu: train on the CPU even where there is a GPU.
        workers: the batch of 32 rows is shared out among them, so that their number does not change what is learned.
    """
    gpu = torch.cuda.is_available() and not use_cpu
    return {
        "per_device_train_batch_size": max(1, BATCH_ROWS // workers),
        "per_device_eval_batch_size": 128,
        "num_train_epochs": float(default_epochs(train_rows)),
        "learning_rate": 1e-4,
        "warmup_steps": 0.1,
        "weight_decay": 0.01,
        "bf16": bf16_is_fast(gpu=gpu),
        "train_sampling_strategy": "group_by_length",
        "logging_steps": 10,
        "eval_strategy": "steps",
        "eval_steps": 0.2,
        "save_strategy": "steps",
        "save_steps": 0.2,
        "save_total_limit": 1,
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": use_cpu,
        "dataloader_pin_memory": gpu,
        "seed": 0,
    }


def default_epochs(train_rows: int) -> int:
    """Enough passes for 200 optimizer steps, at least 3 and at most 40.

    A student cut from its teacher is within noise of its best after about 200 steps of 32 rows, whether those are 3
    passes over 2,200 rows or 15 over 430.
    """
    return max(3, min(40, math.ceil(MIN_STEPS / math.ceil(train_rows / BATCH_ROWS))))


def bf16_is_fast(*, gpu: bool) -> bool:
    """Whether bfloat16 products run in hardware: on the GPU, or else on the CPU (AMX or AVX512-BF16).

    Training in bf16 is autocast: weights, gradients and optimizer stay float32. Where the hardware has it, a CPU step
    is 3 times faster and the student no worse; where it has not, float32 is faster.
    """
    if gpu:
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))


def make_trainer(
    model: Any,
    tokenizer: Any,
    args: TrainingArguments,
    *,
    train: TrainingRows,
    heldout: TrainingRows,
    objective: Objective,
    write: Callable[[str], None] = print,
) -> DistillationTrainer:
    """A transformers Trainer that distils soft labels into the student; ``trainer.train()`` does the rest.

    Args:
        model: the student.
        tokenizer: its tokenizer.
        args: any `TrainingArguments`; `default_training_arguments` has zsd's defaults.
        train: rows to learn from.
        heldout: rows for ``eval_agreement``, ``eval_kl`` and ``eval_loss``.
        objective: what it is trained for.
        write: takes each progress line.

    Raises:
        ConfigError: label smoothing is asked for: soft labels are smooth already; or early stopping without
            evaluations; or an order of rows that cannot show some of them more often than others, where that is wanted.
    """
    if args.label_smoothing_factor:
        raise ConfigError("--label_smoothing_factor is not for soft labels: zsd label --temperature softens them")
    if train.copies is not None and args.train_sampling_strategy not in OUR_ORDERS:
        raise ConfigError(
            f"--train_sampling_strategy {args.train_sampling_strategy} shows every row once: with --gold, --balance or "
            f"--rounds use {' or '.join(OUR_ORDERS)}"
        )
    model.get_input_embeddings().weight.requires_grad_(not objective.freeze_embeddings)
    if args.device.type == "cpu":
        # Fused attention is slower than the plain one on CPU: 1.6 times in bf16.
        model.set_attn_implementation("eager")
    callbacks: list[TrainerCallback] = [ProgressLines(write)]
    if objective.patience is not None:
        callbacks.append(_early_stopping(args, objective.patience))
    trainer = DistillationTrainer(
        model=model,
        args=args,
        data_collator=Collator(tokenizer),
        train_dataset=train,
        eval_dataset=heldout,
        processing_class=tokenizer,
        compute_loss_func=trainer_loss(objective),
        compute_metrics=heldout_metrics(objective),
        callbacks=callbacks,
    )
    for callback in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(callback)
    return trainer


def trainer_loss(objective: Objective) -> Callable[..., torch.Tensor]:
    """The ``compute_loss_func`` of the Trainer."""

    def loss(outputs: Any, labels: torch.Tensor, num_items_in_batch: torch.Tensor | int | None = None) -> torch.Tensor:
        # The Trainer counts the elements of the labels of all accumulated micro-batches: so many a row.
        rows = None if num_items_in_batch is None else num_items_in_batch / labels.shape[-1]
        probs_NK, weights_N, _ = split_labels(labels)
        return distillation_loss(
            outputs.logits,
            probs_NK,
            multi_label=objective.multi_label,
            temperature=objective.temperature,
            hard=objective.hard_labels,
            weights_N=weights_N,
            rows=rows,
        )

    return loss


def _early_stopping(args: TrainingArguments, patience: int) -> EarlyStoppingCallback:
    """Stops at a plateau of the held-out agreement; how long it has lasted is kept in the checkpoints."""
    if args.eval_strategy == "no" or args.eval_strategy != args.save_strategy:
        raise ConfigError("--patience needs evaluations, at the steps of the checkpoints: leave --eval_strategy alone")
    args.metric_for_best_model, args.greater_is_better = "agreement", True
    args.restore_callback_states_from_checkpoint = True
    return PlateauCallback(early_stopping_patience=patience)


class PlateauCallback(EarlyStoppingCallback):  # type: ignore[misc]
    """`EarlyStoppingCallback` that keeps the last student: at a plateau it is no worse than the best of the noise."""

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Nothing to warn of: the stock one asks for ``load_best_model_at_end``."""


class DistillationTrainer(Trainer):  # type: ignore[misc]
    """The transformers Trainer with an order of rows that every worker and a resumed run agree on.

    The stock samplers draw from the global random state, which workers and resumed runs do not share.
    """

    def _get_train_sampler(self, train_dataset: TrainingRows | None = None) -> Sampler[int] | None:
        rows: TrainingRows = train_dataset or self.train_dataset
        if self.args.train_sampling_strategy not in OUR_ORDERS:
            sampler: Sampler[int] | None = super()._get_train_sampler(train_dataset)
            return sampler
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        return TrainingOrder(
            rows.lengths,
            batch=self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size,
            seed=seed,
            copies=rows.copies,
            by_length=self.args.train_sampling_strategy == "group_by_length",
        )

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        with quiet_transformers():
            super()._save(output_dir, state_dict)


def heldout_metrics(objective: Objective) -> Callable[[EvalPrediction], dict[str, float]]:
    """The ``compute_metrics`` of the Trainer.

    Agreement with the labels in [0, 1], KL(labels || student) in nats a row and, where some of the labels are
    reviewed, ``gold_rows`` and the agreement with those: ``gold_accuracy``.
    """
    multi_label = objective.multi_label

    def compute(prediction: EvalPrediction) -> dict[str, float]:
        student_NK = probabilities(prediction.predictions / objective.temperature, multi_label=multi_label)
        probs_NK, _, gold_N = split_labels(prediction.label_ids)
        figures = {
            "agreement": agreement(probs_NK, student_NK, multi_label=multi_label),
            "kl": kl_divergence(probs_NK, student_NK, multi_label=multi_label),
        }
        if np.any(gold_N):
            right = agreement(probs_NK[gold_N], student_NK[gold_N], multi_label=multi_label)
            figures |= {"gold_rows": int(gold_N.sum()), "gold_accuracy": right}
        return figures

    return compute
