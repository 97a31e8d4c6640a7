"""Tiny random checkpoints of several model families with tokenizers of their own, made on the spot: no network."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertTokenizer,
    DebertaV2Tokenizer,
    DistilBertTokenizer,
    PreTrainedTokenizerFast,
    RobertaTokenizer,
)

from zsd.assets import bundled_teacher_path
from zsd.quiet import quiet_transformers
from zsd.students.checkpoint import save_student

LAYERS = 6
TINY = {"vocab_size": 30522, "num_labels": 3, "pad_token_id": 0}
SIZES = {"hidden_size": 16, "num_hidden_layers": LAYERS, "num_attention_heads": 2, "intermediate_size": 24}
FAMILIES: dict[str, dict[str, Any]] = {
    "bert": SIZES,
    "roberta": {**SIZES, "max_position_embeddings": 66},
    "electra": {**SIZES, "embedding_size": 8},
    "distilbert": {"dim": 16, "n_layers": LAYERS, "n_heads": 2, "hidden_dim": 24},
    "deberta-v2": {
        **SIZES,
        "relative_attention": True,
        "pos_att_type": ["p2c", "c2p"],
        "position_buckets": 8,
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
        "conv_kernel_size": 3,
    },
    "modernbert": {
        **SIZES,
        "layer_types": ["full_attention", "sliding_attention", "sliding_attention"] * 2,
        "bos_token_id": 101,
        "eos_token_id": 102,
        "cls_token_id": 101,
        "sep_token_id": 102,
    },
}
SHALLOW: dict[str, dict[str, Any]] = {
    "distilbert": {"n_layers": 2},
    "modernbert": {"num_hidden_layers": 2, "layer_types": ["full_attention", "sliding_attention"]},
}
NLI_3 = ("entailment", "neutral", "contradiction")
NLI_2 = ("entailment", "not_entailment")
LINES = (
    "This text is about sports.",
    "This example is about business, and that one is not.",
    "A goal in stoppage time! The late winner sent them top.",
    "naïve café – 42% 日本",
    "Shares fell after the central bank raised its rate.",
)


def tiny_checkpoint(directory: Path, family: str, **settings: Any) -> Path:
    """A random model of a family with the bundled tokenizer, saved as a checkpoint."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **{**TINY, **FAMILIES.get(family, {}), **settings})
    save_student(
        AutoModelForSequenceClassification.from_config(config),
        AutoTokenizer.from_pretrained(bundled_teacher_path()),
        directory,
    )
    return directory


def tiny_teacher(
    directory: Path, family: str = "bert", *, classes: Sequence[str] = NLI_3, positions: int = 64, **settings: Any
) -> Path:
    """A random NLI model of a family with a tokenizer of that family, whose logits differ clearly from text to text."""
    torch.manual_seed(0)
    tokenizer = tiny_tokenizer(family)
    offset = 2 if family == "roberta" else 0
    ids = {name: getattr(tokenizer, name) for name in ("pad_token_id", "cls_token_id", "sep_token_id")}
    config = AutoConfig.for_model(
        family,
        **{
            **FAMILIES[family],
            **SHALLOW.get(family, {"num_hidden_layers": 2}),
            **ids,
            "bos_token_id": ids["cls_token_id"],
            "eos_token_id": ids["sep_token_id"],
            "vocab_size": len(tokenizer),
            "max_position_embeddings": positions + offset,
            "id2label": dict(enumerate(classes)),
            "label2id": {name: column for column, name in enumerate(classes)},
            "initializer_range": 0.3,
            **settings,
        },
    )
    with quiet_transformers():
        AutoModelForSequenceClassification.from_config(config).save_pretrained(directory)
        tokenizer.save_pretrained(directory)
    return directory


@cache
def tiny_tokenizer(family: str) -> Any:
    """A tokenizer of the family's own kind, trained on a few lines."""
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    if family in ("bert", "electra", "distilbert"):
        vocab = _trained(models.WordPiece(unk_token="[UNK]"), specials)["vocab"]
        return (DistilBertTokenizer if family == "distilbert" else BertTokenizer)(vocab=vocab)
    if family == "deberta-v2":
        pieces = [(piece, score) for piece, score in _trained(models.Unigram(), specials)["vocab"]]
        return DebertaV2Tokenizer(vocab=pieces, unk_id=1)
    if family == "roberta":
        bpe = _trained(models.BPE(), ["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
        return RobertaTokenizer(vocab=bpe["vocab"], merges=[tuple(pair) for pair in bpe["merges"]])
    if family == "modernbert":
        return _modernbert_tokenizer(specials)
    raise ValueError(family)


def _trained(model: Any, specials: list[str]) -> Any:
    """The model part of a tokenizer trained on `LINES`, as its JSON says it."""
    tokenizer = Tokenizer(model)
    if isinstance(model, models.WordPiece):
        tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
        trainer: Any = trainers.WordPieceTrainer(vocab_size=160, special_tokens=specials, show_progress=False)
    elif isinstance(model, models.Unigram):
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(
            vocab_size=100, special_tokens=specials, unk_token="[UNK]", show_progress=False
        )
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        trainer = trainers.BpeTrainer(
            vocab_size=340,
            special_tokens=specials,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
    tokenizer.train_from_iterator(LINES * 3, trainer)
    return json.loads(tokenizer.to_str())["model"]


def _modernbert_tokenizer(specials: list[str]) -> Any:
    """Byte-level BPE between [CLS] and [SEP], without token types, as ModernBERT has it."""
    from tokenizers import decoders, processors

    bpe = _trained(models.BPE(), specials)
    tokenizer = Tokenizer(models.BPE(vocab=bpe["vocab"], merges=[tuple(pair) for pair in bpe["merges"]]))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_input_names=["input_ids", "attention_mask"], **names
    )
