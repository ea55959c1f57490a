r"""Variables in prompts: ``{name}``, ``{expression:format}`` and ``{file:path}``.

What is replaced is what parses as a Python expression of variables that there are; all other
braces stay as they are, those of JSON, code and LaTeX. In particular these are never touched:

- braces with a blank or a line's end inside their edges, as code has them: ``{ x }``
- doubled braces, with what is between them: ``{{x}}``
- the arguments of LaTeX commands, subscripts and powers: ``\frac{a}{b}``, ``x_{i}``, ``2^{n}``
- texts, numbers, sets and dicts: ``{"a": 1}``, ``{1, 2}``
- Python's own functions alone: ``{id}``, ``{type}``

It is one pass: a value that contains braces is put in as it is. A value that seems to hold an
API key is not put in.
"""

from __future__ import annotations

import ast
import builtins
import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from nbllm.core.configs.secrets import looks_like_key
from nbllm.core.types import ImagePart, TextPart
from nbllm.notebook.prompts.expressions import Refused, evaluate, names_in, parsed

__all__ = ["Interpolated", "Left", "Replaced", "interpolate"]

Piece: TypeAlias = "str | ImagePart"

_BRACES = re.compile(r"\{\{|\{(?P<inside>[^{}\n]+)\}")
_LATEX = re.compile(
    r"""(?: \\[A-Za-z]+\*? (?: \[[^\]\n]*\] | \{[^{}\n]*\} )*   # \frac{a}
      | \^                                                # 2^
      | (?<![A-Za-z0-9_])[A-Za-z]_ | \\[A-Za-z]+_         # x_ and \alpha_
      )\Z""",
    re.VERBOSE,
)
_LOOK_BEHIND = 200
_DOUBLED_REACH = 2_000
"""How far apart in a line ``{{`` and ``}}`` belong together, in characters."""
_SHORTEST_GUESS = 3
"""In characters; shorter names resemble one another by chance."""
_LIKENESS = 0.75
"""That of two names of four letters of which two changed places."""
_CONVERSIONS: dict[str, Callable[[Any], str]] = {"r": repr, "s": str, "a": ascii}
_CONVERSION = re.compile(r"(.*)!([rsa])", re.DOTALL)
_SPEC = re.compile(r"(?:.?[<>=^])?[-+ ]?z?#?0?\d*[,_]?(?:\.\d+)?[bcdeEfFgGnosxX%]?|.*%[A-Za-z].*")
_FILE = "file:"


@dataclass(frozen=True, slots=True)
class Replaced:
    """Braces that gave way to a value: ``characters`` of text, or an image of ``bytes``."""

    source: str
    characters: int = 0
    bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Left:
    """Braces whose variables are there and which could not be replaced all the same."""

    source: str
    reason: str


@dataclass(frozen=True, slots=True)
class Interpolated:
    """A text whose braces were looked at: its ``parts``, and what became of the braces."""

    parts: tuple[TextPart | ImagePart, ...]
    replaced: tuple[Replaced, ...] = ()
    left: tuple[Left, ...] = ()

    @property
    def text(self) -> str:
        """The text without its images."""
        return "".join(part.text for part in self.parts if isinstance(part, TextPart))

    @property
    def content(self) -> str | tuple[TextPart | ImagePart, ...]:
        """For a ``Message``: the text, or the parts where there are images."""
        has_image = any(isinstance(part, ImagePart) for part in self.parts)
        return self.parts if has_image else self.text


def interpolate(
    text: str,
    variables: Mapping[str, Any],
    *,
    render: Callable[[Any], Piece] = str,
    read: Callable[[str], Piece] | None = None,
) -> Interpolated:
    """``text`` with its braces replaced by the values of ``variables``.

    ``render`` makes text or an image of a value that stands there without a format; ``read`` does
    the same of the file with the path behind ``file:``, and what it raises leaves this function.
    """
    pieces: list[Piece] = []
    replaced: list[Replaced] = []
    left: list[Left] = []
    end = 0
    for match in _placeholders(text):
        source = match.group()
        try:
            piece = _piece(match["inside"], variables, render, read)
        except _KeepBraces as kept:
            if kept.reason:
                left.append(Left(source, kept.reason))
            continue
        pieces += [text[end : match.start()], piece]
        replaced.append(_noted(source, piece))
        end = match.end()
    pieces.append(text[end:])
    return Interpolated(tuple(_joined(pieces)), tuple(replaced), tuple(left))


