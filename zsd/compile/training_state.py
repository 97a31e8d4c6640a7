"""What a training that was killed needs to go on exactly, on disk."""

from __future__ import annotations

import os
import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zsd.console import say
from zsd.errors import StoreError


@dataclass
class TrainingState:
    """Weights, optimizer, masks, losses and steps done.

    Args:
        job: what is trained, the first word of its messages.
        file: where they lie.
        trained: the parameters by name.
        optimizer: of these.
        masks: which weights are kept, by layer, where some are cut.
        losses: of every step so far.
    """

    job: str
    file: Path
    trained: dict[str, nn.Parameter]
    optimizer: torch.optim.Optimizer
    masks: dict[str, Tensor] = field(default_factory=dict)
    losses: list[float] = field(default_factory=list)

    def save(self, step: int) -> None:
        """Replace the state on disk whole."""
        content = {
            "step": step,
            "trained": {name: parameter.data for name, parameter in self.trained.items()},
            "optimizer": self.optimizer.state_dict(),
            "masks": self.masks,
            "losses": self.losses,
        }
        self.file.parent.mkdir(parents=True, exist_ok=True)  # another process of the same job may have ended it
        scratch = self.file.with_suffix(f".{os.getpid()}")
        torch.save(content, scratch)
        scratch.replace(self.file)

    def load(self) -> int:
        """Take up the state on disk; returns the steps done, 0 where there is none.

        Raises:
            StoreError: the file is damaged.
        """
        for scratch in self.file.parent.glob(f"{self.file.stem}.[0-9]*"):
            scratch.unlink(missing_ok=True)
        if not self.file.is_file():
            return 0
        try:
            content: dict[str, Any] = torch.load(self.file, weights_only=True)
            with torch.no_grad():
                for name, parameter in self.trained.items():
                    parameter.copy_(content["trained"][name])
            self.optimizer.load_state_dict(content["optimizer"])
            self.masks.update(content["masks"])
            self.losses.extend(content["losses"])
            step = int(content["step"])
        except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, KeyError, ValueError, TypeError) as error:
            reason = " ".join(str(error).split())[:100]
            raise StoreError(f"{self.file} is damaged ({reason}): delete it to start the training over") from None
        say(f"{self.job}: going on from step {step:,}")
        return step


def mean_of(losses: list[float]) -> float:
    """Their mean; 0 of none."""
    return sum(losses) / max(1, len(losses))
