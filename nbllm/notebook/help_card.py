"""The card of all magics, made of the magics themselves, so that none can be left out."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from nbllm.core.rendering.escaping import code_html, preformatted, text_html
from nbllm.notebook.flags import Help, help_of
from nbllm.notebook.magic_settings import USUAL_PREFIX
from nbllm.notebook.session import NotebookSession, SessionMagics
from nbllm.notebook.views.bundles import note_html

__all__ = ["Card", "Entry", "Magic", "Page", "card_of", "magics_of", "page_of"]

_SECTIONS = (
    ("Ask", ("llm", "llm_last", "llm_chat", "llm_jobs")),
    ("Code and errors", ("llm_explain", "llm_fix")),
    ("Models", ("llm_load", "llm_unload", "llm_models", "llm_fit", "llm_bench")),
    ("Model files", ("llm_pull", "llm_delete", "llm_quantize", "llm_imatrix", "llm_tune")),
    (
        "This machine",
        ("llm_devices", "llm_dashboard", "llm_stats", "llm_plot", "llm_cache", "llm_budget"),
    ),
    ("Settings and help", ("llm_config", "llm_help")),
)
_OTHERS = "More"
_COMMENT = re.compile(r"\s{2,}\S.*")
_GRID = "display: grid; grid-template-columns: minmax(7em, max-content) 1fr; gap: 0.15em 1.2em"
_HEAD = "grid-column: 1 / -1; font-weight: 600; margin-top: 0.7em"
_CODE = (
    "white-space: pre-wrap; overflow-wrap: anywhere; margin: 0; padding: 0; background: none; "
    "color: var(--jp-ui-font-color2, GrayText)"
)


@dataclass(frozen=True, slots=True)
class Magic:
    """One magic: its name, and the ``marks`` that it is called by, ``%%`` before ``%``."""

    name: str
    function: Callable[..., Any]
    marks: tuple[str, ...]

    @property
    def typed(self) -> str:
        """What is typed for it."""
        return ", ".join(f"{marks}{self.name}" for marks in self.marks)


@dataclass(frozen=True, slots=True)
class Entry:
    """A magic on the card: what is typed for it, what it does, and examples with their cells."""

    name: str
    purpose: str
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Card:
    """Every magic, an example each, in sections; a cell shows it as HTML or as plain text."""

    sections: tuple[tuple[str, tuple[Entry, ...]], ...]
    help_name: str

    def __repr__(self) -> str:
        lines = []
        for title, entries in self.sections:
            lines += ["", title]
            for entry in entries:
                lines.append(f"  {entry.name:<16} {entry.purpose}")
                lines += [f"      {line}" for each in entry.examples for line in each.splitlines()]
        return "\n".join([*lines[1:], "", self._foot])

    def _repr_html_(self) -> str:
        rows = [
            row
            for title, entries in self.sections
            for row in (f'<div style="{_HEAD}">{text_html(title)}</div>', *map(_row_html, entries))
        ]
        return f'<div style="{_GRID}">{"".join(rows)}</div>{note_html(self._foot)}'

    @property
    def _foot(self) -> str:
        return (
            f"{self.help_name} NAME shows all flags of one magic, as NAME? does; Tab completes "
            "names of models, flags and values."
        )


def _row_html(entry: Entry) -> str:
    examples = "".join(f'<pre style="{_CODE}">{code_html(each)}</pre>' for each in entry.examples)
    name = f"<div><code>{code_html(entry.name)}</code></div>"
    return f"{name}<div>{text_html(entry.purpose)}{examples}</div>"


@dataclass(frozen=True, slots=True)
class Page:
    """All that one magic's help says, as ``?`` shows it."""

    text: str

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        return preformatted(self.text)


def magics_of(session: NotebookSession) -> dict[str, Magic]:
    """The magics of the session by their names in this shell, without percent signs."""
    groups = session.shell.magics_manager.registry.values()
    found: dict[str, Magic] = {}
    for group in groups:
        if isinstance(group, SessionMagics) and group.session is session:
            for kind, marks in (("cell", "%%"), ("line", "%")):
                for name, function in group.magics[kind].items():
                    known = found.get(name)
                    found[name] = Magic(name, function, (*(known.marks if known else ()), marks))
    return found


def card_of(session: NotebookSession) -> Card:
    """The card of a session's magics, under the names that they have in its shell."""
    known = magics_of(session)
    rename = _renamer(session.settings.magic_prefix)
    sections = []
    for title, names in _SECTIONS:
        there = [known.pop(name) for name in map(session.magic_name, names) if name in known]
        sections.append((title, tuple(_entry(magic, rename) for magic in there)))
    others = tuple(_entry(magic, rename) for magic in known.values())
    kept = [*sections, *([(_OTHERS, others)] if others else [])]
    return Card(tuple(kept), f"%{session.magic_name('llm_help')}")


def page_of(session: NotebookSession, name: str) -> Page:
    """The help of one magic, with its flags; ``name`` is one of ``magics_of``."""
    text = help_of(magics_of(session)[name].function)
    return Page(_renamer(session.settings.magic_prefix)(text))


def _renamer(prefix: str) -> Callable[[str], str]:
    """Puts the names that magics have in this shell into a text."""
    return lambda text: re.sub(rf"(?<=%){USUAL_PREFIX}(?![A-Za-z0-9])", prefix, text)


def _entry(magic: Magic, rename: Callable[[str], str]) -> Entry:
    explained: Help | None = getattr(magic.function, "explained", None)
    purpose = (magic.function.__doc__ or "").strip().partition("\n\n")[0]
    purpose = re.sub(r"\s+", " ", purpose).replace("``", "")
    blocks = list(map(rename, _blocks(explained.examples))) if explained else []
    return Entry(magic.typed, rename(purpose), tuple(_examples(blocks, magic)))


def _examples(blocks: list[str], magic: Magic) -> Iterator[str]:
    """The first with more than the name, and for each other way to call the magic the first."""
    telling = [block for block in blocks if block.strip() not in (f"%{magic.name}", "")]
    shown = (telling or blocks)[:1]
    yield from shown
    for marks in magic.marks:
        call = re.compile(rf"(?<!%){marks}{magic.name}\b")
        if not any(map(call.search, shown)):
            yield from [block for block in blocks if call.search(block)][:1]


def _blocks(examples: str) -> Iterator[str]:
    """The examples of a magic, without what is said beside them; a cell is one example."""
    for block in re.split(r"\n\s*\n", textwrap.dedent(examples).strip("\n")):
        lines = [_COMMENT.sub("", line) for line in block.splitlines()]
        if lines and lines[0].startswith("%%"):
            yield "\n".join(lines)
        else:
            yield from lines
