"""What a dashboard last showed, as text and as HTML without any widget, for saved notebooks.

The HTML has tables and inline styles alone: it is what is left where a front end sanitizes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nbllm.core.rendering.escaping import encodable, text_html, without_blank_lines
from nbllm.core.rendering.markdown_html import answer_html

__all__ = ["Section", "sections_html", "sections_text"]

_CELL = "text-align: left; vertical-align: top; white-space: pre-wrap; padding: 4px 12px 4px 0"


@dataclass(frozen=True, slots=True)
class Section:
    """A titled table of plain texts, and below it a text in Markdown, which is a model's."""

    title: str
    rows: tuple[tuple[str, ...], ...] = ()
    markdown: str = ""


def sections_html(sections: Sequence[Section]) -> str:
    """All sections that hold anything, one below the other."""
    return "".join(_html(section) for section in sections if section.rows or section.markdown)


def sections_text(sections: Sequence[Section]) -> str:
    """The same as plain text."""
    return "\n".join(_text(section) for section in sections if section.rows or section.markdown)


def _html(section: Section) -> str:
    rows = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in section.rows)
    table = f'<table style="margin: 0 0 8px 0">{rows}</table>' if rows else ""
    answer = answer_html(section.markdown, coloured=False) if section.markdown else ""
    title = f'<div style="font-weight: 600; margin: 8px 0 2px 0">{text_html(section.title)}</div>'
    return f"{title}{table}{answer}"


def _cell(text: str) -> str:
    return f'<td style="{_CELL}">{without_blank_lines(text_html(text))}</td>'


def _text(section: Section) -> str:
    rows = (f"  {' · '.join(filter(None, row))}" for row in section.rows)
    return encodable("\n".join([section.title, *rows, *filter(None, [section.markdown])]))
