"""A checkpoint's weights as the kernels read them: bf16 in panels of tiles, the rest in fp32, all padded to 32.

A weight W [K, N] (inputs by outputs) is stored as panels of 32 columns, each panel as steps of 32 rows, each step as
two tiles of 16 columns, each tile as 16 pairs of rows, side by side: [N / 32, K / 32, 2, 16, 16, 2].

Legend: H hidden size, A size of all heads, D of one, I inner size, all padded to 32; C classes.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from zsd.errors import EngineError
from zsd.joint_encoder import is_joint

CHUNK = 384
"""Rows of the feed-forward block's second weight that are stored together; the kernels are compiled for it."""

GELUS = ("gelu", "gelu_python")


class LayerStruct(ctypes.Structure):
    """``Layer`` of ``encoder.cpp``."""

    _fields_ = [
        (name, ctypes.c_void_p)
        for name in (
            *("qkv", "qkv_bias", "out", "out_bias", "norm1_weight", "norm1_bias"),
            *("up", "up_bias", "down", "down_bias", "norm2_weight", "norm2_bias"),
        )
    ]


class ModelStruct(ctypes.Structure):
    """``Model`` of ``encoder.cpp``."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("layers", "hidden", "H", "heads", "D", "I")),
        *((name, ctypes.c_int64) for name in ("first_place", "pad", "has_types", "classes", "head_activation")),
        ("epsilon", ctypes.c_double),
        *((name, ctypes.c_void_p) for name in ("words", "places", "types", "norm_weight", "norm_bias")),
        *((name, ctypes.c_void_p) for name in ("head_weight", "head_bias", "class_weight", "class_bias")),
        ("layer", ctypes.POINTER(LayerStruct)),
    ]


@dataclass(frozen=True, kw_only=True)
class Family:
    """Where an architecture keeps its tensors, by the names of the kernels'; those of a layer below ``layers``.

    Attributes:
        activation: key of config.json that names the feed-forward block's.
        relu: the classifier's dense layer has it; else tanh.
        first_place: the first token's position after that of padding; positions begin at 0 where None.
    """

    layers: str
    queries: str
    keys: str
    values: str
    out: str
    norm1: str
    up: str
    down: str
    norm2: str
    dense: str
    classes: str
    activation: str = "hidden_act"
    relu: bool = False
    first_place: int | None = None


BERT = Family(
    layers="encoder.layer",
    queries="attention.self.query",
    keys="attention.self.key",
    values="attention.self.value",
    out="attention.output.dense",
    norm1="attention.output.LayerNorm",
    up="intermediate.dense",
    down="output.dense",
    norm2="output.LayerNorm",
    dense="bert.pooler.dense",
    classes="classifier",
)
ROBERTA = replace(BERT, dense="classifier.dense", classes="classifier.out_proj", first_place=1)
FAMILIES = {
    "bert": BERT,
    **dict.fromkeys(("roberta", "xlm-roberta", "camembert"), ROBERTA),
    "distilbert": Family(
        layers="transformer.layer",
        queries="attention.q_lin",
        keys="attention.k_lin",
        values="attention.v_lin",
        out="attention.out_lin",
        norm1="sa_layer_norm",
        up="ffn.lin1",
        down="ffn.lin2",
        norm2="output_layer_norm",
        dense="pre_classifier",
        classes="classifier",
        activation="activation",
        relu=True,
    ),
}
"""By type of model, which config.json tells."""


class Packed:
    """What `pack` makes; it owns the memory that the structs point to.

    Attributes:
        model: to be given to the kernels.
        classes: C.
        words: size of the vocabulary.
        longest: tokens of the longest sequence.
        types: kinds of tokens; 0 where the model tells none apart.
    """

    def __init__(self) -> None:
        self.model = ModelStruct()
        self._layers: Any = None
        self._kept: list[torch.Tensor] = []
        self.classes = self.words = self.longest = self.types = 0

    def begin(self, layers: int) -> list[LayerStruct]:
        """The layers' structs, to be filled."""
        self._layers = (LayerStruct * layers)()
        self.model.layer = ctypes.cast(self._layers, ctypes.POINTER(LayerStruct))
        return list(self._layers)

    def put(self, struct: ctypes.Structure, **tensors: torch.Tensor) -> None:
        """Point a struct to tensors, which are kept."""
        for name, tensor in tensors.items():
            kept = tensor.contiguous()
            self._kept.append(kept)
            setattr(struct, name, kept.data_ptr())


def fits(config: Any) -> bool:
    """Whether the kernels run a classifier of such a configuration: BERT, RoBERTa or DistilBERT, with exact GELU."""
    family = FAMILIES.get(config.model_type)
    if family is None or is_joint(config) or getattr(config, "is_decoder", False):
        return False
    return getattr(config, family.activation) in GELUS


def check_fits(config: Any) -> None:
    """Refuse what `fits` says the kernels do not run.

    Raises:
        EngineError: it is such a one.
    """
    if not fits(config):
        of = "a joint student" if is_joint(config) else f"{config.model_type} with {_activation(config)}"
        raise EngineError(
            f"the native engine runs BERT, RoBERTa and DistilBERT with GELU whose first token is read, not {of}: use "
            "another --engine"
        )


def _activation(config: Any) -> str:
    keys = ("hidden_act", "activation", "hidden_activation")
    return next((str(getattr(config, key)) for key in keys if getattr(config, key, None)), "no known activation")


