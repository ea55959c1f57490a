"""A call that is forced, as an expression of GBNF: what its format writes, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from nbllm.core.schemas.argument_rules import Arguments, Branch, Parameter, Unwanted
from nbllm.core.schemas.grammar_rules import literal
from nbllm.core.schemas.grammar_writer import GrammarWriter
from nbllm.core.schemas.schema_keywords import Schema
from nbllm.local.formats.base import (
    Braced,
    CallFormat,
    Elements,
    Id,
    Json,
    Keywords,
    Parameters,
    Piece,
    shapes_call,
)

__all__ = ["braced", "elements", "forced_call", "keywords", "marked", "text_before"]

_DEEPEST = 6
_LONGEST = 50_000
_OTHERS = ("array", "boolean", "integer", "null", "number", "object")


def marked(piece: Parameters, arguments: Arguments, branch: Branch) -> str:
    """The arguments, each between its marks."""
    return " ".join(
        _if_needed(parameter, _between(piece, arguments, parameter))
        for parameter in branch.parameters
    )


def _if_needed(parameter: Parameter, part: str) -> str:
    return f"({part})" if parameter.required else f"({part})?"


def _between(piece: Parameters, arguments: Arguments, parameter: Parameter) -> str:
    """One argument: a value with what its opening mark says of it."""
    opening = piece.open.replace("{key}", parameter.name)
    kinds = arguments.kinds(parameter.schemas)
    if "{type}" in opening or "{text}" in opening:
        options = list(_told(piece, opening, arguments, parameter, kinds))
    else:
        options = [(opening, _plain(piece, arguments, parameter.schemas, kinds))]
    close = literal(piece.close)
    parts = [f"{literal(opening)} {value} {close}" for opening, value in options if value]
    if not parts:
        raise ValueError(
            f"{parameter.name}: no value of it can be written in this model's call format, whose "
            f"values end with {piece.close.strip()!r}"
        )
    return " | ".join(parts)


def _told(
    piece: Parameters, opening: str, arguments: Arguments, parameter: Parameter, kinds: set[str]
) -> Iterator[tuple[str, str]]:
    """The values of a format whose marks say what they are."""

    def told(kind: str) -> str:
        is_text = "true" if kind == "string" else "false"
        name = "number" if kind == "integer" else kind
        return opening.replace("{text}", is_text).replace("{type}", name)

    if "string" in kinds:
        yield told("string"), _texts(piece, arguments, parameter.schemas)
    if "{text}" in opening and kinds - {"string"}:
        yield told("null"), arguments.json(parameter.schemas, sorted(kinds - {"string"}))
    elif "{type}" in opening:
        for kind in sorted(kinds - {"string"}):
            yield told(kind), arguments.json(parameter.schemas, [kind])


def _plain(
    piece: Parameters, arguments: Arguments, schemas: Sequence[Schema], kinds: set[str]
) -> str:
    """A value that says not what it is: a text as it is where nothing else is meant."""
    if kinds == {"string"}:
        return _texts(piece, arguments, schemas)
    if kinds == {"string", "null"}:
        texts = _texts(piece, arguments, schemas, begins=('"',))
        return f'({texts} | "null")' if texts else arguments.json(schemas)
    return arguments.json(schemas)


def _texts(
    piece: Parameters,
    arguments: Arguments,
    schemas: Sequence[Schema],
    begins: tuple[str, ...] = (),
) -> str:
    """A text as it stands between the marks of a parameter; "" where none can."""
    marks = (piece.close.strip(), piece.open.partition("{key}")[0])
    is_trimmed = not piece.open.endswith("\n")
    plain = Unwanted((*piece.unquoted, *marks), is_trimmed, begins)
    options = [arguments.text(schemas, plain)]
    if piece.quotes:
        opening, closing = map(literal, piece.quotes)
        text = arguments.text(schemas, Unwanted((piece.quotes[1],), begins=begins))
        options.append(text and f"{opening} {text} {closing}")
    found = [option for option in options if option]
    return f"({' | '.join(found)})" if found else ""


# ---------------------------------------------------------------- one behind the other


def keywords(arguments: Arguments, branch: Branch) -> str:
    """The arguments as ``key=value``, values as JSON."""
    return _joined(
        branch, lambda key: literal(f"{key}="), lambda p: arguments.json(p.schemas), ", "
    )


def braced(quote: str, arguments: Arguments, branch: Branch) -> str:
    """The arguments as ``key:value`` in braces, texts between two ``quote`` marks."""

    def value(parameter: Parameter) -> str:
        kinds = arguments.kinds(parameter.schemas)
        options = []
        if "string" in kinds:
            text = arguments.text(parameter.schemas, Unwanted((quote,)))
            options += [f"{literal(quote)} {text} {literal(quote)}"] if text else []
        if kinds - {"string"} or not options:
            others = sorted(kinds - {"string"}) if options else None
            options.append(arguments.json(parameter.schemas, others))
        return f"({' | '.join(options)})"

    inside = _joined(branch, lambda key: literal(f"{key}:"), value, ",")
    return " ".join(filter(None, (literal("{"), inside, literal("}"))))


def _joined(
    branch: Branch, head: Callable[[str], str], value: Callable[[Parameter], str], comma: str
) -> str:
    """The arguments one behind the other: those that are required, then any of the others."""
    values = [(p.required, f"{head(p.name)} {value(p)}") for p in branch.parameters]
    first = [written for required, written in values if required]
    others = [written for required, written in values if not required]
    behind = [f"({literal(comma)} {written})?" for written in others]
    if first:
        return " ".join([f" {literal(comma)} ".join(first), *behind])
    starts = [" ".join([other, *behind[n + 1 :]]) for n, other in enumerate(others)]
    return f"({' | '.join(starts)})?" if starts else ""


# ---------------------------------------------------------------- elements


def elements(mark: str, arguments: Arguments, branch: Branch, depth: int = 0) -> str:
    """The arguments as elements; what is nested too deeply in them is JSON."""
    parts = []
    for parameter in branch.parameters:
        inside = _element(mark, arguments, parameter.schemas, depth + 1)
        name = parameter.name
        part = f"{literal(f'{mark}<{name}>')} {inside} {literal(f'{mark}</{name}>')}"
        parts.append(_if_needed(parameter, part))
    return " ".join(parts)


def _element(mark: str, arguments: Arguments, schemas: Sequence[Schema], depth: int) -> str:
    kinds = arguments.kinds(schemas)
    inside = ""
    if kinds <= {"string", "null"} and "string" in kinds:
        begins = ('"',) if "null" in kinds else ()
        text = arguments.text(schemas, Unwanted((mark,), begins=begins))
        inside = f'({text} | "null")' if text and "null" in kinds else text or ""
    elif kinds == {"object"} and depth < _DEEPEST:
        branches = arguments.branches(schemas)
        if all(branch.parameters for branch in branches):
            inner = [elements(mark, arguments, branch, depth) for branch in branches]
            inside = f"({' | '.join(inner)})"
    elif kinds == {"array"} and depth < _DEEPEST:
        inside = _items(mark, arguments, schemas, depth)
    return inside if 0 < len(inside) < _LONGEST else arguments.json(schemas)


def _items(mark: str, arguments: Arguments, schemas: Sequence[Schema], depth: int) -> str:
    inner, least, most = arguments.items(schemas)
    if not inner:
        return ""
    item = _element(mark, arguments, inner, depth + 1)
    opening, closing = literal(f"{mark}<item>"), literal(f"{mark}</item>")
    return f"({opening} {item} {closing}){{{least},{'' if most is None else most}}}"


_NOTHING = {"type": "object", "properties": {}, "additionalProperties": False}


def forced_call(form: CallFormat, tools: Sequence[Mapping[str, Any]], writer: GrammarWriter) -> str:
    """The expression for one call of one of ``tools``, which have ``name`` and ``parameters``.

    Raises ``ValueError`` for parameters that no grammar can say.
    """
    calls = [_call(form, tool, f"tool{place}", writer) for place, tool in enumerate(tools)]
    return f"({' | '.join(calls)})"


def _call(form: CallFormat, tool: Mapping[str, Any], rule: str, writer: GrammarWriter) -> str:
    schema = tool["parameters"] or _NOTHING
    pieces = shapes_call(form.forced, tool["name"])
    try:
        if Json() in pieces:
            parts = [_piece(piece, writer.rule(schema, rule)) for piece in pieces]
            return " ".join(filter(None, parts))
        arguments = writer.arguments(schema, rule)
        branches = [
            " ".join(filter(None, (_arguments(piece, arguments, one) for piece in pieces)))
            for one in arguments.branches([arguments.root])
        ]
    except ValueError as error:
        raise ValueError(f"the parameters of the tool {tool['name']!r}: {error}") from None
    return f"({' | '.join(dict.fromkeys(branches))})"


def _piece(piece: Piece, arguments: str) -> str:
    """A piece of a call, where ``arguments`` is the expression of those."""
    match piece:
        case str():
            return literal(piece)
        case Id(length):
            return f"[a-z0-9]{{{length}}}"
        case Json() | Parameters() | Keywords() | Braced() | Elements():
            return arguments


def _arguments(piece: Piece, arguments: Arguments, branch: Branch) -> str:
    match piece:
        case Parameters():
            return marked(piece, arguments, branch)
        case Keywords():
            return keywords(arguments, branch)
        case Braced(quote):
            return braced(quote, arguments, branch)
        case Elements(mark):
            return elements(mark, arguments, branch)
        case _:
            return _piece(piece, "")


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
