"""What a training with the transformers Trainer says of itself while it runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

PROGRESS_SECONDS = 10.0


class ProgressLines(TrainerCallback):  # type: ignore[misc]
    """One line every 10 s, and one at the end: step, loss, rows/s, time left, and the last held-out agreement."""

    def __init__(self, write: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self.write, self.clock = write, clock
        self.loss: float | None = None
        self.agreement: float | None = None

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """The clock starts; a resumed run counts from where it resumed."""
        self.started = self.written = self.clock()
        self.first_step = state.global_step
        self.step_rows = args.train_batch_size * args.gradient_accumulation_steps * args.world_size

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: dict[str, Any], **_: Any
    ) -> None:
        """Remember the figures the next line shows."""
        self.loss = logs.get("loss", self.loss)
        self.agreement = logs.get("eval_agreement", self.agreement)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Write a line when one is due."""
        if self.clock() - self.written >= PROGRESS_SECONDS:
            self._line(state)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Write the last line, whatever the time."""
        if state.global_step > self.first_step:
            self._line(state)

    def _line(self, state: TrainerState) -> None:
        if not state.is_world_process_zero:
            return
        self.written = self.clock()
        seconds = max(self.written - self.started, 1e-9)
        steps = state.global_step - self.first_step
        left = seconds / steps * (state.max_steps - state.global_step)
        parts = [
            f"step {state.global_step}/{state.max_steps}",
            f"{steps * self.step_rows / seconds:.0f} rows/s",
            f"{left:.0f} s left",
        ]
        if self.loss is not None:
            parts.insert(1, f"loss {self.loss:.4f}")
        if self.agreement is not None:
            parts.append(f"held-out agreement {100 * self.agreement:.1f}%")
        self.write("train: " + ", ".join(parts))
