r"""Variables in prompts: ``{name}``, ``{expression:format}`` and ``{file:path}``.

What is replaced is what parses as a Python expression of variables that there are; all other
braces stay as they are, those of JSON, code and LaTeX. In particular these are never touched:

- braces with a blank or a line's end inside their edges, as code has them: ``{ return x; }``;
  only ``{ x }``, ``{ x.y }`` and ``{ x["y"] }`` give way, where there is such a variable
- doubled braces, with what is between them: ``{{x}}``
- the arguments of LaTeX commands, subscripts and powers: ``\frac{a}{b}``, ``x_{i}``, ``2^{n}``
- texts, numbers, sets and dicts: ``{"a": 1}``, ``{1, 2}``
- Python's own functions alone: ``{id}``, ``{type}``

It is one pass: a value that contains braces is put in as it is. A value that seems to hold an
API key is not put in. The same braces twice are computed once, and all of them take a bounded time.
"""

from __future__ import annotations

import ast
import builtins
import difflib
import re
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nbllm.core.api_keys import looks_like_key
from nbllm.core.types import ImagePart, TextPart
from nbllm.notebook.prompts.bounded_texts import Written
from nbllm.notebook.prompts.evaluation import Budget, Refused
from nbllm.notebook.prompts.expressions import names_in
from nbllm.notebook.prompts.placeholders import RENDER_STEPS, Piece, Placeholder, taken_apart

__all__ = ["Interpolated", "Left", "Replaced", "interpolate"]


_BRACES = re.compile(r"\{\{|\{(?P<inside>[^{}\n]+)\}")
_LATEX = re.compile(
    r"""(?: \\[A-Za-z]+\*? (?: \[[^\]\n]*\] | \{[^{}\n]*\} )*   # \frac{a}
      | \^                                                # 2^
      | (?<![A-Za-z0-9_])[A-Za-z]_ | \\[A-Za-z]+_         # x_ and \alpha_
      )\Z""",
    re.VERBOSE,
)
_RUN = re.compile(r"\{+")
_LOOK_BEHIND = 200
_DOUBLED_REACH = 2_000
"""How far apart in a line ``{{`` and ``}}`` belong together, in characters."""
_SHORTEST_GUESS = 3
"""In characters; shorter names resemble one another by chance."""
_LIKENESS = 0.75
"""That of two names of four letters of which two changed places."""
_WORDS = re.compile(r"[^\W\d]\w*")
_GUESSES = 50
"""For how many names of a prompt similar ones are looked for."""
_IMAGE_STEPS = 100_000
_PARSE_STEPS = 100
"""What an image costs to draw."""
_LONGEST_GUESS = 200
_REASON = 300
_FILE = "file:"


@dataclass(frozen=True, slots=True)
class Replaced:
    """Braces that gave way to a value: ``characters`` of text, or an image of ``bytes``.

    ``left_out`` says what of the value there was no room for.
    """

    source: str
    characters: int = 0
    bytes: int | None = None
    left_out: str = ""


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
    secrets: Sequence[str] = (),
) -> Interpolated:
    """``text`` with its braces replaced by the values of ``variables``.

    ``render`` makes text or an image of a value that stands there without a format; ``read`` does
    the same of the file with the path behind ``file:``, and what it raises leaves this function.
    A value that holds one of the ``secrets`` is not put in.

    >>> interpolate("{n:,} rows; {unknown} and {{n}} stay", {"n": 1500}).text
    '1,500 rows; {unknown} and {{n}} stay'
    """
    filling = _Filling(variables, render, read, secrets)
    pieces: list[str | ImagePart] = []
    replaced: list[Replaced] = []
    left: list[Left] = []
    end = 0
    for match in _placeholders(text):
        source = match.group()
        if filling.budget.is_spent:
            left.append(
                Left(source, "left as typed, with all that follow: the braces before took too long")
            )
            break
        try:
            piece = filling.piece(match["inside"])
        except _KeepBraces as kept:
            if kept.reason and text[max(0, match.start() - 1) : match.start()] != "$":
                left.append(Left(source, kept.reason))
            continue
        pieces += [text[end : match.start()], piece.text if isinstance(piece, Written) else piece]
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
        if not _LATEX.search(behind):
            yield match


def _end_of_doubled(text: str, opening: re.Match[str]) -> int:
    """Where the search goes on behind ``{{``, which is closed in its line or stands alone."""
    end = text.find("}}", opening.end(), opening.end() + _DOUBLED_REACH)
    if end != -1 and "\n" not in text[opening.end() : end]:
        return end + 2
    run = _RUN.match(text, opening.start())
    return max(opening.end(), run.end() - 1) if run else opening.end()


