"""`zsd annotate`: label a sample, distill, predict with deferral; the sample grows as long as that saves pairs.

::

    OUT/corpus/                    the canonical corpus
    OUT/samples/rows-R.parquet     id, text: what the teacher sees in sample R; it holds the rows of the one before
    OUT/samples/R/                 a store of zsd label with these rows, and the student distilled from it
    OUT/samples/R.json             what its student is expected to save
    OUT/final/student/             the student of the last sample, now taught the pilot rows, too
    OUT/deferral.json              its threshold
    OUT/predictions/               all rows, answered; manifest.json says by whom and at what cost

Every stage is a job of its own that can be killed and goes on where it stopped. A sample takes the logits of the one
before it: no text goes through the teacher twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, fields, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from zsd import storage
from zsd.annotate_config import AnnotateConfig
from zsd.annotation import Plan, Sample, make_plan, next_trained, outlook, sample_mask
from zsd.assets import BUNDLED_TEACHERS
from zsd.config import CorpusConfig, DistillConfig, LabelConfig, PredictConfig
from zsd.console import say
from zsd.corpus import IngestResult
from zsd.deferral import Corpus
from zsd.distill_config import TrainingChoices
from zsd.distributed.label import label
from zsd.distributed.predict import DEFERRAL_UNIT_ROWS, ENGINE_AGREEMENT, predict
from zsd.distributed.store_job import ingest_corpus
from zsd.distributed.train import distill
from zsd.errors import ConfigError, StudentError
from zsd.gold import read_reviewed
from zsd.heldout import card_recipe, heldout_rows, read_card
from zsd.joint_encoder import class_prompt
from zsd.labels import LabelSet
from zsd.options import shared_options
from zsd.output import claim
from zsd.shards import MANIFEST, Store, read_json, write_json
from zsd.students import load_student
from zsd.students.checkpoint import load_tokenizer
from zsd.students.folder import student_directory
from zsd.students.spec import JOINT_STUDENT, default_encoder, parse_student
from zsd.teachers.nli import absolute_checkpoint, teacher_checkpoint
from zsd.training_data import heldout_mask
from zsd.training_plan import earlier_student

SAMPLES = "samples"
FINAL = "final"
NOT_IDENTITY = frozenset(
    {"data", "output", "labels", "label", "ray_address", "cpu_actors", "gpu_actors", "cpus_per_actor"}
    | {"num_workers", "min_workers", "max_rejected", "target_file_rows"}
)
"""Options that do not make another job of it: the corpus and the class names are compared as what they hold."""


def annotate(config: AnnotateConfig, arguments: dict[str, Any]) -> dict[str, Any]:
    """Give every row of a corpus the teacher's label, or a student's where that is as good; returns the manifest.

    Args:
        config: the corpus, the classes, and what agreement is asked for.
        arguments: transformers `TrainingArguments` by name.

    Raises:
        InputError: see `label`, `distill` and `predict`.
    """
    if not storage.resolve(config.output).is_local:
        raise ConfigError(f"--output {config.output}: zsd annotate works in a local or mounted folder only")
    labels = config.label_set()
    gold = read_reviewed(config, labels.names, multi_label=labels.multi_label)
    reviewed = frozenset(gold.texts if gold else ())
    config = replace(config, student=config.student or default_student(config, labels))
    if config.student_engine == "native" and parse_student(config.student or "").joint:
        raise ConfigError(f"--student-engine native runs no joint student: leave --student {config.student} away")
    asked = {one.name: getattr(config, one.name) for one in fields(config) if one.name not in NOT_IDENTITY}
    identity = asked | {
        "student_precision": config.chosen_student_precision,
        "class_names": labels.to_dict(),
        "teacher": absolute_checkpoint(config.teacher),
        "training_arguments": arguments,
    }
    claim(config.output, "annotate", identity)
    ingest = ingest_corpus(config, config.unit_rows or DEFERRAL_UNIT_ROWS)
    plan = make_plan(
        ingest.kept,
        min_agreement=config.min_agreement,
        alpha=config.alpha,
        judging_rows=config.judging_rows,
        first_rows=config.first_rows,
    )
    _check_never_saw_proof(config, plan)

    def sample(number: int, trained: int) -> Sample:
        return _sample(config, arguments, plan, number, _sampled(config, plan, ingest, trained, reviewed), trained)

    samples = [sample(0, plan.first)]
    while (trained := next_trained(samples, plan, config.growth)) is not None:
        samples.append(sample(len(samples), trained))
    last = _folder(config, len(samples) - 1)
    final = storage.join(storage.resolve(config.output).uri, FINAL)
    say(f"annotate: sample {len(samples) - 1} is enough: its pilot rows are taught, too")
    distill(_distill_config(config, last, final, plan.proof), arguments)
    corpus = Corpus(rows=plan.corpus_rows, known=samples[-1].rows)
    # Reviewed rows that were pilot rows calibrate here for the first time, and may be what it takes to mix logits.
    mixed = card_recipe(read_card(student_directory(final))).mixing is not None
    asked_of = _predict_config(config, final, last, None if mixed else samples[-1].shortlist)
    manifest = predict(asked_of, proof=plan.proof, corpus=corpus, reviewed=reviewed)
    summary = _summary(config, manifest, samples, hypotheses=len(labels.hypotheses))
    if manifest.get("annotation") != summary:
        manifest |= {"annotation": summary}
        write_json(storage.join(config.output, MANIFEST), manifest)
    return manifest


def default_student(config: AnnotateConfig, labels: LabelSet) -> str:
    """A joint student, which needs the fewest rows, where it can be cut from the teacher; else as in `zsd distill`."""
    if config.teacher not in BUNDLED_TEACHERS or config.student_engine == "native":  # which runs no joint student
        return default_encoder(config.teacher)
    tokenizer = load_tokenizer(teacher_checkpoint(config.teacher))
    try:
        class_prompt(tokenizer, labels.names, max_length=tokenizer.model_max_length)
    except StudentError as error:
        say(f"annotate: no joint student: {error}: this is done here")
        return default_encoder(config.teacher)
    return JOINT_STUDENT


def _check_never_saw_proof(config: AnnotateConfig, plan: Plan) -> None:
    """Refuse to go on from a student that was trained on rows which are to prove the bound."""
    card = earlier_student(config.student or "")
    if card is not None and card["heldout"]["fraction"] < plan.proof:
        raise ConfigError(
            f"--student {config.student}: held {card['heldout']['fraction']:.2%} of the rows out of its training, and "
            f"{plan.proof:.2%} must judge it here: give a student with a larger --heldout-fraction, or fewer "
            "--judging-rows"
        )


def _folder(config: AnnotateConfig, number: int) -> str:
    return storage.join(storage.resolve(config.output).uri, SAMPLES, str(number))


def _sample(
    config: AnnotateConfig,
    arguments: dict[str, Any],
    plan: Plan,
    number: int,
    sampled: Iterator[pa.Table],
    trained: int,
) -> Sample:
    """Label a sample, train its student, and look at the pilot rows."""
    record, folder = f"{_folder(config, number)}.json", _folder(config, number)
    if storage.exists(record):
        return Sample(**read_json(record))
    rows = storage.join(config.output, SAMPLES, f"rows-{number}.parquet")
    if not storage.exists(rows):
        storage.write_table_atomic(rows, pa.concat_tables(sampled))
    before = (_folder(config, number - 1),) if number else ()
    manifest = label(_label_config(config, rows, folder, before))
    distill(_distill_config(config, folder, folder, plan.heldout), arguments)
    directory = student_directory(folder)
    student = load_student(directory, engine=config.student_engine, precision=config.student_precision)
    card = read_card(directory)
    pilot = heldout_rows(Store(folder), card, above=plan.proof)
    promised = outlook(
        student.predict(pilot.texts),
        pilot.probs,
        multi_label=student.multi_label,
        risk=plan.risk(manifest["rows"]),
        some_classes=card_recipe(card).mixing is None,
    )
    sample = Sample(rows=manifest["rows"], trained=trained, **asdict(promised))
    write_json(record, asdict(sample))
    say(
        f"annotate: sample {number}: {sample.rows:,} of {plan.corpus_rows:,} rows labelled by the teacher; the student "
        f"agrees on {sample.agreement:.1%} of {len(pilot.texts):,} pilot rows and would defer {sample.deferred:.1%}: "
        f"in all as many pairs as {sample.total(plan):,.0f} rows have"
    )
    return sample


def _sampled(
    config: AnnotateConfig, plan: Plan, ingest: IngestResult, trained: int, reviewed: frozenset[str]
) -> Iterator[pa.Table]:
    """The rows of a sample: the held-out ones, so many of the others, and all that a person has reviewed.

    A student that has learned a person's label of a row answers that row unlike one it has not seen: the teacher does.
    """
    share = plan.trained_share(trained)
    for shard in ingest.shards:
        place = storage.resolve(storage.join(config.output, "corpus", shard.name))
        with place.fs.open_input_file(place.path) as file:
            for batch in pq.ParquetFile(file).iter_batches(columns=["id", "text"]):
                ids = batch.column("id").to_pylist()
                wanted_N = heldout_mask(ids, plan.heldout) | sample_mask(ids, share)
                if reviewed:
                    wanted_N |= np.array([text in reviewed for text in batch.column("text").to_pylist()])
                yield pa.Table.from_batches([batch]).filter(pa.array(wanted_N))


def _label_config(config: AnnotateConfig, rows: str, folder: str, before: tuple[str, ...]) -> LabelConfig:
    asked = shared_options(config, LabelConfig)
    return LabelConfig(
        **asked
        | {
            "data": (rows,),
            "output": folder,
            "text_column": "text",
            "id_column": "id",
            "limit": None,
            "unit_rows": None,
            "min_agreement": ENGINE_AGREEMENT,
            "reuse": (*before, *config.reuse),
        }
    )


def _distill_config(config: AnnotateConfig, store: str, output: str, heldout: float) -> DistillConfig:
    asked = shared_options(config, TrainingChoices)
    return DistillConfig(
        **asked, soft_labels=store, output=output, heldout_fraction=heldout, ray_address=config.ray_address
    )


def _predict_config(config: AnnotateConfig, model: str, store: str, shortlist: int | None) -> PredictConfig:
    asked = shared_options(config, CorpusConfig)
    return PredictConfig(
        **asked,
        model=model,
        soft_labels=store,
        engine=config.student_engine,
        precision=config.student_precision,
        defer_to="teacher",
        min_agreement=config.min_agreement,
        alpha=config.alpha,
        teacher_engine=config.engine,
        shortlist=shortlist,
    )


def _summary(
    config: AnnotateConfig, manifest: dict[str, Any], samples: list[Sample], *, hypotheses: int
) -> dict[str, Any]:
    """What was paid, and what labelling every row would have cost."""
    sampled = sum(int(Store(_folder(config, number)).manifest["pairs"]) for number in range(len(samples)))
    full, paid = manifest["rows"] * hypotheses, sampled + manifest["teacher_pairs"]
    return {
        "samples": [asdict(sample) for sample in samples],
        "sample_pairs": sampled,
        "deferred_pairs": manifest["teacher_pairs"],
        "teacher_pairs": paid,
        "full_pass_pairs": full,
        "pairs_saved": full - paid,
        "times_fewer": round(full / max(1, paid), 2),
        "agreement_bound": manifest["deferral"]["agreement_bound"],
        "alpha": config.alpha,
    }
