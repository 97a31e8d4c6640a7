"""Encoder students: a small sequence classifier, cut from the teacher's own layers or taken from any checkpoint.

``layers:N`` copies the teacher's embeddings, N of its layers and what lies between encoder and output layer, and puts
a fresh K-way output layer on top (DistilBERT's initialization, Sanh et al. 2019): it needs no download. ``joint:N``
does so for an encoder that reads the class names before the text (`zsd.joint_encoder`).

Legend: K labels, N layers of the student.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForSequenceClassification

from zsd.encoder_layers import choose_layers, layer_list, renumbered, smaller_config
from zsd.errors import StudentError
from zsd.joint_encoder import check_prompt, check_reads_on, class_prompt, classifier_for, is_joint, put_prompt
from zsd.quiet import quiet_transformers
from zsd.students.checkpoint import from_pretrained, load_tokenizer
from zsd.students.folder import checkpoint_here
from zsd.students.spec import Layers, StudentSpec
from zsd.teachers.nli import model_max_length


def build_student(
    spec: StudentSpec, *, teacher: str | Path | None, names: Sequence[str], multi_label: bool, seed: int
) -> tuple[Any, Any]:
    """An untrained student in float32 and its tokenizer.

    Args:
        spec: what to build.
        teacher: checkpoint directory (or hub name) of the teacher; needed for ``layers:`` and ``joint:`` only.
        names: K class names, in order; they become ``id2label``.
        multi_label: sets ``problem_type``, so that a plain transformers pipeline applies sigmoid instead of softmax.
        seed: the fresh weights depend on nothing else.

    Returns:
        ``(model, tokenizer)``; ``tokenizer.model_max_length`` is what the model really takes.

    Raises:
        StudentError: there is no such checkpoint, it lacks weights of its encoder, it is no encoder that can be cut
            into layers, or it has too few; it cannot read these class names.
    """
    names = list(names)
    head: dict[str, Any] = {
        "num_labels": len(names),
        "id2label": dict(enumerate(names)),
        "label2id": {name: k for k, name in enumerate(names)},
        "problem_type": "multi_label_classification" if multi_label else "single_label_classification",
    }
    with quiet_transformers(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if spec.checkpoint is not None:
            source = checkpoint_here(spec.checkpoint)
            tokenizer = load_tokenizer(source)
            model = _from_checkpoint(source, head, names, tokenizer)
        elif teacher is not None:
            source = str(teacher)
            tokenizer = load_tokenizer(source)
            model = _from_layers(source, spec, head, tokenizer)
        else:
            raise StudentError("--student layers: and joint: need the teacher's checkpoint to copy from: none is given")
    put_prompt(tokenizer, model.config)
    if tokenizer.pad_token_id is None:
        raise StudentError(f"student {source!r}: its tokenizer has no padding token; name another checkpoint")
    tokenizer.model_max_length = model_max_length(tokenizer, model.config)
    return model, tokenizer


def _from_checkpoint(source: str, head: dict[str, Any], names: list[str], tokenizer: Any) -> Any:
    config = from_pretrained(AutoConfig, source)
    own = config.id2label
    if is_joint(config):
        check_prompt(config)
        head = head | class_prompt(tokenizer, names, max_length=model_max_length(tokenizer, config))
    model, found = from_pretrained(
        classifier_for(config),
        source,
        ignore_mismatched_sizes=True,
        output_loading_info=True,
        dtype=torch.float32,
        **head,
    )
    inside = f"{model.base_model_prefix}."
    unfit = sorted({*found["missing_keys"], *(name for name, *_ in found["mismatched_keys"])})
    lost = [name for name in unfit if name.startswith(inside) and ".pooler." not in name]
    if lost:
        raise StudentError(
            f"student {source!r}: its weights hold no {lost[0]} that fits its config.json ({len(lost)} such): a "
            "student would start from chance there: name another checkpoint with --student"
        )
    if [own.get(k) for k in range(len(own))] != names:
        _reset_output_layer(model, source)
    return model


def _from_layers(source: str, spec: StudentSpec, head: dict[str, Any], tokenizer: Any) -> Any:
    teacher = from_pretrained(AutoModelForSequenceClassification, source, dtype=torch.float32)
    if is_joint(teacher.config):
        raise StudentError(f"teacher {source!r} is a joint student: name a teacher")
    path, total = _layer_list(teacher, source)
    wanted = _layer_count(spec.layers or "half", total)
    if wanted > total:
        kind = "joint" if spec.joint else "layers"
        raise StudentError(f"--student {kind}:{wanted}: teacher {source!r} has only {total} layers")
    kept = choose_layers(total, wanted)
    if spec.joint:
        longest = model_max_length(tokenizer, teacher.config)
        head = head | class_prompt(tokenizer, list(head["label2id"]), max_length=longest)
    config = smaller_config(teacher.config, kept, total)
    for key, value in head.items():
        setattr(config, key, value)
    auto = classifier_for(config)
    model = auto(config).float() if spec.joint else auto.from_config(config, dtype=torch.float32)
    output, own = _output_layer(model, source), model.state_dict()
    fresh = {f"{output}.weight", f"{output}.bias"}
    state = {name: tensor for name, tensor in renumbered(teacher.state_dict(), path, kept) if name not in fresh}
    if spec.joint:  # what the teacher reads its one token with has no place there
        state = {name: tensor for name, tensor in state.items() if name in own}
    missing, unexpected = model.load_state_dict(state, strict=False)
    if unexpected or not set(missing) <= fresh:
        raise StudentError(
            f"teacher {source!r} ({config.model_type}) cannot be cut into layers: {(unexpected or missing)[0]} does "
            "not fit the smaller model; name a checkpoint with --student"
        )
    _reset_output_layer(model, source)
    if spec.joint:
        check_reads_on(model)
    return model


def _layer_count(layers: Layers, total: int) -> int:
    if layers == "all":
        return total
    return (total + 1) // 2 if layers == "half" else layers


def _layer_list(model: Any, source: str) -> tuple[str, int]:
    """Name and length of the one list of encoder layers."""
    try:
        return layer_list(model)
    except ValueError as error:
        raise StudentError(
            f"teacher {source!r} ({model.config.model_type}) {error}, so no student can be cut from it: name a "
            "checkpoint with --student"
        ) from None


def _output_layer(model: Any, source: str) -> str:
    """Name of the linear layer that makes the logits: the last one outside the encoder."""
    inside = f"{model.base_model_prefix}."
    linear: list[str] = [n for n, m in model.named_modules() if isinstance(m, nn.Linear) and not n.startswith(inside)]
    if not linear or model.get_submodule(linear[-1]).out_features != model.config.num_labels:
        raise StudentError(
            f"student {source!r} ({model.config.model_type}): cannot find the layer that makes its logits; "
            "name another checkpoint with --student"
        )
    return linear[-1]


def _reset_output_layer(model: Any, source: str) -> None:
    layer = model.get_submodule(_output_layer(model, source))
    nn.init.normal_(layer.weight, std=getattr(model.config, "initializer_range", 0.02))
    if is_joint(model.config):  # at first a class is known by its name alone
        layer.weight.data[:] = layer.weight.data[0].clone()
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
