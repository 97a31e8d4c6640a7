"""Encoders that read the class names before the text: each class's logit is taken where its own name stands.

::

    [CLS] the world, sports, business, science/tech [SEP] a text [SEP]
             |          |        |           |
          logit 0    logit 1  logit 2     logit 3

A teacher of natural language inference has learned to compare a text with words that stand beside it; a student that is
cut from it keeps that, and needs fewer rows than one that has to learn each class as a number. All classes are answered
in one pass, as GLiClass does (Stepanov et al. 2025), here with weights of a class's own in the output layer.

On disk it is a token classifier of transformers, with two more keys in config.json: ``class_prompt``, the token ids of
the names, and ``class_places``, where each name's tokens stand in a sequence.

Legend: B rows of a batch, L tokens, K classes, P tokens of the prompt with the special token before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from tokenizers.processors import TemplateProcessing
from transformers import MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING, AutoModelForSequenceClassification
from transformers.modeling_outputs import SequenceClassifierOutput

from zsd.errors import StudentError

PROMPT, PLACES = "class_prompt", "class_places"
BETWEEN = ", "
LARGEST_SHARE = 0.5
"""Of the tokens that the model takes, what the class names may take."""


def is_joint(config: Any) -> bool:
    """Whether a configuration is that of an encoder that reads the class names."""
    return getattr(config, PLACES, None) is not None


@cache
def _joint(plain: type) -> type:
    # The name is written to config.json, and is what others load it as.
    return type(plain.__name__, (_AtClassNames, plain), {})


def classifier_for(config: Any) -> Any:
    """What has ``from_pretrained`` and makes a classifier of texts, ``logits`` [B, K], of a checkpoint.

    Raises:
        StudentError: it reads the class names, and transformers has no token classifier of its architecture.
    """
    if not is_joint(config):
        return AutoModelForSequenceClassification
    if type(config) not in MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING:
        raise StudentError(
            f"transformers has no token classifier for {config.model_type}, which a joint student is: use --student "
            "layers:half"
        )
    return _joint(MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING[type(config)])


class _AtClassNames:
    """Mixed into a token classifier: of its [B, L, K] logits, each class's own where its name stands, averaged."""

    config: Any

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        output_hidden_states: bool | None = None,
    ) -> SequenceClassifierOutput:
        """[B, K] logits of [B, L] token ids that begin with the prompt; the Trainer asks for labels, and keeps them."""
        every = super().forward(  # type: ignore[misc]
            input_ids=input_ids, attention_mask=attention_mask, output_hidden_states=output_hidden_states
        )
        shares_PK = torch.tensor(_shares(self.config.class_places)).to(every.logits)
        read_BPK = every.logits[:, : len(shares_PK)]
        # Nothing shorter than the prompt is a text, but FLOP are counted, and engines tried, on such sequences.
        logits_BK = (read_BPK * shares_PK[: read_BPK.shape[1]]).sum(1)
        return SequenceClassifierOutput(logits=logits_BK, hidden_states=every.hidden_states)


def _shares(places: Sequence[Sequence[int]]) -> list[list[float]]:
    """[P, K] what each position of a sequence contributes to each class's logit."""
    end = 1 + max(max(own) for own in places)
    return [[1 / len(own) if place in own else 0.0 for own in places] for place in range(end)]


def class_prompt(tokenizer: Any, names: Sequence[str], *, max_length: int) -> dict[str, Any]:
    """The keys of a configuration that say what stands before each text, and where each class's name stands there.

    Args:
        tokenizer: fast, with tokens for the beginning and the end of a sequence.
        names: K class names.
        max_length: most tokens of a sequence.

    Raises:
        StudentError: the tokenizer has no such tokens, fills up on the left, knows no part of a name, or the names take
            more than `LARGEST_SHARE` of a sequence.
    """
    if tokenizer.cls_token is None or tokenizer.sep_token is None or tokenizer.padding_side != "right":
        raise StudentError(
            "a joint student needs a tokenizer with [CLS] and [SEP] tokens that pads on the right: use --student "
            "layers:half"
        )
    encoded = tokenizer(BETWEEN.join(names), add_special_tokens=False, return_offsets_mapping=True)
    ids, spans = encoded["input_ids"], encoded["offset_mapping"]
    if len(ids) > LARGEST_SHARE * max_length:
        raise StudentError(
            f"the {len(names)} class names take {len(ids)} of the {max_length} tokens that a joint "
            "student reads: use --student layers:half"
        )
    places, start = [], 0
    for name in names:
        end = start + len(name)
        own = [t for t, (a, b) in enumerate(spans) if a < end and b > start and ids[t] != tokenizer.unk_token_id]
        if not own:
            raise StudentError(
                f"the tokenizer of a joint student knows no part of the class name {name!r}: use --student layers:half"
            )
        places.append([1 + t for t in own])  # after the special token
        start = end + len(BETWEEN)
    return {PROMPT: ids, PLACES: places}


def check_reads_on(model: Any) -> None:
    """See that what stands after the class names is read there.

    Raises:
        StudentError: each token of this architecture reads only those before it (GPT).
    """
    ids = [0, *getattr(model.config, PROMPT)]
    rows_VD = model.get_input_embeddings().weight
    others = (rows_VD != rows_VD[ids[-1]]).any(dim=1).nonzero()
    model.eval()
    with torch.no_grad():  # one by one: the rows of a batch may differ by rounding
        same, other = (model(torch.tensor([[*ids, last]])).logits for last in (ids[-1], int(others[-1])))
    model.train()
    if torch.equal(same, other):
        raise StudentError(
            f"a {model.config.model_type} reads from left to right, so that class names before a text would not know "
            "it: use --student layers:half"
        )


def check_prompt(config: Any) -> None:
    """See that a configuration has a prompt of token ids, and for each class some of its positions.

    Raises:
        StudentError: it is damaged.
    """
    ids, places = getattr(config, PROMPT, None) or [], getattr(config, PLACES)
    if not (
        _numbers(ids, range(config.vocab_size))
        and isinstance(places, list)
        and len(places) == config.num_labels
        and all(_numbers(own, range(1, len(ids) + 1)) for own in places)
    ):
        raise StudentError(
            f"the student's config.json is damaged: {PROMPT} and {PLACES} do not fit each other: make it again"
        )


def _numbers(found: Any, allowed: range) -> bool:
    return isinstance(found, list) and len(found) > 0 and all(type(one) is int and one in allowed for one in found)


def put_prompt(tokenizer: Any, config: Any) -> Any:
    """The tokenizer, which from now on puts the class names before each text where the configuration says so.

    Raises:
        StudentError: the configuration is damaged.
    """
    if is_joint(config):
        first, last = (tokenizer.cls_token, tokenizer.cls_token_id), (tokenizer.sep_token, tokenizer.sep_token_id)
        check_prompt(config)
        ids = list(getattr(config, PROMPT))
        names = {"id": "[CLASSES]", "ids": ids, "tokens": tokenizer.convert_ids_to_tokens(ids)}
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single=f"{first[0]} [CLASSES] {last[0]} $A {last[0]}", special_tokens=[first, last, names]
        )
    return tokenizer