@dataclass(slots=True)
class _Filling:
    """The values of one prompt's braces, with what was found for braces that came before."""

    variables: Mapping[str, Any]
    render: Callable[[Any], Piece]
    read: Callable[[str], Piece] | None
    secrets: Sequence[str]
    budget: Budget = field(default_factory=Budget)
    found: dict[str, Piece | str] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)
    guesses: int = 0

    def piece(self, inside: str) -> Piece:
        """What stands in the place of the braces. Raises ``_KeepBraces``."""
        try:
            if inside in self.kept:
                raise _KeepBraces(self.kept[inside])
            if inside not in self.found:
                self.found[inside] = self._piece(inside)
            piece = self.found[inside]
            self.budget.take(_size(piece))
        except _KeepBraces as kept:
            self.kept[inside] = kept.reason
            raise
        except Refused as refused:
            self.kept[inside] = str(refused)
            raise _KeepBraces(str(refused)) from None
        return piece

    def _piece(self, inside: str) -> Piece:
        if self.read is not None and inside.startswith(_FILE):
            self.budget.spend(RENDER_STEPS)
            piece = self.read(inside.removeprefix(_FILE).strip())
        else:
            piece = self._of_expression(inside)
        self.budget.spend(_IMAGE_STEPS if isinstance(piece, ImagePart) else 0)
        text = piece.text if isinstance(piece, Written) else piece
        if isinstance(text, str) and self._holds_key(text):
            raise _KeepBraces("its value seems to contain an API key")
        return piece

    def _holds_key(self, text: str) -> bool:
        return looks_like_key(text) or any(secret in text for secret in self.secrets)

    def _of_expression(self, inside: str) -> Piece:
        self.budget.spend(_PARSE_STEPS + len(inside))
        placeholder = self._taken_apart(inside)
        try:
            return placeholder.piece(self.variables, self.render, self.budget, self._holds_key)
        except Refused as refused:
            reason = str(refused)
        except Exception as error:  # noqa: BLE001 - the user's objects may raise whatever they like
            reason = _reason(error)
        is_code = placeholder.is_padded and not isinstance(placeholder.expression, ast.Name)
        raise _KeepBraces("" if is_code else reason)

    def _taken_apart(self, inside: str) -> Placeholder:
        """The placeholder, if all of its variables are there. Raises ``_KeepBraces``."""
        knows_one = not self.variables.keys().isdisjoint(_WORDS.findall(inside))
        placeholder = taken_apart(inside) if knows_one or len(inside) < _LONGEST_GUESS else None
        if placeholder is None:
            raise _KeepBraces
        names = names_in(placeholder.expression)
        unknown = sorted(name for name in names if name not in self.variables)
        if any(not hasattr(builtins, name) for name in unknown):
            raise _KeepBraces(self._misspelt(placeholder, unknown))
        if len(unknown) == len(names) or not (placeholder.is_path or not placeholder.is_padded):
            raise _KeepBraces
        return placeholder

    def _misspelt(self, placeholder: Placeholder, unknown: list[str]) -> str:
        """What to tell of braces that were probably meant for a variable; "" of all others."""
        if placeholder.is_padded:
            return ""
        for name in unknown:
            if len(name) >= _SHORTEST_GUESS and not hasattr(builtins, name):
                self.guesses += 1
                names = list(self.variables) if self.guesses <= _GUESSES else []
                close = difflib.get_close_matches(name, names, n=1, cutoff=_LIKENESS)
                if close:
                    return f"there is no variable {name}. Did you mean {close[0]!r}?"
        if isinstance(placeholder.expression, ast.Name):
            return f"there is no variable {unknown[0]}"
        return ""


def _reason(error: Exception) -> str:
    """The error in one line, also where its class cannot say what it is."""
    return traceback.format_exception_only(type(error), error)[-1].strip()[:_REASON]


def _size(piece: Piece) -> int:
    if isinstance(piece, ImagePart):
        return 0
    return len(piece.text if isinstance(piece, Written) else piece)


def _noted(source: str, piece: Piece) -> Replaced:
    if isinstance(piece, ImagePart):
        return Replaced(source, bytes=len(piece.data or b""))
    left_out = piece.left_out if isinstance(piece, Written) else ""
    return Replaced(source, _size(piece), left_out=left_out)


def _joined(pieces: list[str | ImagePart]) -> Iterator[TextPart | ImagePart]:
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
