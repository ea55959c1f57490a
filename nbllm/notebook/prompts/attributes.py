"""The attributes that a prompt may read, without running properties or ``__getattr__``.

Of listed types a few that are data; of all other objects what stands in the object itself:
``vars(obj)``, slots, fields of named tuples, and plain values of its class.
"""

from __future__ import annotations

import argparse
import dataclasses
import enum
import pathlib
import types
from collections import namedtuple
from collections.abc import Collection, Mapping
from typing import Any

from nbllm.core.results import GenerationResult, Timings, TokenCount, Usage
from nbllm.notebook.prompts.evaluation import Budget, Refused
from nbllm.notebook.prompts.plain_data import weigh_scalar
from nbllm.notebook.prompts.table_methods import Groups, groups_item
from nbllm.notebook.prompts.table_reads import (
    NAMES,
    Accessor,
    accessor_attribute,
    accessor_of,
    table_attribute,
)
from nbllm.notebook.prompts.value_kinds import (
    class_attribute,
    is_stdlib,
    kind_of,
    mro_of,
    type_name,
    words,
)

__all__ = ["attribute", "fields_of", "instance_data"]

_TABLES = ("array", "index", "series", "frame")
_LISTED = {
    "number": words("real imag numerator denominator"),
    "time": words(
        "year month day hour minute second microsecond nanosecond days seconds microseconds "
        "dayofweek dayofyear quarter week"
    ),
    "range": words("start stop step"),
}
_PATHS = (
    *(pathlib.PurePosixPath, pathlib.PureWindowsPath, pathlib.PosixPath, pathlib.WindowsPath),
)
_PATH = words("name stem suffix suffixes parent parts anchor")
_RESULTS: Mapping[type, Collection[str]] = {
    GenerationResult: words(
        "text reasoning tool_calls model finish_reason raw_finish_reason refusal usage timings "
        "device seed notes tokens_per_second"
    ),
    Timings: frozenset(field.name for field in dataclasses.fields(Timings)),
    TokenCount: words("tokens exact"),
    Usage: frozenset(field.name for field in dataclasses.fields(Usage)) | {"total_tokens"},
}
"""What is read of nbllm's own values: not ``value``, which runs the code of a schema's class."""
_OneField = namedtuple("_OneField", "field")
"""A sample, for what ``namedtuple`` makes of a field and writes as a text."""
_NAMED_TUPLES_FILE: str = _OneField.__repr__.__code__.co_filename
_GENERATED = type(vars(_OneField)["field"])
_NAMESPACES = (types.SimpleNamespace, argparse.Namespace)
_ABSENT = object()
_DESCRIPTORS = (types.GetSetDescriptorType, types.MemberDescriptorType)
_DICT = type.__dict__["__dict__"]
_ATTRIBUTES_A_STEP = 10


def attribute(value: Any, name: str, budget: Budget) -> Any:
    """``value.name``. Raises ``Refused`` for what is not listed, and ``AttributeError``."""
    if name.startswith("_"):
        raise Refused(f"the attribute {name} is not read in a prompt")
    if type(value) is Groups:
        return groups_item(value, name, budget)
    if type(value) is Accessor:
        return accessor_attribute(value, name)
    kind = kind_of(value)
    if kind == "series" and name in NAMES:
        return accessor_of(value, name, budget)
    if kind in _TABLES:
        return table_attribute(value, name, budget)
    if kind in _LISTED and name in _LISTED[kind]:
        if kind != "range":
            weigh_scalar(value)
        return getattr(value, name)
    if any(type(value) is each for each in _PATHS) and name in _PATH:
        return getattr(value, name)
    if any(type(value) is each and name in names for each, names in _RESULTS.items()):
        return getattr(value, name)
    if kind:
        raise Refused(
            f"{type_name(value)}.{name} is not read in a prompt; assign it to a variable first"
        )
    return instance_data(value, name, budget)


def instance_data(value: Any, name: str, budget: Budget) -> Any:
    """What an object holds as ``name``, without asking its code."""
    is_member = any(base is enum.Enum for base in mro_of(type(value)))
    if is_member and name in ("name", "value"):
        name = f"_{name}_"
    elif is_stdlib(type(value)) and not any(type(value) is each for each in _NAMESPACES):
        raise Refused(
            f"a {type_name(value)} is not read in a prompt; put what you need of it into "
            "a variable first"
        )
    held = instance_dict(value, budget)
    on_class = class_attribute(type(value), name, _ABSENT)
    if type(on_class) is types.MemberDescriptorType or type(on_class) is _GENERATED:
        return on_class.__get__(value, type(value))
    if class_attribute(type(on_class), "__set__") is not None or (
        name not in held and class_attribute(type(on_class), "__get__") is not None
    ):
        raise Refused(
            f"{type_name(value)}.{name} is computed by its class; assign it to a variable first"
        )
    if name in held:
        return held[name]
    if on_class is _ABSENT and class_attribute(type(value), "__getattr__") is not None:
        raise Refused(
            f"{type_name(value)}.{name} would be computed by its class; assign it to a variable "
            "first"
        )
    if on_class is _ABSENT:
        raise AttributeError(f"{type_name(value)!r} object has no attribute {name!r}")
    return on_class


def instance_dict(value: Any, budget: Budget) -> dict[str, Any]:
    """``vars(value)``; empty where there is none, or where a class puts its own in its place."""
    for cls in mro_of(type(value)):
        descriptor = _DICT.__get__(cls).get("__dict__")
        if descriptor is None:
            continue
        if not any(type(descriptor) is each for each in _DESCRIPTORS):
            return {}
        held = descriptor.__get__(value, type(value))
        if type(held) is not dict:
            return {}
        budget.spend(len(held) // _ATTRIBUTES_A_STEP)
        return held if all(type(each) is str for each in held) else {}
    return {}


def fields_of(value: Any, budget: Budget) -> list[tuple[str, Any]] | None:
    """The fields that a dataclass, named tuple or namespace shows in its text; None of all else.

    Only where the text is the one that Python generates: a class with a text of its own has it.
    """
    if any(type(value) is each for each in _NAMESPACES):
        return list(instance_dict(value, budget).items())
    written = class_attribute(type(value), "__repr__")
    if class_attribute(type(value), "__str__") is not object.__str__:
        return None
    names = _shown_fields(value, written)
    if names is None:
        return None
    return [(name, instance_data(value, name, budget)) for name in names]


def _shown_fields(value: Any, written: Any) -> list[str] | None:
    if type(written) is not types.FunctionType:
        return None
    if written.__code__.co_filename == _NAMED_TUPLES_FILE:
        names = class_attribute(type(value), "_fields")
        return list(names) if type(names) is tuple else None
    generated = written.__dict__.get("__wrapped__")
    known = class_attribute(type(value), "__dataclass_fields__")
    is_generated = (
        type(generated) is types.FunctionType and generated.__code__.co_filename == "<string>"
    )
    if not is_generated or type(known) is not dict:
        return None
    return [
        name for name, field in known.items() if type(field) is dataclasses.Field and field.repr
    ]
