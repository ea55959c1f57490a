"""The extension: which magics there are, and how it comes into a shell and leaves it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Any

from nbllm.notebook.asking.ask_magics import AskMagics
from nbllm.notebook.chat.chat_magics import ChatMagics
from nbllm.notebook.dashboard.dashboard_magics import DashboardMagics
from nbllm.notebook.help_magics import HelpMagics, show_hint
from nbllm.notebook.jobs.job_magics import JobMagics
from nbllm.notebook.magic_settings import USUAL_PREFIX
from nbllm.notebook.models.bench_magics import BenchMagics, FitMagics
from nbllm.notebook.models.model_magics import ModelMagics
from nbllm.notebook.models.pull_magics import PullMagics
from nbllm.notebook.models.quantize_magics import QuantizeMagics
from nbllm.notebook.prompts.error_magics import ErrorMagics
from nbllm.notebook.running_cell import note_stops
from nbllm.notebook.session import NotebookSession, SessionMagics
from nbllm.notebook.settings.config_magics import ConfigMagics
from nbllm.notebook.stats.budget_magics import BudgetMagics
from nbllm.notebook.stats.cache_magics import CacheMagics
from nbllm.notebook.stats.stats_magics import StatsMagics
from nbllm.notebook.typed_questions import ask_first_questions, keep_questions
from nbllm.notebook.versions import complete_with

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from nbllm.core.model_manager import ModelManager

__all__ = ["load", "unload"]

GROUPS: tuple[type[SessionMagics], ...] = (
    AskMagics,
    BenchMagics,
    BudgetMagics,
    CacheMagics,
    ChatMagics,
    FitMagics,
    ConfigMagics,
    ErrorMagics,
    DashboardMagics,
    HelpMagics,
    JobMagics,
    ModelMagics,
    PullMagics,
    QuantizeMagics,
    StatsMagics,
)
"""Every group of magics, each in a module that imports at load what IPython has loaded anyway."""

_SESSION = "_nbllm_session"
"""The attribute of a shell that holds what a reload keeps."""


def load(shell: InteractiveShell, manager: Callable[[], ModelManager] | None = None) -> None:
    """Register everything with ``shell``; what an earlier load registered is replaced.

    ``manager`` gives the models, ``nbllm.default_manager`` without it. Conversations, settings,
    answers and jobs of an earlier load with the same models are there again.
    """
    unload(shell)
    session = _session(shell, manager or _default_manager)
    groups = [group(session) for group in GROUPS]  # each adds itself to the configurables
    configurables: list[Any] = shell.configurables
    _add(session, configurables, session.settings)
    session.at_close(complete_with(shell.Completer, session.completions.find))
    _add(session, shell.input_transformers_cleanup, _question_keeper(session))
    session.at_close(note_stops(shell, lambda words: session.open_view("stop").keep(words)))
    for group in groups:
        session.at_close(partial(configurables.remove, group))
    _follow_nest_asyncio(session)
    _register(session, _Registration(shell, groups))
    session.at_close(ask_first_questions(shell, session.settings.magic_prefix))
    show_hint(session)


def unload(shell: InteractiveShell) -> None:
    """Take back all that ``load`` registered. The models that are loaded stay so.

    Jobs are stopped, but go on where ``%reload_ext`` loads it again.
    """
    registry = shell.magics_manager.registry
    groups = [magics for magics in registry.values() if isinstance(magics, SessionMagics)]
    for session in {magics.session for magics in groups}:
        session.close(keeps_jobs=_is_reload(shell))


def _is_reload(shell: InteractiveShell) -> bool:
    """Whether ``%reload_ext`` unloads it; IPython does not tell."""
    extensions: Any = shell.extension_manager
    reload = extensions.reload_extension.__code__
    frame: FrameType | None = sys._getframe()  # noqa: SLF001 - who calls is known to the stack alone
    while frame is not None and frame.f_code is not reload:
        frame = frame.f_back
    return frame is not None


def _session(shell: InteractiveShell, get_manager: Callable[[], ModelManager]) -> NotebookSession:
    """That of an earlier load, which ``%reload_ext`` is to keep; else a new one."""
    kept = vars(shell).get(_SESSION)
    if not isinstance(kept, NotebookSession) or kept.get_manager is not get_manager:
        kept = NotebookSession(shell, get_manager)
        vars(shell)[_SESSION] = kept
    return kept


def _register(session: NotebookSession, registration: _Registration) -> None:
    """Put the magics under the prefix that is set, and whenever it is set anew."""

    def put() -> None:
        taken = registration.put(session.settings.magic_prefix)
        if taken:
            session.open_view("load_ext").keep(_clash_words(taken))

    _observe(session, put, "magic_prefix")
    session.at_close(registration.take_back)
    put()


def _follow_nest_asyncio(session: NotebookSession) -> None:
    """Patch asyncio as soon as the setting says so. It is checked that the package is there."""

    def apply() -> None:
        if session.settings.nest_asyncio:
            import nest_asyncio2

            nest_asyncio2.apply()

    _observe(session, apply, "nest_asyncio")
    apply()


def _observe(session: NotebookSession, act: Callable[[], None], setting: str) -> None:
    """Call ``act`` whenever the setting changes, until the session is closed."""

    def follow(change: object) -> None:
        act()

    session.settings.observe(follow, setting)
    session.at_close(lambda: session.settings.unobserve(follow, setting))


def _clash_words(taken: dict[str, str]) -> str:
    others = ", ".join(sorted(set(taken.values())))
    names = ", ".join(f"%{name}" for name in sorted(taken))
    return (
        f"nbllm's {names} replaced those of {others}. To use both: "
        "%llm_config magic_prefix=nbllm, and then %%nbllm asks nbllm."
    )


def _question_keeper(session: NotebookSession) -> Callable[[list[str]], list[str]]:
    shell = session.shell

    def keep(lines: list[str]) -> list[str]:
        prefix = session.settings.magic_prefix
        automagic = shell.automagic and prefix not in shell.user_ns
        return keep_questions(lines, prefix, automagic=automagic)

    return keep


def _add(session: NotebookSession, registered: list[Any], item: object) -> None:
    """Put ``item`` into one of the shell's lists until the session is closed."""
    registered.append(item)
    session.at_close(lambda: registered.remove(item))


