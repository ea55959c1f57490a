"""Tables in HTML: of one thing and its facts, or of several things.

They have the class of pandas' tables, which every front end gives the colours of its theme. On a
narrow page the columns that matter least are hidden, one after the other, and named below; where a
page drops the rules for that, as for notebooks that are not trusted, the table scrolls instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from zlib import crc32

from nbllm.core.rendering.escaping import text_html

__all__ = ["Column", "card_html", "list_html", "table_html"]

_SHORT = 24
"""Texts of up to so many characters are not broken."""
_READABLE_EM = 12
"""Longer ones never stand in a narrower column than this, for all that they are broken."""
_EM_PX, _CHARACTER_PX, _PADDING_PX = 13, 7.6, 18
_SCROLLS = "overflow-x: auto; max-width: 100%; scrollbar-width: thin; container-type: inline-size"
_SMALL = "color: var(--jp-ui-font-color2, GrayText); font-size: 0.85em"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of texts; those of numbers stand at the right.

    ``goes`` is its turn to be hidden where the page is narrow, from 1; None: it stays.
    """

    name: str
    texts: Sequence[str]
    is_number: bool = False
    goes: int | None = None

    @property
    def longest(self) -> int:
        """Characters of the longest text."""
        return max(map(len, self.texts), default=0)

    @property
    def style(self) -> str:
        """That of its cells."""
        if self.is_number:
            return "white-space: nowrap"
        if self.longest <= _SHORT:
            return "text-align: left; white-space: nowrap"
        return f"text-align: left; min-width: {_READABLE_EM}em; overflow-wrap: anywhere"

    @property
    def width(self) -> float:
        """About how many pixels it takes at least, at the font size of JupyterLab."""
        word = max(map(len, heading(self.name).split(" ")))
        if self.longest > _SHORT:
            return max(word * _CHARACTER_PX, _READABLE_EM * _EM_PX) + _PADDING_PX
        return max(word, self.longest) * _CHARACTER_PX + _PADDING_PX


def heading(name: str) -> str:
    """A column's name that a page breaks between words, but within no unit."""
    return re.sub(r" (?=%|[^(]*\))", "\N{NO-BREAK SPACE}", name)


def table_html(columns: Sequence[Column], *, head: bool = True) -> str:
    """The columns beside one another, below their names."""
    going = sorted((each for each in columns if each.goes is not None), key=lambda c: c.goes or 0)
    name = f"nbllm-{crc32(repr([(c.name, c.goes, c.width) for c in columns]).encode()):08x}"
    classes = [f"{name}-{going.index(each)}" if each in going else "" for each in columns]
    sides = ["text-align: left" if "left" in each.style else "" for each in columns]
    top = _row("th", [heading(each.name) for each in columns], classes, sides) if head else ""
    styles = [each.style for each in columns]
    rows = zip(*(each.texts for each in columns), strict=True)
    body = "".join(_row("td", row, classes, styles) for row in rows)
    thead = f"<thead>{top}</thead>" if top else ""
    table = f'<table class="dataframe">{thead}<tbody>{body}</tbody></table>'
    rules, missing = _rules(name, columns, going), _missing(name, going)
    return f'{rules}<div style="{_SCROLLS}">{table}{missing}</div>'


def card_html(title: str, facts: Iterable[tuple[str, str]]) -> str:
    """What is known of one thing: its name, and beside the words for them its facts."""
    known = [fact for fact in facts if fact[1]]
    names, texts = [name for name, _ in known], [text for _, text in known]
    table = table_html([Column("", names), Column("", texts)], head=False)
    return f"<div><strong>{text_html(title)}</strong></div>{table}"


def list_html(columns: Sequence[Column]) -> str:
    """Things with the same facts; columns in which nothing is known are left out."""
    return table_html([each for each in columns if any(each.texts)])


def _rules(name: str, columns: Sequence[Column], going: Sequence[Column]) -> str:
    """CSS by which the columns go as soon as the page is too narrow for what is left."""
    width, rules = sum(each.width for each in columns), []
    for at, column in enumerate(going):
        hidden = f".{name}-{at}{{display:none}}.{name}-n{at}{{display:inline!important}}"
        shown = f".{name}-n{{display:block!important}}" if not at else ""
        rules.append(f"@container (max-width:{width:.0f}px){{{hidden}{shown}}}")
        width -= column.width
    return f"<style>{''.join(rules)}</style>" if rules else ""


def _missing(name: str, going: Sequence[Column]) -> str:
    """The line that names what is hidden; it shows itself as soon as something is."""
    names = "".join(
        f'<span class="{name}-n{at}" style="display: none">{", " if at else ""}'
        f"{text_html(column.name)}</span>"
        for at, column in enumerate(going)
    )
    told = f'<div class="{name}-n" style="display: none; {_SMALL}">Not shown here: {names}</div>'
    return told if going else ""


def _row(tag: str, texts: Sequence[str], classes: Sequence[str], styles: Sequence[str]) -> str:
    cells = (
        f"<{tag}{_attribute('class', kind)}{_attribute('style', style)}>{text_html(text)}</{tag}>"
        for text, kind, style in zip(texts, classes, styles, strict=True)
    )
    return f"<tr>{''.join(cells)}</tr>"


def _attribute(name: str, value: str) -> str:
    return f' {name}="{value}"' if value else ""
