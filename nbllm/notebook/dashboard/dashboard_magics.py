"""``%llm_dashboard``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from IPython.core.magic import line_magic, magics_class, no_var_expand

from nbllm.notebook.flags import Help, parser_of, with_help
from nbllm.notebook.magic_line import Flags, parse
from nbllm.notebook.session import NotebookSession, SessionMagics

if TYPE_CHECKING:
    from nbllm.notebook.dashboard.board import Dashboard

__all__ = ["DashboardMagics"]

DASHBOARD = Help("""
    %llm_dashboard                   models, devices, running requests and a playground, live
    board = %llm_dashboard
    board.close()
""")


@magics_class
class DashboardMagics(SessionMagics):
    """The magic that shows everything at once."""

    def __init__(self, session: NotebookSession) -> None:
        super().__init__(session)
        self._board: Dashboard | None = None
        session.at_close(self._close)

    @no_var_expand
    @with_help(DASHBOARD)
    @line_magic
    def llm_dashboard(self, line: str) -> Dashboard:
        """Models, devices, throughput, running requests and a playground, live.

        Run in another cell, it shows a second view of the same dashboard.
        """
        parse(parser_of(self, "llm_dashboard"), line, Flags())
        from nbllm.notebook.dashboard.board import Dashboard

        if self._board is None or self._board.closed:
            self._board = Dashboard(self.session.manager)
        return self._board

    def _close(self) -> None:
        if self._board is not None:
            self._board.close()
