"""Python types as schemas, and values of them: by pydantic, by msgspec where a ``Struct`` is in it.

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
from collections.abc import Hashable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from nbllm.core.errors import InvalidOptionError, MissingDependencyError
from nbllm.core.schemas.records import is_attrs, with_records
from nbllm.core.texts import capped

if TYPE_CHECKING:
    from pydantic import TypeAdapter

__all__ = ["WANTED", "is_kind", "name_of_kind", "plain_value", "schema_of_kind", "value_of_kind"]

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
