"""`zsd predict`: a corpus through a student, on every actor the cluster has; where it is not sure, through its teacher.

::

    OUT/deferral.json   the fitted threshold and what is known about it; made once, before the first row is answered
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from zsd.confidence import CONFIDENCE
from zsd.config import PredictConfig
from zsd.console import say
from zsd.deferral import NEVER, Corpus, Deferral, fit_deferral
from zsd.distributed.store_job import JobPlan, run_store_job
from zsd.errors import ConfigError
from zsd.heldout import card_recipe, check_same_teacher, heldout_rows, read_card
from zsd.labels import LabelSet
from zsd.predicting import PredictTask
from zsd.referee import RefereeTask
from zsd.shards import MANIFEST, PREDICTIONS, Store, checksum, read_json, write_json
from zsd.soft_labels import Recipe
from zsd.storage import exists, join, resolve
from zsd.students import load_student
from zsd.students.base import Student
from zsd.students.folder import absolute_student, local_student, student_directory
from zsd.teacher_plan import plan_teacher, stored_teacher
from zsd.teachers.nli import checkpoint_fingerprint
from zsd.units import Unit

UNIT_ROWS = 4096
"""Rows of a unit: seconds of work for a small student on one core."""

DEFERRAL_UNIT_ROWS = 512
"""The same where a teacher may have to answer any number of them."""

HELDOUT_ROWS = 20_000
"""Held-out rows that a threshold is fitted on at most: with as many, the bound is within half a point of the share."""

ENGINE_AGREEMENT = 0.99
"""Top-1 agreement with fp32 torch from which ``--teacher-engine auto`` admits an engine."""


def predict(
    config: PredictConfig,
    *,
    proof: float | None = None,
    corpus: Corpus | None = None,
    reviewed: frozenset[str] = frozenset(),
) -> dict[str, Any]:
    """Predict a corpus, or go on where an earlier run of the same job stopped; returns the manifest.

    Args:
        config: what to predict, with which student.
        proof: the threshold is fitted on the rows that a held-out fraction as small as this takes; None: on all
            held-out rows of the store, up to `HELDOUT_ROWS`.
        corpus: the rows that the promise is about, where they are counted.
        reviewed: texts that are none of the rows a threshold is fitted on: chosen by a person, not drawn.

    Raises:
        InputError: the student, the corpus or the output directory are not what they should be.
    """
    uri = absolute_student(config.model)
    directory = local_student(uri)
    student = load_student(directory, engine=config.engine, precision=config.chosen_precision)
    identity = {
        "labels": {"names": list(student.names), "template": None, "multi_label": student.multi_label},
        "model": uri,
        "engine_asked": config.engine,
        "precision": config.chosen_precision,
        "model_fingerprint": checkpoint_fingerprint(directory),
    }
    deferring = _Deferring.of(config, proof, corpus, reviewed) if config.defer_to else None
    task = PredictTask(
        output=resolve(config.output).uri,
        model=uri,
        engine=config.engine,
        precision=config.chosen_precision,
    )

    def plan(units: list[Unit]) -> JobPlan:
        if deferring is None:
            return JobPlan(make_worker=lambda rows: task, facts={})
        return deferring.plan(task, student, units)

    return run_store_job(
        config,
        job="predict",
        folder=PREDICTIONS,
        identity=identity | (deferring.identity() if deferring else {}),
        unit_rows=DEFERRAL_UNIT_ROWS if deferring else UNIT_ROWS,
        plan=plan,
    )


@dataclass(frozen=True, kw_only=True)
class _Deferring:
    """What a job with deferral needs beside its student."""

    config: PredictConfig
    card: dict[str, Any]
    store: Store
    recipe: Recipe
    proof: float
    corpus: Corpus | None
    reviewed: frozenset[str]

    @classmethod
    def of(
        cls, config: PredictConfig, proof: float | None, corpus: Corpus | None, reviewed: frozenset[str]
    ) -> _Deferring:
        """Read the student's card and find the store.

        Raises:
            InputError: there is no card or no store, or they do not belong together.
        """
        card = read_card(student_directory(config.model))
        uri = config.soft_labels or config.model
        if config.soft_labels is None and not exists(join(uri, MANIFEST)):
            raise ConfigError(
                f"--defer-to teacher: {uri} holds no soft labels: name the output of zsd label with --soft-labels"
            )
        store = Store(uri)
        if config.shortlist is not None and card["labels"]["multi_label"]:
            raise ConfigError(
                "--shortlist is for classes of which a row has one: leave it away for a multi-label student"
            )
        recipe = card_recipe(card)
        if config.shortlist is not None and recipe.mixing is not None:
            raise ConfigError(
                "--shortlist: the student's labels mix the logits of all classes, as reviewed rows wanted it: leave it "
                "away, so that the teacher is asked about all of them"
            )
        check_same_teacher(store, card)
        proof = proof or min(1.0, HELDOUT_ROWS / max(1, store.manifest["rows"]))
        about: dict[str, Any] = {"proof": proof, "corpus": corpus, "reviewed": reviewed}
        return cls(config=config, card=card, store=store, recipe=recipe, **about)

    def identity(self) -> dict[str, Any]:
        """What makes two jobs with deferral the same."""
        shards = "".join(shard["checksum"] for shard in self.store.manifest["shards"])
        promised = {"promised_for": asdict(self.corpus)} if self.corpus else {}
        return promised | {
            "defer_to": self.config.defer_to,
            "confidence": CONFIDENCE,
            "min_agreement": self.config.min_agreement,
            "alpha": self.config.alpha,
            "proof": self.proof,
            "shortlist": self.config.shortlist,
            "soft_labels": checksum(shards.encode()),
            "recipe": self._recipe(),
            "teacher_fingerprint": self.card["teacher_fingerprint"],
        }

    def _recipe(self) -> dict[str, Any]:
        """The recipe, with a checksum in place of K * K numbers."""
        content = self.recipe.to_dict()
        mixing = content.pop("mixing", None)
        return content if mixing is None else {**content, "mixing": checksum(repr(mixing).encode())}

    def plan(self, task: PredictTask, student: Student, units: list[Unit]) -> JobPlan:
        """Fit the threshold, or read what an earlier run of this job has fitted, and plan the teacher's part."""
        deferral = self._deferral(task.output, student)
        labels = LabelSet.from_dict(self.store.manifest["labels"])
        teacher, choices = stored_teacher(self.store, engine=self.config.teacher_engine, min_agreement=ENGINE_AGREEMENT)
        planned = plan_teacher(teacher, labels, choices, output=task.output, units=units)

        def make(rows: int) -> PredictTask:
            asked = len(labels.templates) * (deferral.shortlist or len(labels))
            pairs = round(rows * deferral.heldout_deferred) * asked
            referee = RefereeTask(
                store=self.store.root,
                threshold=deferral.threshold,
                shortlist=deferral.shortlist,
                recipe=self.recipe,
                teacher=replace(planned, pairs=pairs),
            )
            return replace(task, referee=referee)

        return JobPlan(make_worker=make, facts={"deferral": deferral.to_dict()})

    def _deferral(self, output: str, student: Student) -> Deferral:
        file, asked = join(output, "deferral.json"), self.identity()
        if exists(file):
            content = read_json(file)
            if content["asked"] == asked:
                return Deferral.from_dict(content["deferral"])
        heldout = heldout_rows(self.store, self.card, below=self.proof, without=self.reviewed)
        deferral = fit_deferral(
            student.predict(heldout.texts),
            heldout.probs,
            multi_label=student.multi_label,
            min_agreement=self.config.min_agreement,
            alpha=self.config.alpha,
            shortlist=self.config.shortlist,
            corpus=self.corpus,
        )
        write_json(file, {"asked": asked, "deferral": deferral.to_dict()})
        say(f"predict: {deferral_line(deferral)}")
        return deferral


def deferral_line(deferral: Deferral) -> str:
    """What was fitted, for a person."""
    told = f"on {deferral.heldout_rows:,} held-out rows the student alone agrees with the teacher on "
    told += f"{deferral.student_agreement:.1%}"
    best = f", asked about the {deferral.shortlist} best classes" if deferral.shortlist else ""
    if deferral.threshold == NEVER:
        return (
            f"{told}; that {deferral.min_agreement:.1%} can be kept without the teacher is not shown: it answers every "
            f"row{best}. Lower --min-agreement, or label more rows"
        )
    of_all = f"on all {deferral.corpus_rows:,} rows " if deferral.corpus_rows else ""
    return (
        f"{told}; from confidence {deferral.threshold:.3f} on it answers itself: {deferral.heldout_deferred:.1%} go to "
        f"the teacher{best}, agreement {of_all}at least {deferral.agreement_bound:.1%} (confidence "
        f"{1 - deferral.alpha:.0%})"
    )