class _KeepBraces(Exception):  # noqa: N818 - no failure
    def __init__(self, reason: str = "") -> None:
        self.reason = reason


def _placeholders(text: str) -> Iterator[re.Match[str]]:
    position = 0
    while (match := _BRACES.search(text, position)) is not None:
        inside = match["inside"]
        if inside is None:
            position = _end_of_doubled(text, match)
            continue
        position = match.end()
        behind = text[max(0, match.start() - _LOOK_BEHIND) : match.start()]
        if not (inside[0].isspace() or inside[-1].isspace() or _LATEX.search(behind)):
            yield match


def _end_of_doubled(text: str, opening: re.Match[str]) -> int:
    """Where the search goes on behind ``{{``, which is closed in its line or stands alone."""
    end = text.find("}}", opening.end(), opening.end() + _DOUBLED_REACH)
    is_closed = end != -1 and "\n" not in text[opening.end() : end]
    return end + 2 if is_closed else opening.end()


def _piece(
    inside: str,
    variables: Mapping[str, Any],
    render: Callable[[Any], Piece],
    read: Callable[[str], Piece] | None,
) -> Piece:
    if read is not None and inside.startswith(_FILE):
        return read(inside.removeprefix(_FILE).strip())
    expression, conversion, spec = _taken_apart(inside)
    names = names_in(expression)
    if not any(name in variables for name in names) or not all(
        name in variables or hasattr(builtins, name) for name in names
    ):
        raise _KeepBraces(_misspelt(names, variables))
    try:
        value = evaluate(expression, variables)
        if conversion:
            value = _CONVERSIONS[conversion](value)
        piece = format(value, spec) if conversion or spec else render(value)
    except Refused as refused:
        raise _KeepBraces(str(refused)) from None
    except Exception as error:  # noqa: BLE001 - the user's objects may raise whatever they like
        raise _KeepBraces(f"{type(error).__name__}: {error}") from None
    if isinstance(piece, str) and looks_like_key(piece):
        raise _KeepBraces("there is what looks like an API key in its value")
    return piece


def _misspelt(names: Iterable[str], variables: Mapping[str, Any]) -> str:
    """What to tell of braces that were probably meant for a variable; "" of all others."""
    for name in sorted(names):
        if len(name) >= _SHORTEST_GUESS and name not in variables and not hasattr(builtins, name):
            close = difflib.get_close_matches(name, variables, n=1, cutoff=_LIKENESS)
            if close:
                return f"there is no variable {name}. Did you mean {close[0]!r}?"
    return ""


def _taken_apart(inside: str) -> tuple[ast.expr, str, str]:
    """Expression, conversion and format, as in an f-string."""
    ends = [len(inside), *(n for n, character in enumerate(inside) if character == ":")]
    for end in ends:
        head, spec = inside[:end], inside[end + 1 :]
        match = _CONVERSION.fullmatch(head)
        source, conversion = match.groups() if match else (head, "")
        expression = parsed(source)
        if expression is not None:
            if _SPEC.fullmatch(spec):
                return expression, conversion, spec
            break
    raise _KeepBraces


def _noted(source: str, piece: Piece) -> Replaced:
    if isinstance(piece, str):
        return Replaced(source, len(piece))
    return Replaced(source, bytes=len(piece.data or b""))


def _joined(pieces: list[Piece]) -> Iterator[TextPart | ImagePart]:
    """The pieces with neighbouring texts as one; an empty text only where there is nothing else."""
    texts: list[str] = []
    for piece in pieces:
        if isinstance(piece, str):
            texts.append(piece)
            continue
        if any(texts):
            yield TextPart("".join(texts))
        texts = []
        yield piece
    if any(texts) or len(pieces) == 1:
        yield TextPart("".join(texts))
