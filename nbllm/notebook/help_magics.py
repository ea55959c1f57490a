"""``%llm_help``: what there is, on one card, and the flags of one magic; and the line that points
to it when the extension is loaded.
"""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from IPython.core.error import UsageError
from IPython.core.magic import line_magic, magics_class, no_var_expand

from nbllm.core.rendering.escaping import code_html, preformatted, text_html
from nbllm.core.suggest import did_you_mean
from nbllm.notebook.flags import Help, flag, help_of, parser_of, with_help
from nbllm.notebook.magic_line import Flags, parse
from nbllm.notebook.magic_settings import USUAL_PREFIX
from nbllm.notebook.session import NotebookSession, SessionMagics
from nbllm.notebook.views.bundles import note_html

__all__ = [
    "Card",
    "Entry",
    "HelpMagics",
    "Magic",
    "Page",
    "card_of",
    "magics_of",
    "page_of",
    "show_hint",
]

HELP = Help(
    """
    %llm_help                        every magic, with an example each
    %llm_help llm_load               all flags of one of them
    %llm_help load                   the same
""",
    (flag("magic", nargs="?", help="One magic; its name may be given without llm_ and %%."),),
)


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


class HelpFlags(Flags):
    """What ``HELP`` explains."""

    magic: str | None


@magics_class
class HelpMagics(SessionMagics):
    """The magic that explains the others."""

    def __init__(self, session: NotebookSession) -> None:
        super().__init__(session)
        session.completions.words["llm_help.magic"] = self._names

    @no_var_expand
    @with_help(HELP)
    @line_magic
    def llm_help(self, line: str) -> Card | Page:
        """Show every magic with an example, or all flags of one magic."""
        name = parse(parser_of(self, "llm_help"), line, HelpFlags()).magic
        return card_of(self.session) if name is None else page_of(self.session, self._named(name))

    def _named(self, asked: str) -> str:
        """The magic that is meant. Raises ``UsageError`` with the closest name."""
        bare, names = asked.lstrip("%").rstrip("?"), self._names()
        prefix = self.session.magic_name("llm_")
        for name in (bare, prefix + bare):
            if name in names:
                return name
        short = bare.removeprefix(prefix)
        hint = did_you_mean(short, [name.removeprefix(prefix) for name in names])
        hint = hint or f" There are: {', '.join(names)}."
        raise UsageError(f"there is no magic %{bare}.{hint}")

    def _names(self) -> list[str]:
        return sorted(magics_of(self.session))


_SHOWN = "nbllm_hint_shown"


def show_hint(session: NotebookSession) -> None:
    """Say where the help is, if a person sits there and has not been told by this kernel."""
    shell: Any = session.shell
    if shell.meta.get(_SHOWN) or not _is_typed(shell):
        return
    shell.meta[_SHOWN] = True
    ask, more = session.magic_name("llm"), session.magic_name("llm_help")
    session.open_view("load_ext").keep(f"nbllm is loaded: %%{ask} asks a model, %{more} shows more")


def _is_typed(shell: Any) -> bool:
    """Whether a person runs this cell: no start-up file, script, papermill or nbconvert.

    Only front ends in which a person can be asked for input allow it with each of their cells.
    """
    request = getattr(shell, "parent_header", None)
    if request is not None:
        return bool(request.get("content", {}).get("allow_stdin"))
    is_in_cell = len(shell.history_manager.input_hist_raw) > 1
    runs_script = not getattr(shell.parent, "interact", True)
    return is_in_cell and not runs_script and sys.stdout.isatty()


# ---------------------------------------------------------------- the card


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
