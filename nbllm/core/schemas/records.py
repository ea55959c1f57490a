"""Records that pydantic does not know, as types that it does; what it reads lazily, as lists.

The records are attrs classes, and, before Python 3.12, ``typing.TypedDict``: pydantic takes only
that of ``typing_extensions`` there. A dataclass with such a field is one too.
"""

from __future__ import annotations

import dataclasses
import importlib
import sys
import types
import typing
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from typing import Annotated, Any

__all__ = ["is_attrs", "with_records"]

_HAS_TYPED_DICTS = sys.version_info >= (3, 12)
_LAZY = (Iterable, Iterator, Generator)
"""Pydantic would check their elements only when somebody asks for them, one after another."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Field:
    """``hint`` is its type, ``optional`` that it may be absent."""

    hint: Any
    optional: bool


def with_records(kind: Any) -> Any:
    """The same type with records that pydantic takes; one within itself stays as it is."""
    return _known(kind, frozenset())


def is_attrs(kind: object) -> bool:
    """Whether this is a class that attrs made."""
    return isinstance(kind, type) and hasattr(kind, "__attrs_attrs__")


def _known(kind: Any, above: frozenset[Any]) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        return Annotated[(_known(arguments[0], above), *arguments[1:])]
    if kind in _LAZY or origin in _LAZY:
        return types.GenericAlias(list, (_known(arguments[0] if arguments else Any, above),))
    if origin in (typing.Union, types.UnionType):
        return typing.Union[tuple(_known(one, above) for one in arguments)]  # noqa: UP007
    if isinstance(origin, type) and arguments and ... not in arguments[:-1]:
        return _generic(kind, origin, tuple(_known(one, above) for one in arguments))
    if not isinstance(kind, type) or kind in above:
        return kind
    inside = above | {kind}
    if is_attrs(kind):
        return _made(kind, _attrs_fields(kind), inside)
    if typing.is_typeddict(kind) and not _HAS_TYPED_DICTS:
        return _typed_dict(kind.__name__, _typed_dict_fields(kind), inside)
    if dataclasses.is_dataclass(kind):
        return _dataclass(kind, inside)
    return kind


def _generic(kind: Any, origin: type, arguments: tuple[Any, ...]) -> Any:
    """A list, mapping or the like; a generic class of the user's stays as it is."""
    if origin.__module__ not in ("builtins", "collections.abc", "collections"):
        return kind
    return kind if arguments == typing.get_args(kind) else types.GenericAlias(origin, arguments)


def _dataclass(kind: Any, above: frozenset[Any]) -> Any:
    """Itself, unless a field needs another type."""
    try:
        hints = typing.get_type_hints(kind, include_extras=True)
    except (NameError, TypeError):  # pydantic tells of it
        return kind
    fields = {
        field.name: _Field(hints[field.name], not _is_missing(field))
        for field in dataclasses.fields(kind)
        if field.init
    }
    is_known = all(_known(each.hint, above) == each.hint for each in fields.values())
    return kind if is_known else _made(kind, fields, above)


def _is_missing(field: dataclasses.Field[Any]) -> bool:
    return field.default is field.default_factory is dataclasses.MISSING


def _attrs_fields(kind: Any) -> dict[str, _Field]:
    nothing = importlib.import_module("attr").NOTHING
    hints = typing.get_type_hints(kind, include_extras=True)
    return {
        getattr(field, "alias", None) or field.name.lstrip("_"): _Field(
            hints.get(field.name, Any), field.default is not nothing
        )
        for field in kind.__attrs_attrs__
        if field.init
    }


def _typed_dict_fields(kind: Any) -> dict[str, _Field]:
    fields = {}
    for name, hint in typing.get_type_hints(kind, include_extras=True).items():
        wrapper = str(typing.get_origin(hint)).rpartition(".")[2]
        bare = typing.get_args(hint)[0] if wrapper in ("Required", "NotRequired") else hint
        # Annotations that are texts hide their wrapper from the class.
        optional = wrapper == "NotRequired" or (
            wrapper != "Required" and name not in kind.__required_keys__
        )
        fields[name] = _Field(bare, optional)
    return fields


def _made(kind: Any, fields: Mapping[str, _Field], above: frozenset[Any]) -> Any:
    """A dictionary of which an instance of ``kind`` is made."""
    from pydantic import AfterValidator

    return Annotated[_typed_dict(kind.__name__, fields, above), AfterValidator(_maker(kind))]


def _maker(kind: Callable[..., Any]) -> Callable[[dict[str, Any]], Any]:
    def make(values: dict[str, Any]) -> Any:
        try:
            return kind(**values)
        except TypeError as error:  # of a validator of the class; pydantic knows ValueError alone
            raise ValueError(str(error)) from error

    return make


def _typed_dict(name: str, fields: Mapping[str, _Field], above: frozenset[Any]) -> Any:
    """Made anew from its fields; ``typing_extensions`` comes with pydantic."""
    import typing_extensions as modern

    hints = {key: (_known(field.hint, above), field.optional) for key, field in fields.items()}
    made = {
        key: modern.NotRequired[hint] if optional else hint
        for key, (hint, optional) in hints.items()
    }
    return modern.TypedDict(name, made)  # type: ignore[operator]
