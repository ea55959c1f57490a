"""A call that is forced, as an expression of GBNF: what its format writes, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from nbllm.core.schemas.rules import literal
from nbllm.local.formats.base import (
    Braced,
    CallFormat,
    Json,
    Keywords,
    Parameters,
    Piece,
    Schema,
    shapes_call,
)
from nbllm.local.formats.parameters import allowed_types

__all__ = ["Visit", "forced_call", "text_before"]

Visit: TypeAlias = Callable[[Any, str, str], str]
"""Adds the rules of a JSON schema under a name; returns the name of its rule. What the schema is
called in errors comes last."""


def forced_call(form: CallFormat, tools: Sequence[Mapping[str, Any]], visit: Visit) -> str:
    """The expression for one call of one of ``tools``, which have ``name`` and ``parameters``."""
    calls = [_call(form, tool, place, visit) for place, tool in enumerate(tools)]
    return f"({' | '.join(calls)})"


def text_before(mark: str) -> str:
    """Any text in which the first two characters of ``mark`` do not stand together."""
    first, second = (_in_class(character) for character in mark[:2])
    return f"([^{first}] | {literal(mark[0])} [^{second}])*"


def _in_class(character: str) -> str:
    return {"\n": "\\n", "]": "\\]", "\\": "\\\\", "^": "\\^", "-": "\\-"}.get(character, character)


Value: TypeAlias = Callable[[Any, str], str]
"""Adds the rules of a value's schema under a name."""


def _call(form: CallFormat, tool: Mapping[str, Any], place: int, visit: Visit) -> str:
    rule, schema = f"tool{place}", tool["parameters"] or {"type": "object"}

    def value(schema: Any, name: str) -> str:
        return visit(schema, name, f"the parameters of the tool {tool['name']!r}")

    pieces = shapes_call(form.forced, tool["name"])
    return " ".join(filter(None, (_piece(piece, schema, rule, value) for piece in pieces)))


def _piece(piece: Piece, schema: Schema, rule: str, visit: Value) -> str:
    match piece:
        case str():
            return literal(piece) if piece else ""
        case Json():
            return visit(schema, rule)
        case Parameters():
            return _parameters(piece, schema, rule, visit)
        case Keywords():
            return _joined(schema, rule, visit, lambda key: literal(f"{key}="), ", ")
        case Braced(quote):
            return _braced(quote, schema, rule, visit)


def _properties(schema: Schema) -> tuple[dict[str, Any], set[str]]:
    declared, needed = schema.get("properties"), schema.get("required")
    properties = dict(declared) if isinstance(declared, Mapping) else {}
    return properties, set(needed) if isinstance(needed, list) else set()


def _value(schema: Any, root: Schema, rule: str, visit: Value) -> str:
    """A value as JSON; a schema inside of another sees the definitions of the outer one."""
    definitions = {key: root[key] for key in ("$defs", "definitions") if key in root}
    inner = {**schema, **definitions} if isinstance(schema, Mapping) else schema
    return visit(inner, rule)


def _parameters(piece: Parameters, schema: Schema, rule: str, visit: Value) -> str:
    properties, needed = _properties(schema)
    parts = []
    for place, (key, wanted) in enumerate(properties.items()):
        is_text = allowed_types(wanted, schema) == {"string"}
        opening = piece.open.replace("{key}", key).replace("{text}", "true" if is_text else "false")
        value = _text(wanted, piece.close) if is_text else ""
        value = value or _value(wanted, schema, f"{rule}-{place}", visit)
        part = " ".join((literal(opening), value, literal(piece.close)))
        parts.append(part if key in needed else f"({part})?")
    return " ".join(parts)


def _text(schema: Any, close: str) -> str:
    choices = schema.get("enum") if isinstance(schema, Mapping) else None
    if isinstance(choices, list) and all(isinstance(choice, str) for choice in choices):
        return f"({' | '.join(map(literal, choices))})"
    return text_before(close)


def _joined(schema: Schema, rule: str, visit: Value, head: Callable[[str], str], comma: str) -> str:
    """The arguments one behind the other: those that are required, then any of the others."""
    properties, needed = _properties(schema)
    values = {
        key: f"{head(key)} {_value(wanted, schema, f'{rule}-{place}', visit)}"
        for place, (key, wanted) in enumerate(properties.items())
    }
    first = [values[key] for key in properties if key in needed]
    others = [values[key] for key in properties if key not in needed]
    expression = f" {literal(comma)} ".join(first)
    if first:
        return " ".join([expression, *(f"({literal(comma)} {value})?" for value in others)])
    tail = ""
    for value in reversed(others):  # a comma stands only where something stands before it
        behind = [f"({literal(comma)} {other})?" for other in others[others.index(value) + 1 :]]
        tail = " | ".join(filter(None, (" ".join([value, *behind]), tail)))
    return f"({tail})?" if tail else ""


def _braced(quote: str, schema: Schema, rule: str, visit: Value) -> str:
    properties, needed = _properties(schema)
    del needed
    simple = {
        key: wanted
        for key, wanted in properties.items()
        if allowed_types(wanted, schema) <= {"string", "integer", "number", "boolean", "null"}
    }
    inner = {**schema, "properties": simple}

    def value(wanted: Any, name: str) -> str:
        if allowed_types(wanted, schema) == {"string"}:
            return f"{literal(quote)} {_text(wanted, quote)} {literal(quote)}"
        return visit(wanted, name)

    arguments = _joined(inner, rule, value, lambda key: literal(f"{key}:"), ",")
    return " ".join(filter(None, (literal("{"), arguments, literal("}"))))
