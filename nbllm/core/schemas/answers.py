"""What an answer is to look like, from a JSON schema or a Python type, and its value.

pydantic makes schemas of types and values of answers; without it, only JSON schemas can be used.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import re
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from nbllm.core.answer_json import json_of
from nbllm.core.errors import AnswerFormError, InvalidOptionError, MissingDependencyError
from nbllm.core.schemas.documents import Document
from nbllm.core.schemas.plain import SchemaError
from nbllm.core.schemas.typed_dicts import with_typed_dicts
from nbllm.core.schemas.violations import violation

if TYPE_CHECKING:
    from pydantic import TypeAdapter

__all__ = ["AnswerSchema", "answer_schema", "check_schema"]

_WANTED = "a dict with a JSON schema, a pydantic model, a dataclass, a TypedDict, or a type of them"


@dataclass(frozen=True, slots=True)
class AnswerSchema:
    """A JSON schema for the request, and what makes a checked value of an answer's text.

    ``kind`` is the type of the values; None leaves them as they are in JSON.
    """

    name: str
    json_schema: Mapping[str, Any]
    kind: Any = None

    def parse(self, text: str) -> Any:
        """The value of an answer. Raises ``AnswerFormError`` with the first violation."""
        value = json_of(text)
        return self._checked(value, text) if self.kind is None else self._typed(value, text)

    def _checked(self, value: Any, text: str) -> Any:
        document = Document(self.json_schema)
        problem = violation(document, [document.root], value)
        if problem is not None:
            raise AnswerFormError("JSON of this schema", problem, text=text)
        return value

    def _typed(self, value: Any, text: str) -> Any:
        from pydantic import ValidationError

        try:
            return _adapter(self.kind).validate_json(json.dumps(value))
        except ValidationError as error:
            first, *more = error.errors(include_url=False, include_input=False)
            where = ".".join(map(str, first["loc"])) or "the value"
            others = f", and {len(more)} more" if more else ""
            problem = f"{where}: {first['msg']}{others}"
            raise AnswerFormError(self.name, problem, text=text) from error
        except RecursionError:
            raise AnswerFormError(self.name, "it is nested too deeply", text=text) from None


def answer_schema(value: object, name: str = "") -> AnswerSchema:
    """The schema that ``value`` means; ``name`` is that of its variable, for errors.

    Raises ``InvalidOptionError`` for what is no schema, and ``MissingDependencyError`` for a type
    without pydantic.
    """
    if isinstance(value, AnswerSchema):
        return value
    if isinstance(value, Mapping):
        check_schema("schema", value)
        return AnswerSchema(name or "schema", value)
    name = name or _name_of(value)
    if not _is_type(value):
        raise InvalidOptionError(
            "schema", f"{name:.60} is of the type {type(value).__name__}; give {_WANTED}"
        )
    schema = _schema_of(value, name)
    check_schema("schema", schema)
    return AnswerSchema(name, schema, value)


def check_schema(option: str, schema: object, of: str = "") -> None:
    """Raise ``InvalidOptionError`` for a JSON schema that cannot be used; ``of`` says whose."""
    try:
        Document(schema)
    except SchemaError as error:
        raise InvalidOptionError(option, f"{of}{error}") from None


def _is_type(value: object) -> bool:
    if isinstance(value, type) and value is not object:
        return True
    return typing.get_origin(value) is not None or type(value).__name__ == "TypeAliasType"


@lru_cache(maxsize=64)
def _adapter(kind: Any) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter

    return TypeAdapter(with_typed_dicts(kind))


def _schema_of(kind: Any, name: str) -> dict[str, Any]:
    if importlib.util.find_spec("pydantic") is None:
        raise MissingDependencyError("pydantic", purpose="a schema from a type", extra="schema")
    from pydantic.errors import PydanticUserError

    try:
        return _adapter(kind).json_schema()
    except (PydanticUserError, TypeError, NameError, RecursionError) as error:
        field = ".".join(_culprit(kind, set()))
        reason = str(error).splitlines()[0]
        what = f"{name}.{field}" if field else name
        raise InvalidOptionError(
            "schema", f"pydantic makes no JSON schema of {what}: {reason}; give {_WANTED}"
        ) from None


def _culprit(kind: Any, seen: set[int]) -> Iterator[str]:
    """The way to the first field of which no schema can be made."""
    seen.add(id(kind))
    for name, annotation in _fields(kind).items():
        if id(annotation) not in seen and not _has_schema(annotation):
            yield name
            yield from _culprit(annotation, seen)
            return


def _name_of(kind: object) -> str:
    has_parts = typing.get_origin(kind) is not None
    if not has_parts:
        return str(getattr(kind, "__name__", kind))
    return re.sub(r"(\w+\.)+(?=\w)", "", str(kind))  # without the modules


def _fields(kind: Any) -> dict[str, Any]:
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin in (list, dict, set, tuple, typing.Union, types.UnionType):
        return {_name_of(part): part for part in parts}
    is_record = dataclasses.is_dataclass(kind) or hasattr(kind, "__annotations__")
    if not isinstance(kind, type) or not is_record:
        return {}
    try:
        return typing.get_type_hints(kind)
    except (NameError, TypeError):
        return dict(kind.__annotations__)


def _has_schema(kind: Any) -> bool:
    from pydantic import TypeAdapter
    from pydantic.errors import PydanticUserError

    try:
        TypeAdapter(with_typed_dicts(kind)).json_schema()
    except (PydanticUserError, TypeError, NameError):
        return False
    return True
