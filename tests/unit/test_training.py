from __future__ import annotations

import copy
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    EvalPrediction,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from zsd.assets import bundled_teacher_path
from zsd.errors import ConfigError
from zsd.inference import FloatArray
from zsd.shards import vectors
from zsd.soft_labels import Recipe
from zsd.training import (
    MIN_STEPS,
    DistillationTrainer,
    Objective,
    default_epochs,
    default_training_arguments,
    heldout_metrics,
    make_trainer,
)
from zsd.training_progress import ProgressLines
from zsd.training_rows import HELDOUT, TRAIN, TrainingRows, side_files, training_table, write_sides

# Legend: N rows, K labels.

NAMES = ["animals", "vehicles", "weather"]
WORDS = ["cat dog horse cow", "car train bus truck", "rain snow wind sun"]


class Setup:
    """A tiny student and rows whose words give their class away."""

    def __init__(self, directory: Path, *, rows: int, multi_label: bool = False) -> None:
        self.multi_label = multi_label
        self.directory = directory
        self.tokenizer = AutoTokenizer.from_pretrained(bundled_teacher_path())
        config = BertConfig(
            vocab_size=len(self.tokenizer),
            num_labels=len(NAMES),
            num_hidden_layers=1,
            hidden_size=32,
            num_attention_heads=2,
            intermediate_size=32,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
        torch.manual_seed(0)
        self.model = BertForSequenceClassification(config)
        generator = np.random.default_rng(0)
        classes_N = generator.integers(0, 3, size=rows)
        texts = [" ".join(generator.choice(WORDS[k].split(), size=generator.integers(2, 9))) for k in classes_N]
        probs_NK = np.full((rows, 3), 0.1, dtype=np.float32)
        probs_NK[np.arange(rows), classes_N] = 0.8
        self.train, self.heldout = self.sides(texts, probs_NK)

    def sides(self, texts: list[str], probs_NK: FloatArray) -> tuple[TrainingRows, TrainingRows]:
        logits = vectors(np.log(probs_NK))
        ids = [str(n) for n in range(len(texts))]
        table = pa.table({"id": ids, "text": texts, "entailment": logits, "contradiction": logits})
        made = training_table(
            table,
            recipe=Recipe(method="none", multi_label=False),
            tokenizer=self.tokenizer,
            max_length=16,
            gold={},
            excluded=frozenset(),
        )
        folder = str(self.directory / f"rows-{len(texts)}")
        write_sides(made, folder, 0, heldout_fraction=0.1)
        train, heldout = (TrainingRows(folder, side_files(folder, side)) for side in (TRAIN, HELDOUT))
        return train, heldout

    def trainer(self, *, objective: dict[str, Any] | None = None, lines: list[str] | None = None, **args: Any) -> Any:
        settings = default_training_arguments(len(self.train), use_cpu=True) | {
            "output_dir": str(self.directory / "out"),
            "bf16": False,
            "save_strategy": "no",
        }
        return make_trainer(
            copy.deepcopy(self.model),
            self.tokenizer,
            TrainingArguments(**(settings | args)),
            train=self.train,
            heldout=self.heldout,
            objective=Objective(multi_label=self.multi_label, **(objective or {})),
            write=(lines if lines is not None else list[str]()).append,
        )


def weights(trainer: DistillationTrainer) -> torch.Tensor:
    return torch.cat([p.detach().reshape(-1) for p in trainer.model.parameters() if p.requires_grad])


@pytest.mark.parametrize("multi_label", [False, True])
def test_a_student_learns_the_soft_labels_of_rows_it_has_not_seen(multi_label: bool, tmp_path: Path) -> None:
    setup = Setup(tmp_path, rows=300, multi_label=multi_label)
    trainer = setup.trainer(num_train_epochs=12, learning_rate=1e-2, eval_strategy="no")
    before = trainer.evaluate()
    trainer.train()
    after = trainer.evaluate()
    assert after["eval_agreement"] > 0.97
    assert after["eval_kl"] < 0.1 * before["eval_kl"]
    assert after["eval_loss"] < before["eval_loss"]


@pytest.mark.parametrize("multi_label", [False, True])
def test_accumulated_micro_batches_make_the_step_of_the_big_batch(multi_label: bool, tmp_path: Path) -> None:
    setup = Setup(tmp_path, rows=28, multi_label=multi_label)
    setup.train.weights = np.linspace(0.5, 1.5, len(setup.train), dtype=np.float32)
    assert len(setup.train) == 24  # whole batches
    one_epoch: dict[str, Any] = {
        "num_train_epochs": 1,
        "learning_rate": 1.0,
        "optim": "sgd",
        "warmup_steps": 0,
        "max_grad_norm": 0.0,
    }
    big = setup.trainer(per_device_train_batch_size=8, **one_epoch)
    small = setup.trainer(per_device_train_batch_size=4, gradient_accumulation_steps=2, **one_epoch)
    start = weights(big)
    big.train()
    small.train()
    assert big.state.global_step == small.state.global_step == 3
    assert (weights(big) - start).abs().max() > 1e-3
    torch.testing.assert_close(weights(big), weights(small), rtol=1e-4, atol=1e-6)


def test_training_is_decided_by_the_seed(tmp_path: Path) -> None:
    setup = Setup(tmp_path, rows=60)

    def trained(seed: int) -> torch.Tensor:
        trainer = setup.trainer(num_train_epochs=1, learning_rate=1e-3, seed=seed)
        torch.rand(5)
        trainer.train()
        return weights(trainer)

    assert torch.equal(trained(1), trained(1))
    assert not torch.equal(trained(1), trained(2))


def test_a_resumed_training_ends_where_the_uninterrupted_one_does(tmp_path: Path) -> None:
    setup = Setup(tmp_path, rows=120)
    # 28 steps; saved at 7, in the middle of the second epoch of 4 steps, and at 14 and 21.
    args: dict[str, Any] = {"num_train_epochs": 7, "learning_rate": 1e-3, "save_strategy": "steps", "save_steps": 7}
    whole = setup.trainer(**args, save_total_limit=9)
    whole.train()
    resumed = setup.trainer(**args)
    resumed.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-7"))
    assert resumed.state.global_step == whole.state.global_step
    torch.testing.assert_close(weights(resumed), weights(whole))


def test_frozen_embeddings_stay_the_teachers_and_everything_else_learns(tmp_path: Path) -> None:
    setup = Setup(tmp_path, rows=60)
    before = setup.model.state_dict()
    trainer = setup.trainer(objective={"freeze_embeddings": True}, num_train_epochs=1, learning_rate=1e-3)
    trainer.train()
    unchanged = [name for name, tensor in trainer.model.state_dict().items() if torch.equal(tensor, before[name])]
    assert unchanged == ["bert.embeddings.word_embeddings.weight"]


def test_the_terminal_shows_nothing_but_our_own_lines(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    setup = Setup(tmp_path, rows=60)
    capfd.readouterr()
    lines: list[str] = []
    trainer = setup.trainer(lines=lines, num_train_epochs=2, save_strategy="epoch", logging_steps=1)
    trainer.train()
    trainer.evaluate()
    assert capfd.readouterr() == ("", "")
    assert len(lines) == 1
    assert re.fullmatch(
        r"train: step 4/4, loss \d+\.\d{4}, \d+ rows/s, 0 s left, held-out agreement \d+\.\d%", lines[0]
    )


def test_one_line_every_ten_seconds_with_rate_and_time_left(tmp_path: Path) -> None:
    now, lines = 0.0, list[str]()
    progress = ProgressLines(lines.append, clock=lambda: now)
    state = TrainerState(global_step=20, max_steps=100, is_world_process_zero=True)
    args = TrainingArguments(output_dir=str(tmp_path), per_device_train_batch_size=5, gradient_accumulation_steps=2)
    control = TrainerControl()
    progress.on_train_begin(args, state, control)
    for _ in range(40):
        now += 0.5
        state.global_step += 1
        progress.on_log(args, state, control, logs={"loss": 0.5})
        progress.on_step_end(args, state, control)
    # 2 steps and 20 rows a second; the rows of before the resume are not counted.
    assert lines == [
        "train: step 40/100, loss 0.5000, 20 rows/s, 30 s left",
        "train: step 60/100, loss 0.5000, 20 rows/s, 20 s left",
    ]
    state.is_world_process_zero = False
    progress.on_train_end(args, state, control)
    assert len(lines) == 2


@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize("multi_label", [False, True])
def test_a_student_equal_to_its_teacher_agrees_with_it_fully(temperature: float, multi_label: bool) -> None:
    logits_NK = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    scaled = torch.from_numpy(logits_NK / temperature)
    teacher_NK = (torch.sigmoid(scaled) if multi_label else torch.softmax(scaled, -1)).numpy()
    labels = np.concatenate([teacher_NK, np.ones((20, 1)), np.zeros((20, 1))], axis=1)
    compute = heldout_metrics(Objective(multi_label=multi_label, temperature=temperature))
    same = compute(EvalPrediction(predictions=logits_NK, label_ids=labels))
    assert same == {"agreement": 1.0, "kl": pytest.approx(0.0, abs=1e-6)}
    labels[:5, -1] = 1  # five of them are reviewed
    other = compute(EvalPrediction(predictions=-logits_NK, label_ids=labels))
    assert other["agreement"] < 0.5
    assert other["kl"] > 0.05
    assert other["gold_rows"] == 5
    assert other["gold_accuracy"] < 0.7


def test_training_stops_at_a_plateau_and_remembers_it_in_the_checkpoint(tmp_path: Path) -> None:
    setup = Setup(tmp_path, rows=60)
    args: dict[str, Any] = {"num_train_epochs": 20, "learning_rate": 1e-9, "eval_steps": 2, "save_steps": 2}
    trainer = setup.trainer(objective={"patience": 3}, save_strategy="steps", save_total_limit=9, **args)
    trainer.train()
    assert trainer.state.global_step == 8  # the first evaluation is the best; three more are no better
    resumed = setup.trainer(objective={"patience": 3}, save_strategy="steps", save_total_limit=9, **args)
    resumed.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-6"))
    assert resumed.state.global_step == 8
    with pytest.raises(ConfigError, match="--patience"):
        setup.trainer(objective={"patience": 3}, eval_strategy="no")


def test_rows_that_are_not_kept_are_not_trained_on(tmp_path: Path) -> None:
    setup = Setup(tmp_path, rows=80)
    copies = np.zeros(len(setup.train), dtype=np.float32)
    copies[:16] = 1
    setup.train.copies = copies
    # What is not drawn must not matter, whatever its label.
    one_epoch: dict[str, Any] = {"num_train_epochs": 2, "learning_rate": 1e-2, "per_device_train_batch_size": 8}
    first = setup.trainer(**one_epoch)
    first.train()
    assert first.state.global_step == 4
    setup.train.probs[0] = np.concatenate([setup.train.probs[0][:16], np.roll(setup.train.probs[0][16:], 1, axis=1)])
    second = setup.trainer(**one_epoch)
    second.train()
    assert torch.equal(weights(first), weights(second))


def test_an_order_that_shows_every_row_once_is_refused_where_some_shall_come_more_often(tmp_path: Path) -> None:
    setup = Setup(tmp_path, rows=40)
    setup.trainer(train_sampling_strategy="sequential")
    setup.train.copies = np.full(len(setup.train), 2.0, dtype=np.float32)
    with pytest.raises(ConfigError, match="--train_sampling_strategy sequential"):
        setup.trainer(train_sampling_strategy="sequential")


def test_label_smoothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--temperature"):
        Setup(tmp_path, rows=40).trainer(label_smoothing_factor=0.1)


def test_the_defaults_are_valid_and_small_corpora_get_more_epochs(tmp_path: Path) -> None:
    args = TrainingArguments(output_dir=str(tmp_path), **default_training_arguments(500, use_cpu=True))
    assert args.report_to == []
    steps = {rows: default_epochs(rows) * math.ceil(rows / 32) for rows in (200, 500, 3_000, 20_000, 1_000_000)}
    assert all(count >= MIN_STEPS for count in steps.values())
    assert [default_epochs(rows) for rows in (1, 20_000, 1_000_000)] == [40, 3, 3]
