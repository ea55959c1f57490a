"""The line that ``%load_ext`` shows to whoever typed it, once in a kernel."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nbllm.notebook.session import NotebookSession

__all__ = ["show_hint"]

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
