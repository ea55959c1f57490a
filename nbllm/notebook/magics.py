"""The extension: which magics there are, and how they come into a shell and leave it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from nbllm.notebook.ask_magics import AskMagics
from nbllm.notebook.bench_magics import BenchMagics
from nbllm.notebook.job_magics import JobMagics
from nbllm.notebook.model_magics import ModelMagics
from nbllm.notebook.questions import keep_questions
from nbllm.notebook.session import NotebookSession, SessionMagics

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from nbllm.core.model_manager import ModelManager

__all__ = ["load", "unload"]

GROUPS: tuple[type[SessionMagics], ...] = (
    AskMagics,
    BenchMagics,
    JobMagics,
    ModelMagics,
)
"""Every group of magics, each in a module that imports at load what IPython has loaded anyway."""


def load(shell: InteractiveShell, manager: Callable[[], ModelManager] | None = None) -> None:
    """Register everything with ``shell``; what an earlier load registered is replaced.

    ``manager`` gives the models, ``nbllm.default_manager`` without it.
    """
    unload(shell)
    session = NotebookSession(shell, manager or _default_manager)
    for group in GROUPS:
        shell.register_magics(group(session))
    _configurables(shell).append(session.settings)
    session.completions.register()
    shell.input_transformers_cleanup.append(keep_questions)


def unload(shell: InteractiveShell) -> None:
    """Take back all that ``load`` registered. The models that are loaded stay so."""
    registry = shell.magics_manager.registry
    groups = [magics for magics in registry.values() if isinstance(magics, SessionMagics)]
    for magics in groups:
        _unregister(shell, magics)
    for session in {magics.session for magics in groups}:
        _configurables(shell).remove(session.settings)
        shell.input_transformers_cleanup.remove(keep_questions)
        session.close()


def _unregister(shell: InteractiveShell, magics: SessionMagics) -> None:
    manager = shell.magics_manager
    del manager.registry[type(magics).__name__]
    for table in manager.magics.values():
        for name in [n for n, magic in table.items() if _owner(magic) is magics]:
            del table[name]
    _configurables(shell).remove(magics)


def _configurables(shell: InteractiveShell) -> list[Any]:
    """What ``%config`` knows; IPython types the list by its first member alone."""
    known: list[Any] = shell.configurables
    return known


def _default_manager() -> ModelManager:
    from nbllm.core.model_manager import default_manager

    return default_manager()


def _owner(function: object) -> object:
    return getattr(function, "__self__", None)
