"""Colours for code: the theme's own in JupyterLab, and others that suit light and dark elsewhere.

One regular expression a language finds comments, strings, numbers and words in linear
time, whatever the code is. Pygments does not: the time of its lexers for Makefiles and Markdown
grows with the square of the text, and a kernel cannot interrupt a regular expression.

Colours are inline styles. A front end that doesn't trust a notebook takes style sheets away, and
values with variables too, so a plain colour stands before the theme's.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING

from nbllm.core.rendering.escaping import code_html

if TYPE_CHECKING:
    import re

    from nbllm.core.rendering.languages import Language

__all__ = ["coloured_code"]

_GREEN, _RED, _BLUE, _GREY = "#2e8540", "#c8514b", "#3b7dd8", "#567f7f"
_COLOURS = {  # kind -> the name that JupyterLab has for it, and a colour that needs no theme
    "comment": ("comment", _GREY),
    "string": ("string", _RED),
    "number": ("number", _GREEN),
    "keyword": ("keyword", _GREEN),
    "builtin": ("builtin", _GREEN),
    "directive": ("keyword", _GREEN),
    "tag": ("tag", _GREEN),
    "name": ("def", _BLUE),
    "key": ("property", _BLUE),
    "hunk": ("property", _BLUE),
    "added": ("keyword", _GREEN),
    "removed": ("string", _RED),
}
_FACES = {"keyword": ";font-weight:bold", "comment": ";font-style:italic"}


def coloured_code(code: str, language: str) -> str:
    """``code`` as HTML for ``<pre><code>``; ``language`` is a fence's word, known or not."""
    from nbllm.core.rendering.languages import language_named

    known = language_named(language)
    if known is None:
        return code_html(code)
    runs = groupby(filter(itemgetter(1), _pieces(code, known)), key=itemgetter(0))
    return "".join(_painted(kind, "".join(text for _, text in run)) for kind, run in runs)


def _painted(kind: str, text: str) -> str:
    return f"{_opening(kind)}{code_html(text)}</span>" if kind else code_html(text)


@cache
def _opening(kind: str) -> str:
    name, colour = _COLOURS[kind]
    theme = f"color:var(--jp-mirror-editor-{name}-color,{colour})"
    return f'<span style="color:{colour};{theme}{_FACES.get(kind, "")}">'


def _pieces(code: str, language: Language) -> Iterator[tuple[str, str]]:
    """The whole of ``code`` as (kind, text), with "" for what has no colour."""
    position, previous = 0, ""
    for match in language.pattern.finditer(code):
        yield "", code[position : match.start()]
        kind = _kind(match, language, previous)
        yield kind, match[0]
        position, previous = match.end(), match[0]
    yield "", code[position:]


def _kind(match: re.Match[str], language: Language, previous: str) -> str:
    kind = match.lastgroup or ""
    if language.key_marks and kind in ("word", "string") and _is_key(match, language.key_marks):
        return "key"
    if kind != "word":
        return kind
    word = match[0].lower() if language.ignores_case else match[0]
    if word in language.keywords:
        return "keyword"
    if previous in language.definers:
        return "name"
    return "builtin" if word in language.builtins else ""


def _is_key(match: re.Match[str], marks: str) -> bool:
    following = match.string[match.end() : match.end() + 2].lstrip(" ")[:1]
    return bool(following) and following in marks
