"""``typing.TypedDict`` for pydantic, which takes only that of ``typing_extensions`` before 3.12."""

from __future__ import annotations

import sys
import types
import typing
from functools import reduce
from operator import or_
from typing import Any

__all__ = ["with_typed_dicts"]


def with_typed_dicts(kind: Any) -> Any:
    """The same type with the dictionaries that pydantic takes; one within itself stays."""
    return kind if sys.version_info >= (3, 12) else _modern(kind, frozenset())


def _modern(kind: Any, above: frozenset[Any]) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if typing.is_typeddict(kind) and kind not in above:
        return _typed_dict(kind, above | {kind})
    if origin in (list, set, tuple, dict, frozenset):
        return types.GenericAlias(origin, tuple(_modern(one, above) for one in arguments))
    if origin in (typing.Union, types.UnionType):
        return reduce(or_, (_modern(one, above) for one in arguments))
    return kind


def _typed_dict(kind: Any, above: frozenset[Any]) -> Any:
    """Made anew from its fields; ``typing_extensions`` comes with pydantic."""
    import typing_extensions as modern

    fields: dict[str, Any] = {}
    for name, hint in typing.get_type_hints(kind, include_extras=True).items():
        wrapper = str(typing.get_origin(hint)).rpartition(".")[2]
        bare = typing.get_args(hint)[0] if wrapper in ("Required", "NotRequired") else hint
        # Annotations that are texts hide their wrapper from the class.
        optional = wrapper == "NotRequired" or (
            wrapper != "Required" and name not in kind.__required_keys__
        )
        fields[name] = (
            modern.NotRequired[_modern(bare, above)] if optional else _modern(bare, above)
        )
    return modern.TypedDict(kind.__name__, fields)  # type: ignore[operator]
