"""``--schema``: what an answer must look like, from a JSON schema, a pydantic model or a dataclass.

pydantic and jsonschema check the answer where they are installed; they come along with most
notebooks, and nbllm itself needs neither.
"""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from nbllm.core.errors import AnswerFormError, InvalidOptionError, MissingDependencyError
from nbllm.notebook.forms.forms import json_of

__all__ = ["Schema", "schema_from"]


@dataclass(frozen=True, slots=True)
class Schema:
    """A JSON schema for the request, and what makes a checked value of an answer's text."""

    json_schema: Mapping[str, Any]
    parse: Callable[[str], Any]


def schema_from(name: str, value: object) -> Schema:
    """The schema in the variable ``name``.

    A mapping is a JSON schema, and answers become plain values; a class becomes its instances.
    Raises ``InvalidOptionError`` for anything else, ``MissingDependencyError`` without pydantic
    where it is needed.
    """
    if isinstance(value, Mapping):
        return Schema(value, lambda text: _checked(json_of(text), value, text))
    if not isinstance(value, type):
        raise InvalidOptionError(
            "schema",
            f"{name} is of the type {type(value).__name__}; give a dict with a JSON schema, a "
            "pydantic model or a dataclass",
        )
    return _from_class(name, value)


def _from_class(name: str, kind: type) -> Schema:
    is_model = hasattr(kind, "model_json_schema")
    if not is_model and not dataclasses.is_dataclass(kind) and not hasattr(kind, "__total__"):
        raise InvalidOptionError(
            "schema", f"{name} is a class, and neither a pydantic model nor a dataclass"
        )
    if importlib.util.find_spec("pydantic") is None:
        raise MissingDependencyError(
            "pydantic", purpose="a schema from a dataclass", extra="schema"
        )
    from pydantic import TypeAdapter, ValidationError

    adapter: TypeAdapter[Any] = TypeAdapter(kind)

    def parse(text: str) -> Any:
        value = json_of(text)
        try:
            return adapter.validate_python(value)
        except ValidationError as error:
            first, *more = error.errors(include_url=False, include_input=False)
            where = ".".join(map(str, first["loc"])) or "the value"
            others = f", and {len(more)} more" if more else ""
            raise AnswerFormError(name, f"{where}: {first['msg']}{others}", text=text) from error

    return Schema(adapter.json_schema(), parse)


def _checked(value: Any, schema: Mapping[str, Any], text: str) -> Any:
    if importlib.util.find_spec("jsonschema") is None:
        return value
    from jsonschema import SchemaError, ValidationError, validate

    try:
        validate(value, schema)
    except ValidationError as error:
        where = ".".join(map(str, error.absolute_path)) or "the value"
        raise AnswerFormError(
            "JSON of this schema", f"{where}: {error.message}", text=text
        ) from None
    except SchemaError as error:
        raise InvalidOptionError("schema", f"this is no JSON schema: {error.message}") from None
    return value
