"""``%llm_help``: what there is, on one card, and the flags of one magic; and the line that points
to it when the extension is loaded.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError
from IPython.core.magic import line_magic, magics_class, no_var_expand

from nbllm.core.suggest import did_you_mean
from nbllm.notebook.flags import Help, flag, parser_of, with_help
from nbllm.notebook.magic_line import Flags, parse
from nbllm.notebook.session import NotebookSession, SessionMagics

if TYPE_CHECKING:
    from nbllm.notebook.help_card import Card, Page
    from nbllm.notebook.session import NotebookSession

__all__ = ["HelpMagics", "show_hint"]

HELP = Help(
    """
    %llm_help                        every magic, with an example each
    %llm_help llm_load               all flags of one of them
    %llm_help load                   the same
""",
    (flag("magic", nargs="?", help="One magic; its name may be given without llm_ and %%."),),
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
        from nbllm.notebook.help_card import card_of, page_of

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
        from nbllm.notebook.help_card import magics_of

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
