"""A call that is forced, as an expression of GBNF: what its format writes, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nbllm.core.schemas.argument_rules import Arguments, Branch
from nbllm.core.schemas.grammar_rules import literal
from nbllm.core.schemas.grammar_writer import GrammarWriter
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
from nbllm.local.formats.forced_values import braced, elements, keywords, marked

__all__ = ["forced_call", "text_before"]

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
