"""Python types as schemas, and values of them: by pydantic, or msgspec where they have a Struct.

Records are attrs classes, and, before Python 3.12, ``typing.TypedDict``: pydantic takes only
that of ``typing_extensions`` there. A dataclass with such a field is one too.

Neither is needed for schemas that are JSON.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import json
import re
import sys
import types
import typing
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any

from nbllm.core.errors import InvalidOptionError, MissingDependencyError
from nbllm.core.texts import capped

if TYPE_CHECKING:
    from pydantic import TypeAdapter

__all__ = [
    "WANTED",
    "is_attrs",
    "is_kind",
    "name_of_kind",
    "plain_value",
    "schema_of_kind",
    "value_of_kind",
    "with_records",
]

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


WANTED = (
    "a dict with a JSON schema, a pydantic model, a dataclass, a TypedDict, an Enum, an attrs or "
    "msgspec class, or a type of them, such as list[Person]"
)


def is_kind(value: object) -> bool:
    """Whether this is a type, with or without parameters."""
    if isinstance(value, type) and value is not object:
        return True
    is_named = type(value).__name__ in ("TypeAliasType", "NewType")
    return typing.get_origin(value) is not None or is_named


def name_of_kind(kind: object) -> str:
    """What a type is called in messages: without its modules."""
    if typing.get_origin(kind) is None:
        return str(getattr(kind, "__name__", kind))
    return re.sub(r"<class '([^']*)'>|(\w+\.)+(?=\w)", lambda m: m[1] or "", str(kind))


def schema_of_kind(kind: Any, name: str) -> dict[str, Any]:
    """The JSON schema of a type, which is called ``name``.

    Raises ``InvalidOptionError``, which names the field that has none, and
    ``MissingDependencyError`` without pydantic.
    """
    if _has_struct(kind):
        return _struct_schema(kind, name)
    if importlib.util.find_spec("pydantic") is None:
        raise MissingDependencyError("pydantic", purpose="a schema from a type", extra="schema")
    problem = _problem(kind)
    if problem is None:
        return _adapter(kind).json_schema()
    field = ".".join(_culprit(kind, set()))
    raise _no_schema(f"{name}.{field}" if field else name, problem)


def value_of_kind(kind: Any, value: Any) -> Any:
    """The instance that JSON stands for. Raises ``ValueError`` with the first violation."""
    if _has_struct(kind):
        msgspec = importlib.import_module("msgspec")
        return msgspec.convert(value, kind)  # its ValidationError is a ValueError
    from pydantic import ValidationError

    try:
        return _adapter(kind).validate_json(json.dumps(value))
    except ValidationError as error:
        first, *more = error.errors(include_url=False, include_input=False)
        where = ".".join(map(str, first["loc"])) or "the value"
        others = f", and {len(more)} more" if more else ""
        raise ValueError(f"{where}: {first['msg']}{others}") from error
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def plain_value(value: Any) -> Any:
    """A value of a type as JSON."""
    if hasattr(value, "__struct_fields__"):
        return importlib.import_module("msgspec").to_builtins(value, str_keys=True)
    if importlib.util.find_spec("pydantic") is None:
        return value
    from pydantic_core import to_jsonable_python

    return to_jsonable_python(value, fallback=_fields_as_json)


def _fields_as_json(value: Any) -> Any:
    if is_attrs(type(value)):
        return {field.name: getattr(value, field.name) for field in type(value).__attrs_attrs__}
    return plain_value(value) if hasattr(value, "__struct_fields__") else str(value)


def _no_schema(what: str, problem: str) -> InvalidOptionError:
    return InvalidOptionError("schema", f"{what} has no JSON schema: {problem}; give {WANTED}")


# ---------------------------------------------------------------- pydantic


def _adapter(kind: Any) -> TypeAdapter[Any]:
    """Remembered, unless the type holds what cannot be compared, such as ``Annotated[int, {}]``."""
    try:
        hash(kind)
    except TypeError:
        return _new_adapter(kind)
    return _known_adapter(kind)


def _new_adapter(kind: Any) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter

    return TypeAdapter(with_records(kind))


@lru_cache(maxsize=64)
def _known_adapter(kind: Hashable) -> TypeAdapter[Any]:
    return _new_adapter(kind)


def _problem(kind: Any) -> str | None:
    """Why no schema can be made of a type; None where one can."""
    from pydantic.errors import PydanticUserError

    try:
        _adapter(kind).json_schema()
    except (PydanticUserError, TypeError, NameError, ValueError, RecursionError) as error:
        return capped(str(error).splitlines()[0].partition(". Set ")[0])
    return None


def _culprit(kind: Any, seen: set[int]) -> Iterator[str]:
    """The way to the first field of which no schema can be made."""
    seen.add(id(kind))
    for name, annotation in _fields(kind).items():
        if id(annotation) not in seen and _problem(annotation) is not None:
            yield name
            yield from _culprit(annotation, seen)
            return


def _fields(kind: Any) -> dict[str, Any]:
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin in (list, dict, set, tuple, typing.Union, types.UnionType):
        return {name_of_kind(part): part for part in parts}
    is_record = dataclasses.is_dataclass(kind) or hasattr(kind, "__annotations__")
    if not isinstance(kind, type) or not is_record:
        return {}
    try:
        return typing.get_type_hints(kind)
    except (NameError, TypeError):
        return dict(kind.__annotations__)


# ---------------------------------------------------------------- msgspec


def _has_struct(kind: Any) -> bool:
    """Whether a ``msgspec.Struct`` is in a type; nobody can have one without its package."""
    struct = getattr(sys.modules.get("msgspec"), "Struct", None)
    return struct is not None and _mentions(kind, struct)


def _mentions(kind: Any, wanted: type) -> bool:
    if isinstance(kind, type) and typing.get_origin(kind) is None:
        return issubclass(kind, wanted)
    return any(_mentions(part, wanted) for part in typing.get_args(kind))


def _struct_schema(kind: Any, name: str) -> dict[str, Any]:
    msgspec = importlib.import_module("msgspec")
    try:
        schema: dict[str, Any] = msgspec.json.schema(kind)
    except (TypeError, NameError, ValueError, RecursionError) as error:
        raise _no_schema(name, capped(str(error).splitlines()[0])) from None
    return schema
