"""`zsd nightly`: one idempotent run from new rows to a student in production, or to a reason why not.

Every step leaves its outcome in the night's folder (`zsd.night`) or the registry, so a run that died goes on where it
stopped: the same inputs and options, or the same ``--night``, are the same night.
"""

from __future__ import annotations

import time
from typing import Any

import zsd
from zsd import storage
from zsd.config import DistillConfig, LabelConfig
from zsd.console import duration, say
from zsd.corpus_profile import profile_store
from zsd.distill_config import TrainingChoices
from zsd.distributed.label import label
from zsd.distributed.train import distill
from zsd.drift import compare
from zsd.errors import InputError, StoreError
from zsd.gate import Verdict, judge, score_name
from zsd.gate_rows import gate_rows, judge_student, reviewed_checksum
from zsd.learned_rows import LearnedRows
from zsd.night import PREVIOUS, PROFILE, RESULT, Night, forget_nights, open_plans
from zsd.nightly_config import NightlyConfig
from zsd.options import shared_options
from zsd.registry import Registry
from zsd.report.drift import drift_page
from zsd.run_lock import RunLock, hold
from zsd.shards import Store, read_json
from zsd.students.folder import STUDENT, local_student, student_kind
from zsd.tracking import check_tracking, log_night

PROMOTED, REFUSED, UNCHANGED = "promoted", "refused", "unchanged"


def nightly(config: NightlyConfig, arguments: dict[str, Any]) -> dict[str, Any]:
    """Run or resume one night; returns what came of it, which is also in its ``night.json``.

    Args:
        config: what to do.
        arguments: transformers `TrainingArguments` by name.

    Returns:
        ``night``, ``decision`` (``promoted``, ``refused`` or ``unchanged``), ``version``, ``production`` (what is in
        production now), ``reason``, ``gate``, ``metrics``, ``label``, ``drift``, ``seconds``. ``label`` has in
        ``new_rows`` how many rows the teacher was asked for tonight. ``drift`` is also in ``drift.json``: ``against``
        (the version in production), ``unseen``, ``all`` and ``all_unseen`` of `zsd.drift.compare` with its rows, all
        None where nothing is in production; ``previous``: the same with the rows of the night before.

    Raises:
        InputError: the corpus, the classes, the test rows or an option are not what they should be.
        LockError: another run holds the lock of the registry, or has taken it over.
        StoreError: the storage failed; what is done is kept.
        ZsdError: see `zsd.distributed.label` and `zsd.distributed.train`.
    """
    try:
        return _nightly(config, arguments)
    except OSError as error:
        raise StoreError(
            f"{config.output}: the storage failed: {storage.first_line(error)}: what is done is kept, run the same "
            "command again when it works"
        ) from error


def _nightly(config: NightlyConfig, arguments: dict[str, Any]) -> dict[str, Any]:
    reviewed_checksum(config)  # a mistake in these files is found now, not after hours of labelling
    if config.mlflow is not None:
        check_tracking(config.mlflow)
    night = Night.of(config, arguments)
    registry = Registry(config.registry or storage.join(config.output, "registry"))
    done = _finished(night)
    if done is not None:
        return done
    with hold(registry.lock_folder, job=f"night {night.name}", expiry=config.lock_expiry) as lock:
        done = _finished(night)  # another run may have finished it while this one waited for the storage
        return done if done is not None else _Run(config, arguments, night, registry, lock).run()


def _finished(night: Night) -> dict[str, Any] | None:
    done = night.result()
    if done is not None:
        say(f"night {night.name} is finished ({done['decision']}), nothing to do: {night.folder}")
    return done


