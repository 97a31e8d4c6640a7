"""Which engines there are, and which precisions each has on which device. Nothing heavy is imported to know it.

To add an engine: one file with a class that follows `zsd.engines.base.Engine`, one entry in `ENGINES` here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from zsd.errors import ConfigError

DRAFT = "draft"
"""A small draft of the teacher first, the teacher itself where a row's answer hangs on it: see `zsd.engines.draft`."""

PRECISIONS = ("fp32", "bf16", "fp16", "int8", DRAFT)
"""What an engine may compute with. int8 and draft only of a teacher for which `zsd compile` made them."""

STUDENT_PRECISIONS = tuple(precision for precision in PRECISIONS if precision != DRAFT)
"""The same of a student, which has no draft."""


@dataclass(frozen=True, kw_only=True)
class Registered:
    """One engine.

    Args:
        module: where its class is.
        class_name: of the class, called with (teacher, placement, precision).
        precisions: by device, the ones it has there; a device that is not named is not one it runs on.
    """

    module: str
    class_name: str
    precisions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


ENGINES: Mapping[str, Registered] = MappingProxyType(
    {
        "torch": Registered(
            module="zsd.engines.torch",
            class_name="TorchEngine",
            precisions={"cpu": ("fp32", "bf16", DRAFT), "cuda": ("fp32", "bf16", "fp16", DRAFT)},
        ),
        "deepsparse": Registered(
            module="zsd.engines.deepsparse", class_name="DeepSparseEngine", precisions={"cpu": ("fp32", "int8")}
        ),
        "openvino": Registered(
            module="zsd.engines.openvino",
            class_name="OpenVINOEngine",
            precisions={"cpu": ("fp32", "bf16", "int8", DRAFT)},
        ),
        "onnxruntime": Registered(
            module="zsd.engines.onnxruntime", class_name="ONNXRuntimeEngine", precisions={"cpu": ("fp32", "int8")}
        ),
        "native": Registered(
            module="zsd.engines.native.engine", class_name="NativeEngine", precisions={"cpu": ("bf16", DRAFT)}
        ),
    }
)
ENGINE_NAMES = tuple(ENGINES)


def find_engine(name: str) -> Registered:
    """The engine of that name.

    Raises:
        ConfigError: there is none.
    """
    if name not in ENGINES:
        raise ConfigError(f"there is no engine {name!r}: use one of auto, {', '.join(ENGINES)}")
    return ENGINES[name]


def precisions_of(name: str, device: str | None = None) -> tuple[str, ...]:
    """The precisions an engine has on a device (none where it does not run there), or on any where None.

    Raises:
        ConfigError: there is no such engine.
    """
    by_device = find_engine(name).precisions
    if device is not None:
        return by_device.get(device, ())
    return tuple(precision for precision in PRECISIONS if any(precision in had for had in by_device.values()))


def refusal(name: str, precision: str, among: Collection[str] = PRECISIONS) -> str | None:
    """Why an option cannot name a precision of an engine; None where it has it.

    Args:
        name: of the engine.
        precision: what was asked for.
        among: what can be asked for there.

    Raises:
        ConfigError: there is no such engine.
    """
    known = [one for one in precisions_of(name) if one in among]
    return None if precision in known else f"{precision!r}: the {name} engine has {', '.join(known)}"


def default_precision(name: str) -> str:
    """What an engine computes with where nothing is said: fp32, or the first that it has.

    Raises:
        ConfigError: there is no such engine.
    """
    return precisions_of(name)[0]


def combinations(device: str = "cpu") -> list[tuple[str, str]]:
    """Every (engine, precision) of a device."""
    return [(name, precision) for name in ENGINES for precision in precisions_of(name, device)]


def check_combination(name: str, precision: str, device: str | None = None) -> None:
    """Refuse what no engine can do, before anything is loaded.

    Raises:
        ConfigError: there is no such engine, or it has no such precision on the device (on any where None).
    """
    known = precisions_of(name, device)
    if precision not in known:
        where = "" if device is None else f" on {device}"
        offered = ", ".join(known) or f"none: use --engine {', '.join(runs_on(device))}"
        raise ConfigError(f"the {name} engine has no precision {precision!r}{where}: it has {offered}")


def runs_on(device: str | None) -> list[str]:
    """Names of the engines that run on a device."""
    return [name for name in ENGINES if precisions_of(name, device)]
