r"""The functions through which every text passes on its way into HTML.

Notebook front ends search HTML output for formulas, so dollar signs and backslashes are live too:
"costs $5 and $10" would be typeset, ``\\`` would lose a backslash. MathJax looks for a formula in
one run of text and never across elements, so each of these characters stands in a ``<span>`` of
its own. Inside ``<pre>`` and ``<code>`` it looks for none.
"""

from __future__ import annotations

import re

__all__ = [
    "attribute_html",
    "code_html",
    "encodable",
    "preformatted",
    "text_html",
    "without_blank_lines",
]

LONGEST_PREFORMATTED = 500_000
"""Characters of a text without structure that a page is given; more than that freezes it."""

_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;"}
_ISOLATED = {"$": "<span>$</span>", "\\": "<span>\\</span>"}
_CONTROL = "\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff"
_IN_ATTRIBUTE = re.compile(f"[&<>\"'{_CONTROL}]")
_IN_TEXT = re.compile(f"[&<>\"'$\\\\{_CONTROL}]")
_LINE_END = re.compile(r"\r\n?")
_NEWLINE_BEFORE_BLANK = re.compile(r"\n(?=[ \t]*(?:\n|\Z))")
_SURROGATE = re.compile("[\ud800-\udfff]")


def text_html(text: str) -> str:
    """``text`` between two tags: it is read as it is written, and nothing in it is a formula."""
    return _IN_TEXT.sub(_in_text, text)


def attribute_html(text: str) -> str:
    """``text`` between the quotes of an attribute."""
    return _IN_ATTRIBUTE.sub(_in_attribute, text)


def code_html(text: str) -> str:
    """``text`` inside ``<pre>`` or ``<code>``."""
    return _IN_ATTRIBUTE.sub(_in_attribute, _LINE_END.sub("\n", text))


def without_blank_lines(html: str) -> str:
    """The same HTML, in which no line is blank.

    Where it is exported into a Markdown file, a blank line would end it, and what follows would be
    read as Markdown.
    """
    return _NEWLINE_BEFORE_BLANK.sub("&#10;", html)


def preformatted(text: str) -> str:
    """``text`` as a block that keeps its lines; the end of a very long one is left out."""
    shown, left_out = text[:LONGEST_PREFORMATTED], max(0, len(text) - LONGEST_PREFORMATTED)
    end = f"<p>… and {left_out:,} more characters, which are not shown.</p>" if left_out else ""
    style = "white-space: pre-wrap; overflow-wrap: anywhere; margin: 0"
    return without_blank_lines(f'<pre style="{style}">{code_html(shown)}</pre>{end}')


def encodable(text: str) -> str:
    """``text`` with U+FFFD for lone surrogates, which cannot be sent or saved."""
    return _SURROGATE.sub("\ufffd", text)


def _in_text(match: re.Match[str]) -> str:
    return _ISOLATED.get(match[0]) or _in_attribute(match)


def _in_attribute(match: re.Match[str]) -> str:
    return _ENTITIES.get(match[0], "\ufffd")
