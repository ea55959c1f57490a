"""The extension: which magics there are, and how it comes into a shell and leaves it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from nbllm.notebook.asking.magics import AskMagics
from nbllm.notebook.chat.magics import ChatMagics
from nbllm.notebook.dashboard_magics import DashboardMagics
from nbllm.notebook.failures import end_stops_quietly
from nbllm.notebook.help.hint import show_hint
from nbllm.notebook.help.magics import HelpMagics
from nbllm.notebook.jobs.magics import JobMagics
from nbllm.notebook.late_questions import keep_late_questions
from nbllm.notebook.models.bench_magics import BenchMagics
from nbllm.notebook.models.fit_magics import FitMagics
from nbllm.notebook.models.magics import ModelMagics
from nbllm.notebook.prompts.error_magics import ErrorMagics
from nbllm.notebook.questions import keep_questions
from nbllm.notebook.registration import Registration
from nbllm.notebook.session import NotebookSession, SessionMagics, SessionState
from nbllm.notebook.settings.magics import ConfigMagics
from nbllm.notebook.stats.magics import StatsMagics
from nbllm.notebook.versions import complete_with, is_reloading

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from nbllm.core.model_manager import ModelManager

__all__ = ["leave", "load", "unload"]

GROUPS: tuple[type[SessionMagics], ...] = (
    AskMagics,
    BenchMagics,
    ChatMagics,
    FitMagics,
    ConfigMagics,
    ErrorMagics,
    DashboardMagics,
    HelpMagics,
    JobMagics,
    ModelMagics,
    StatsMagics,
)
"""Every group of magics, each in a module that imports at load what IPython has loaded anyway."""


_STATES: WeakKeyDictionary[InteractiveShell, SessionState] = WeakKeyDictionary()
"""What goes on when the extension is loaded again, by shell."""


def load(shell: InteractiveShell, manager: Callable[[], ModelManager] | None = None) -> None:
    """Register everything with ``shell``; what an earlier load registered is replaced.

    Conversations, settings, answers and jobs of an earlier load go on. ``manager`` gives the
    models, ``nbllm.default_manager`` without it.
    """
    unload(shell)
    session = NotebookSession(shell, manager or _default_manager, _STATES.get(shell))
    _STATES[shell] = session.state
    groups = [group(session) for group in GROUPS]  # each adds itself to the configurables
    configurables: list[Any] = shell.configurables
    _add(session, configurables, session.settings)
    session.at_close(complete_with(shell.Completer, session.completions.find))
    _add(session, shell.input_transformers_cleanup, _question_keeper(session))
    session.at_close(keep_late_questions(shell, session.settings.magic_prefix))
    session.at_close(end_stops_quietly(shell))
    for group in groups:
        session.at_close(partial(configurables.remove, group))
    _follow_nest_asyncio(session)
    _register(session, Registration(shell, groups))
    show_hint(session)


def unload(shell: InteractiveShell, *, for_good: bool = False) -> None:
    """Take back all that ``load`` registered. The models that are loaded stay so.

    ``for_good`` ends the jobs too and forgets the rest; else a later ``load`` goes on with them.
    """
    registry = shell.magics_manager.registry
    groups = [magics for magics in registry.values() if isinstance(magics, SessionMagics)]
    for session in {magics.session for magics in groups}:
        session.close()
    state = _STATES.pop(shell, None) if for_good else None
    if state is not None:
        state.close_bridge()


def leave(shell: InteractiveShell) -> None:
    """What ``%unload_ext`` does: unload for good, unless ``%reload_ext`` is about to load again."""
    unload(shell, for_good=not is_reloading())


def _register(session: NotebookSession, registration: Registration) -> None:
    """Put the magics under the prefix that is set, and whenever it is set anew."""

    def put() -> None:
        taken = registration.put(session.settings.magic_prefix)
        if taken:
            session.open_view("load_ext").keep(_clash_words(taken))

    session.settings.observe(lambda change: put(), "magic_prefix")
    session.at_close(lambda: session.settings.unobserve_all())
    session.at_close(registration.take_back)
    put()


def _follow_nest_asyncio(session: NotebookSession) -> None:
    """Patch asyncio as soon as the setting says so. It is checked that the package is there."""

    def apply() -> None:
        if session.settings.nest_asyncio:
            import nest_asyncio2

            nest_asyncio2.apply()

    session.settings.observe(lambda change: apply(), "nest_asyncio")
    apply()


def _clash_words(taken: dict[str, str]) -> str:
    others = ", ".join(sorted(set(taken.values())))
    names = ", ".join(f"%{name}" for name in sorted(taken))
    return (
        f"nbllm's {names} replaced those of {others}. To use both: "
        "%llm_config magic_prefix=nbllm, and then %%nbllm asks nbllm."
    )


def _question_keeper(session: NotebookSession) -> Callable[[list[str]], list[str]]:
    return lambda lines: keep_questions(lines, session.settings.magic_prefix)


def _add(session: NotebookSession, registered: list[Any], item: object) -> None:
    """Put ``item`` into one of the shell's lists until the session is closed."""
    registered.append(item)
    session.at_close(lambda: registered.remove(item))


def _default_manager() -> ModelManager:
    from nbllm.core.model_manager import default_manager

    return default_manager()