def _default_manager() -> ModelManager:
    from nbllm.core.model_manager import default_manager

    return default_manager()


class _Registration:
    """Groups of magics in a shell, under names of the reader's choice.

    A magic of somebody else that had one of the names stands there again after ``take_back``.
    """

    def __init__(self, shell: InteractiveShell, groups: Sequence[SessionMagics]) -> None:
        self._shell, self._groups = shell, groups
        self._named = {group: group.magics for group in groups}
        self._displaced: dict[tuple[str, str], Callable[..., Any]] = {}

    def put(self, prefix: str) -> dict[str, str]:
        """Register the magics with ``prefix`` in place of "llm".

        Returns the names that were taken, with the package that had them.
        """
        self.take_back()
        for group in self._groups:
            group.magics = {
                kind: {
                    prefix + name.removeprefix(USUAL_PREFIX): magic for name, magic in row.items()
                }
                for kind, row in self._named[group].items()
            }
            self._displaced.update(self._taken(group))
            self._shell.register_magics(group)
        return {name: _package(magic) for (_, name), magic in self._displaced.items()}

    def take_back(self) -> None:
        """Leave the shell as it was. What somebody has put over one of the magics stays."""
        manager = self._shell.magics_manager
        for group in self._groups:
            manager.registry.pop(type(group).__name__, None)
            for kind, row in group.magics.items():
                # Only under our names: looking at others would load IPython's lazy magics.
                for name in [
                    name for name in row if _owner(manager.magics[kind].get(name)) is group
                ]:
                    del manager.magics[kind][name]
        for (kind, name), magic in self._displaced.items():
            manager.magics[kind].setdefault(name, magic)
        self._displaced.clear()

    def _taken(self, group: SessionMagics) -> Iterator[tuple[tuple[str, str], Callable[..., Any]]]:
        for kind, row in group.magics.items():
            known = self._shell.magics_manager.magics[kind]
            yield from (((kind, name), known[name]) for name in row if name in known)


def _owner(magic: object) -> object:
    return getattr(magic, "__self__", None)


def _package(magic: Callable[..., Any]) -> str:
    return magic.__module__.partition(".")[0]
