"""Plain data: values of which every part is of a listed type, and what their size is.

Operators, functions and methods are given plain data only, so that they can run no code but
Python's own, numpy's and pandas'.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nbllm.notebook.prompts.cell_checks import TABLES, weigh_table
from nbllm.notebook.prompts.limits import INT_BITS, TEXT_CHARACTERS, VALUE_STEPS, Budget, Refused
from nbllm.notebook.prompts.scalars import TEXT_A_STEP, key, too_large, weigh_scalar
from nbllm.notebook.prompts.value_kinds import kind_of, type_name

__all__ = ["check_keys", "items", "length", "weigh"]

_DEPTH = 30
_COMMON_KEYS = frozenset(map(id, (str, int, float, bool, type(None))))
_KEYS_A_STEP = 10


def weigh(value: Any, budget: Budget) -> int:
    """How many elements an operation on ``value`` may have to look at, at all depths.

    Raises ``Refused`` for what is no plain data, or too large to compute with. What is nested in
    two places counts twice, as it costs twice.
    """
    known = budget.weights.get(id(value))
    if known is not None:
        return known[1]
    weight = _weigh_parts(value, budget)
    if weight > 1:
        budget.weights[id(value)] = (value, weight)
    return weight


def _weigh_parts(value: Any, budget: Budget) -> int:
    waiting, weight = [(value, 0)], 0
    while waiting:
        each, depth = waiting.pop()
        parts = _parts(each)
        if parts is None:
            leaf = _weigh_leaf(each, budget)
            if leaf > 1:  # one was counted with its container
                budget.spend(leaf - 1)
            weight += leaf
        elif depth == _DEPTH:
            raise Refused(f"the {type_name(value)} is nested too deeply to compute with")
        else:
            budget.spend(1 + len(parts))
            alike = _weigh_alike(parts)
            weight += 1 + (alike or 0)
            waiting += [(part, depth + 1) for part in parts] if alike is None else []
        if weight + len(waiting) > VALUE_STEPS:
            raise too_large(value)
    return weight


def _weigh_alike(parts: Sequence[Any]) -> int | None:
    """The weight of many elements of one common type, in a fraction of the time; else None."""
    types = {id(type(each)) for each in parts}
    if types == {id(float)} or types == {id(bool)}:
        return len(parts)
    if types == {id(int)} and max(max(parts), -min(parts)).bit_length() <= INT_BITS:
        return len(parts)
    if types == {id(str)} and max(map(len, parts)) <= TEXT_CHARACTERS:
        return len(parts) + sum(map(len, parts)) // TEXT_A_STEP
    return None


def _parts(value: Any) -> Sequence[Any] | None:
    """The elements of a container, keys and values of a dict; None of all else."""
    kind = kind_of(value)
    if kind not in ("list", "tuple", "set", "dict"):
        return None
    if len(value) > VALUE_STEPS:
        raise too_large(value)
    return [*value, *value.values()] if kind == "dict" else [*value]


def _weigh_leaf(value: Any, budget: Budget) -> int:
    kind = kind_of(value)
    if kind == "range":
        return 1
    return weigh_table(value, budget) if kind in TABLES else weigh_scalar(value)


def check_keys(value: dict[Any, Any], budget: Budget) -> None:
    """Raises ``Refused`` where a key of the dict could answer a look-up with code of its own."""
    if id(value) in budget.keyed:
        return
    budget.spend(len(value) // _KEYS_A_STEP)
    if not {id(type(each)) for each in value} <= _COMMON_KEYS:
        for each in value:
            key(each)
    budget.keyed[id(value)] = value


def items(value: Any, budget: Budget) -> list[Any]:
    """The elements of a container or a range, or the values of a column, as a list."""
    kind = kind_of(value)
    if kind in ("series", "index") or (kind == "array" and value.ndim == 1):
        budget.spend(weigh(value, budget) + len(value))
        return list(value.tolist())
    if kind in ("list", "tuple", "set", "dict", "range", "text", "bytes"):
        budget.spend(length(value))
        return list(value)
    raise Refused(f"the elements of a {type_name(value)} are not read in a prompt")


def length(value: Any) -> int:
    """The number of elements, also of a range that is longer than ``len`` can say."""
    if kind_of(value) == "range":
        count: int = -((value.start - value.stop) // value.step)
        return max(0, count)
    return len(value)
