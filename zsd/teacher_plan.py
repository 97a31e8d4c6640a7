"""What actors are told of a teacher: on which rows an engine is tried, and how long the pairs of the job are.

Legend: P pairs of the sample.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from transformers import AutoConfig

from zsd.batching import IntArray, PairSet, pair_layout
from zsd.bisection import without_bad
from zsd.buckets import LengthSample
from zsd.engines.select import BAD_SHARE
from zsd.errors import ConfigError
from zsd.labelling import LabelTask, TeacherChoices, sample_texts, sample_units
from zsd.labels import LabelSet
from zsd.quiet import quiet_transformers
from zsd.shards import Store
from zsd.storage import join
from zsd.teachers.nli import NLITeacher, load_teacher, teacher_checkpoint
from zsd.units import Unit

LENGTH_ROWS = 2048
"""Rows whose lengths the driver looks at, to choose bucket shapes for all actors."""


def plan_teacher(
    teacher: NLITeacher, labels: LabelSet, choices: TeacherChoices, *, output: str, units: Sequence[Unit]
) -> LabelTask:
    """The task of a labelling actor; how many ``pairs`` it may expect is left to be filled in.

    Raises:
        TeacherError: the tokenizer cannot be batched pairwise, or a hypothesis does not fit.
        StoreError: a corpus shard is missing or damaged.
    """
    sample = sample_units(units)
    lengths_P, _ = without_bad(
        sample_texts(join(output, "corpus"), sample, LENGTH_ROWS),
        lambda texts: pair_lengths(teacher, texts, labels, choices.long_text),
        share=BAD_SHARE,
    )
    lengths = LengthSample.of(
        lengths_P,
        max_length=teacher.max_length,
        job_pairs=sum(unit.rows for unit in units) * len(labels.hypotheses),
    )
    return LabelTask(
        **vars(choices),
        output=output,
        labels=labels,
        lengths=lengths,
        sample=sample,
        pairs=0,
        run=uuid.uuid4().hex,
    )


def stored_teacher(store: Store, *, engine: str, min_agreement: float) -> tuple[NLITeacher, TeacherChoices]:
    """The teacher whose logits a store holds, to be asked again in the same way.

    The same engine computes with the numbers that it was asked for then; another one with those that are its own.

    Raises:
        TeacherError: it cannot be loaded.
        ConfigError: its checkpoint has changed since.
    """
    manifest = store.manifest
    with quiet_transformers():
        names = AutoConfig.from_pretrained(teacher_checkpoint(manifest["teacher"]), trust_remote_code=False).id2label
    columns = manifest["nli_classes"]
    choices = TeacherChoices(
        teacher=manifest["teacher"],
        nli_classes=f"{names[columns['entailment']]},{names[columns['contradiction']]}",
        max_length=manifest["max_length"],
        temperature=manifest["temperature"],
        engine=engine,
        precision=manifest["precision_asked"] if engine == manifest["engine_asked"] else None,
        min_agreement=min_agreement,
        long_text=manifest["long_text"],
    )
    teacher = load_teacher(choices.teacher, max_length=choices.max_length, nli_classes=choices.nli_classes)
    if teacher.fingerprint != manifest["teacher_fingerprint"]:
        raise ConfigError(f"--soft-labels {store.root}: its teacher {choices.teacher} has changed since: label again")
    return teacher, choices


def pair_lengths(teacher: NLITeacher, texts: list[str], labels: LabelSet, long_text: str) -> IntArray:
    """Tokens of every pair of some texts.

    Raises:
        TeacherError: the tokenizer cannot be batched pairwise, or a hypothesis does not fit.
    """
    pairs = PairSet.build(
        teacher.tokenizer,
        pair_layout(teacher.tokenizer),
        texts,
        labels.hypotheses,
        max_length=teacher.max_length,
        windows=long_text == "window",
    )
    return pairs.lengths
