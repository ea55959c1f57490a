"""A call that is forced, as an expression of GBNF: what its format writes, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
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
from nbllm.local.formats.parameters import allowed_types, referred

__all__ = ["Visit", "forced_call", "text_before"]

Visit: TypeAlias = Callable[[Any, str, str], str]
"""Adds the rules of a JSON schema under a name; returns the name of its rule. What the schema is
called in errors comes last."""


def forced_call(form: CallFormat, tools: Sequence[Mapping[str, Any]], visit: Visit) -> str:
    """The expression for one call of one of ``tools``, which have ``name`` and ``parameters``."""
    calls = [_call(form, tool, place, visit) for place, tool in enumerate(tools)]
    return f"({' | '.join(calls)})"


def text_before(mark: str) -> str:
    """Any text in which ``mark`` does not stand, as it may come before the mark.

    Where the mark's first character comes again in it, only the mark up to there is left out.
    """
    again = mark.find(mark[0], 1, -1)
    mark = mark if again < 0 else mark[:again]
    first, rest = mark[0], mark[1:]
    if not rest:
        return f"[^{_in_class(first)}]*"
    begun = [rest[:length] for length in range(len(rest))]  # what of it may follow the first
    anew = " | ".join(literal(f"{part}{first}") for part in begun if part + first != rest)
    start = f"{literal(first)} ({anew})*"
    breaks = " | ".join(
        f"{literal(part)} [^{_in_class(first)}{_in_class(rest[len(part)])}]".strip()
        for part in begun
    )
    ends = " | ".join(literal(part) for part in begun if part)
    tail = f" ({ends})?" if ends else ""
    return f"([^{_in_class(first)}] | {start} ({breaks}))* ({start}{tail})?"


def _in_class(character: str) -> str:
    return {"\n": "\\n", "]": "\\]", "\\": "\\\\", "^": "\\^", "-": "\\-"}.get(character, character)


_NOTHING = {"type": "object", "properties": {}, "additionalProperties": False}
_DEEPEST = 16
Value: TypeAlias = Callable[[Any, str], str]
"""Adds the rules of a value's schema under a name."""


def _call(form: CallFormat, tool: Mapping[str, Any], place: int, visit: Visit) -> str:
    rule, schema = f"tool{place}", tool["parameters"] or _NOTHING

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
    """The parameters and the names of those that are required; references are followed."""
    properties: dict[str, Any] = {}
    needed: set[str] = set()
    for part in _parts(schema, schema, 0):
        declared, names = part.get("properties"), part.get("required")
        properties |= declared if isinstance(declared, Mapping) else {}
        needed |= set(names) if isinstance(names, list) else set()
    return properties | dict.fromkeys(sorted(needed - properties.keys()), True), needed


def _parts(schema: Any, root: Schema, depth: int) -> Iterator[Schema]:
    """A schema, what it refers to, and all that it consists of; of branches the first."""
    if not isinstance(schema, Mapping) or depth > _DEEPEST:
        return
    yield schema
    if isinstance(schema.get("$ref"), str) and schema["$ref"].startswith("#/"):
        yield from _parts(referred(root, schema["$ref"]), root, depth + 1)
    for part in schema.get("allOf") or ():
        yield from _parts(part, root, depth + 1)
    for key in ("anyOf", "oneOf"):
        for part in (schema.get(key) or ())[:1]:
            yield from _parts(part, root, depth + 1)


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
        value = _text(wanted, schema, piece.close) if is_text else ""
        value = value or _value(wanted, schema, f"{rule}-{place}", visit)
        part = " ".join((literal(opening), value, literal(piece.close)))
        parts.append(part if key in needed else f"({part})?")
    return " ".join(parts)


def _text(schema: Any, root: Schema, close: str) -> str:
    """A text as it stands there: one of those that the schema lists, or any."""
    for part in _parts(schema, root, 0):
        choices = [part["const"]] if "const" in part else part.get("enum")
        if isinstance(choices, list) and all(isinstance(choice, str) for choice in choices):
            return f"({' | '.join(literal(choice) or _EMPTY for choice in choices)})"
    return text_before(close)


_EMPTY = '""'


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
    def value(wanted: Any, name: str) -> str:
        if allowed_types(wanted, schema) == {"string"}:
            return f"{literal(quote)} {_text(wanted, schema, quote)} {literal(quote)}"
        return visit(wanted, name)

    arguments = _joined(schema, rule, value, lambda key: literal(f"{key}:"), ",")
    return " ".join(filter(None, (literal("{"), arguments, literal("}"))))