class _Run:
    """A night that is being worked on, with the lock held."""

    def __init__(
        self, config: NightlyConfig, arguments: dict[str, Any], night: Night, registry: Registry, lock: RunLock
    ) -> None:
        self.config, self.arguments, self.night = config, arguments, night
        self.registry, self.lock = registry, lock
        self.started = time.time()

    def run(self) -> dict[str, Any]:
        """All steps; see `nightly`."""
        night, registry = self.night, self.registry
        registry.clean()
        plan = night.begin(self.config, registry)
        say(f"night {night.name}: {night.folder}")
        try:
            manifest = label(self._labelling(plan))
        except InputError:
            self.lock.check()
            night.give_way()
            raise
        self.lock.check()
        production = self._production()
        profile = self._profile(production)
        drift = self._drift(production, profile, plan)
        counts = {name: manifest[name] for name in ("rows", "pairs", "rejected", "duplicates")}
        result: dict[str, Any] = {
            "night": night.name,
            "label": counts | {"new_rows": profile["new_rows"]},
            "start": plan["start"],
            "drift": drift,
        }
        if production is not None and self._unchanged(production, profile):
            say(f"night {night.name}: the rows and the recipe are those of {production}: nothing to do")
            return self._end({**result, "decision": UNCHANGED, "version": production, "production": production}, plan)
        card = distill(self._distilling(plan), self.arguments)
        self.lock.check()
        verdict, metrics = self._judge(production, card, drift)
        result |= {"gate": verdict.to_dict(), "metrics": metrics, "reason": verdict.reason or None}
        result |= self._decide(verdict, result, profile, plan, production)
        return self._end(result, plan)

    def _production(self) -> str | None:
        """What is in production; where an earlier attempt at this very night is, what was there before it."""
        pointer = self.registry.current()
        if pointer is None:
            return None
        there = [one for one in (pointer.version, *pointer.before) if one in self.registry.versions()]
        others = [one for one in there if not self.registry.made_by(one, self.night.key)]
        return others[0] if others else None

    def _labelling(self, plan: dict[str, Any]) -> LabelConfig:
        asked = shared_options(self.config, LabelConfig)
        return LabelConfig(**asked | {"output": self.night.folder, "reuse": tuple(plan["reuse"])})

    def _distilling(self, plan: dict[str, Any]) -> DistillConfig:
        config = self.config
        asked = shared_options(config, TrainingChoices)
        if plan["start"] is not None:
            if plan["start"] not in self.registry.versions():
                raise StoreError(
                    f"{self.registry.uri}: {plan['start']}, from which night {self.night.name} was to start, is gone: "
                    f"run another --night, with --reuse {self.night.folder}"
                )
            start = self.registry.student(plan["start"])
            if student_kind(local_student(start)) == "encoder":  # the other kinds are fitted afresh in seconds
                asked["student"] = start
        return DistillConfig(
            soft_labels=self.night.folder,
            output=self.night.folder,
            heldout_fraction=config.heldout_fraction,
            test=config.test,
            test_text_column=config.text_column,
            ray_address=config.ray_address,
            **asked,
        )

    def _profile(self, production: str | None) -> dict[str, Any]:
        learned = LearnedRows(unknown="nothing is in production")
        if production is not None:
            store = self.registry.document(production, "provenance")["store"]
            learned = LearnedRows.of(production, store, self.registry.document(production, "profile")["digest"])
        profile = profile_store(Store(self.night.folder), learned)
        self.night.write(PROFILE, profile)
        return profile

    def _unchanged(self, production: str, profile: dict[str, Any]) -> bool:
        """Whether production was made of the same rows, reviewed rows, test rows and options."""
        made = self.registry.document(production, "provenance")
        rows = self.registry.document(production, "profile")["digest"]
        reviewed = made.get("reviewed") == reviewed_checksum(self.config)
        return bool(rows == profile["digest"] and reviewed and made["recipe"] == self.night.recipe)

    def _drift(self, production: str | None, profile: dict[str, Any], plan: dict[str, Any]) -> dict[str, Any] | None:
        """Report tonight's rows against production's and against the night before; None on a first night.

        The gate judges the first: it decides whether tonight's student may replace production's, so what counts is how
        far the rows went from those that production learned from. The night before may have been refused: held against
        that, a second bad night would look like no change, and the first good one like a shift.
        """
        previous = plan.get("previous")  # a plan made before nights were compared has none
        if production is None and previous is None:
            return None
        drift: dict[str, Any] = dict.fromkeys(("against", "unseen", "all", "all_unseen", "previous"))
        if production is not None:
            drift |= {"against": production} | compare(self.registry.document(production, "profile"), profile)
        if previous is not None:
            drift["previous"] = {"against": previous} | compare(read_json(self.night.path(PREVIOUS)), profile)
        self.night.write("drift.json", drift)
        page = drift_page(drift, night=self.night.name)
        storage.write_bytes_atomic(self.night.path("drift.html"), page.encode())
        return drift

    def _judge(
        self, production: str | None, card: dict[str, Any], drift: dict[str, Any] | None
    ) -> tuple[Verdict, dict[str, Any]]:
        names = self.config.label_set().names
        rows = gate_rows(self.config, self.registry, Store(self.night.folder), card)
        candidate = judge_student(str(local_student(self.night.path(STUDENT))), rows, names)
        before = None
        if production is not None:
            before = judge_student(str(local_student(self.registry.student(production))), rows, names)
        verdict = judge(candidate, before, drift if production is not None else None, self.config.bounds)
        self.night.write("gate.json", verdict.to_dict() | {"against": production, "rows": candidate["rows"]})
        for check in verdict.checks:
            say(f"gate: {'passed' if check.passed else 'FAILED'}: {check.told}")
        metrics = {"score_name": score_name(candidate), "score": candidate[score_name(candidate)]}
        return verdict, metrics | {"candidate": candidate, "production": before, "judged_on": self._judged_on()}

    def _judged_on(self) -> str:
        return "gold" if self.config.test else "the teacher's labels of held-out rows"

    def _decide(
        self,
        verdict: Verdict,
        result: dict[str, Any],
        profile: dict[str, Any],
        plan: dict[str, Any],
        production: str | None,
    ) -> dict[str, Any]:
        """Promote or refuse, and write that down."""
        night, registry = self.night, self.registry
        metrics = result["metrics"]
        told = {"score": metrics["score"], "score_name": metrics["score_name"]}
        told["expected_calibration_error"] = metrics["candidate"]["expected_calibration_error"]
        told |= {"rows": result["label"]["rows"], "new_rows": result["label"]["new_rows"]}
        if not verdict.passed:
            self._record(REFUSED, version=None, metrics=told, reason=verdict.reason)
            say(f"night {night.name}: refused, {production or 'nothing'} stays in production: {verdict.reason}")
            return {"decision": REFUSED, "version": None, "production": production}
        provenance = {
            "night": night.name,
            "zsd_version": zsd.__version__,
            "recipe": night.recipe,
            "student_asked": self.config.student,
            "start": plan["start"],
            "store": night.folder,
            "rows": result["label"],
            "inputs": night.identity["inputs"],
            "reviewed": reviewed_checksum(self.config),
        }
        documents = {"metrics": metrics, "provenance": provenance, "profile": profile, "gate": verdict.to_dict()}
        version = registry.publish(night.path(STUDENT), night.name, documents, key=night.key)
        registry.promote(version, self.lock)
        self._record(PROMOTED, version=version, was=production, metrics=told)
        say(f"night {night.name}: {version} is in production: {registry.student(version)}")
        return {"decision": PROMOTED, "version": version, "production": version}

    def _record(self, event: str, **facts: Any) -> None:
        """Write it into the changelog, unless an earlier attempt at this night did."""
        line = {"event": event, "night": self.night.name, **facts}
        if not any(line.items() <= earlier.items() for earlier in self.registry.changelog()):
            self.registry.record(**line)

    def _end(self, result: dict[str, Any], plan: dict[str, Any]) -> dict[str, Any]:
        """Log, tidy up, and say that the night is finished."""
        result["seconds"] = round(time.time() - self.started, 2)
        if self.config.mlflow is not None and result["decision"] != UNCHANGED:
            log_night(self.config.mlflow, result, self.night)
        self.lock.check()
        others = open_plans(self.config.output, self.night.name)
        starts = {one["start"] for one in (plan, *others)}  # this one may die before it is finished
        for version in self.registry.retain(self.config.keep, starts):
            self.registry.record("removed", version=version, reason=f"older than the {self.config.keep} that are kept")
            say(f"registry: {version} removed (--keep {self.config.keep})")
        used = self._used_nights().union(*(one["reuse"] for one in others))
        for folder in forget_nights(self.config.output, self.night.name, self.config.keep, used):
            say(f"nights: {folder} removed (--keep {self.config.keep})")
        self.night.write(RESULT, result)
        say(f"night {self.night.name}: {result['decision']} in {duration(result['seconds'])}")
        return result

    def _used_nights(self) -> set[str]:
        """Stores of what is in production and of what was before it."""
        pointer = self.registry.current()
        versions = [pointer.version, *pointer.before[:1]] if pointer else []
        there = self.registry.versions()
        return {str(self.registry.document(one, "provenance")["store"]) for one in versions if one in there}