def pack(model: Any) -> Packed:
    """The weights, in fp32, of a classifier that `fits` for the kernels."""
    config = model.config
    state = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    return _packed(state, config, FAMILIES[config.model_type], f"{model.base_model_prefix}.")


def _packed(state: Mapping[str, torch.Tensor], config: Any, family: Family, prefix: str) -> Packed:
    packed = Packed()
    hidden, heads = int(config.hidden_size), int(config.num_attention_heads)
    head = hidden // heads
    embeddings = f"{prefix}embeddings."
    words, places = (state[f"{embeddings}{name}_embeddings.weight"] for name in ("word", "position"))
    types = state.get(f"{embeddings}token_type_embeddings.weight")
    if types is not None and len(types) == 1:  # RoBERTa: a constant
        places, types = places + types[0], None
    first_place = 0 if family.first_place is None else int(config.pad_token_id) + family.first_place
    dense, classes = state[f"{family.dense}.weight"], state[f"{family.classes}.weight"]
    down_name = f"{prefix}{family.layers}.{{}}.{family.down}.weight"
    struct = packed.model
    struct.layers, struct.hidden, struct.heads = int(config.num_hidden_layers), hidden, heads
    struct.H, struct.D, struct.I = _padded(hidden), _padded(head), _padded(state[down_name.format(0)].shape[1])
    struct.first_place, struct.has_types = first_place, types is not None
    struct.pad = -1 if family.first_place is None else int(config.pad_token_id)
    struct.classes, struct.head_activation = len(classes), family.relu
    struct.epsilon = float(getattr(config, "layer_norm_eps", 1e-12))
    packed.classes, packed.words = len(classes), len(words)
    packed.longest, packed.types = len(places) - first_place, 0 if types is None else len(types)
    packed.put(
        struct,
        words=_wide(words),
        places=_wide(places),
        **({} if types is None else {"types": _wide(types)}),
        norm_weight=_wide(state[f"{embeddings}LayerNorm.weight"]),
        norm_bias=_wide(state[f"{embeddings}LayerNorm.bias"]),
        head_weight=_wide(_wide(dense).T).T,
        head_bias=_wide(state[f"{family.dense}.bias"]),
        class_weight=_wide(classes),
        class_bias=state[f"{family.classes}.bias"],
    )
    for number, layer in enumerate(packed.begin(struct.layers)):
        _put_layer(packed, layer, state, f"{prefix}{family.layers}.{number}.", family, heads)
    return packed


def _put_layer(
    packed: Packed, layer: LayerStruct, state: Mapping[str, torch.Tensor], prefix: str, family: Family, heads: int
) -> None:
    def both(name: str) -> tuple[torch.Tensor, torch.Tensor]:
        return state[f"{prefix}{name}.weight"].T, state[f"{prefix}{name}.bias"]

    (queries, queries_bias), (keys, keys_bias), (values, values_bias) = map(
        both, (family.queries, family.keys, family.values)
    )
    scale = math.log2(math.e) / math.sqrt(queries.shape[1] // heads)  # the kernels take powers of two
    out, up, down = both(family.out), both(family.up), both(family.down)
    by_head = [_by_head(one, heads) for one in (queries * scale, keys, values)]
    biases = [_by_head(one[None], heads)[0] for one in (queries_bias * scale, keys_bias, values_bias)]
    down_rows = torch.nn.functional.pad(down[0], (0, 0, 0, -len(down[0]) % 32))
    packed.put(
        layer,
        qkv=panels(torch.cat(by_head, 1)),
        qkv_bias=torch.cat(biases),
        out=panels(_by_head(out[0].T, heads).T),
        out_bias=_wide(out[1]),
        up=panels(up[0]),
        up_bias=_wide(up[1]),
        down=torch.cat([panels(rows).flatten() for rows in torch.split(down_rows, CHUNK)]),
        down_bias=_wide(down[1]),
    )
    for number, name in enumerate((family.norm1, family.norm2), start=1):
        weight, bias = (_wide(state[f"{prefix}{name}.{kind}"]) for kind in ("weight", "bias"))
        packed.put(layer, **{f"norm{number}_weight": weight, f"norm{number}_bias": bias})


def panels(weight_KN: torch.Tensor) -> torch.Tensor:
    """A weight in bf16 panels, see above: [N / 32, K / 32, 2, 16, 16, 2]."""
    rows, columns = weight_KN.shape
    wide = torch.nn.functional.pad(weight_KN, (0, -columns % 32, 0, -rows % 32)).bfloat16()
    steps = wide.reshape(_padded(rows) // 32, 16, 2, _padded(columns) // 32, 2, 16)
    return steps.permute(3, 0, 4, 1, 5, 2).contiguous()


def _by_head(weight_KA: torch.Tensor, heads: int) -> torch.Tensor:
    """[K, heads * size] to [K, heads * D]: each head padded."""
    apart = weight_KA.reshape(len(weight_KA), heads, -1)
    return _wide(apart).reshape(len(weight_KA), -1)


def _wide(tensor: torch.Tensor) -> torch.Tensor:
    """The last axis padded with zeros."""
    missing = -tensor.shape[-1] % 32
    return torch.nn.functional.pad(tensor, (0, missing)) if missing else tensor


def _padded(size: int) -> int:
    return size + -size % 32
