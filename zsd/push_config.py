"""What `zsd push` is told."""

from __future__ import annotations

import re
from dataclasses import dataclass

from zsd.config import MODEL_HELP
from zsd.options import Options, option

HUB = "hub:"
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


@dataclass(frozen=True, kw_only=True)
class PushConfig(Options):
    """`zsd push`: a student, with a model card, to where others find it."""

    model: str = option(MODEL_HELP, metavar="DIR")
    to: str = option(
        "hub:USER/NAME (a repository on the Hugging Face hub), a new directory, or a URI such as s3://bucket/name",
        metavar="TARGET",
    )
    title: str | None = option("name of the model on its card (default: the last part of --to)", None, metavar="TEXT")
    license: str | None = option("licence of the student on its card, as an SPDX id (apache-2.0)", None, metavar="ID")
    private: bool = option("a new hub repository is private", True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.to.startswith(HUB):
            name = self.to.removeprefix(HUB)
            told = f"{self.to!r}: write hub:USER/NAME, of letters, digits and . _ -"
            self._check(_HUB_NAME.fullmatch(name) is not None, "to", told)
