"""What the magics of one shell share: the models, the loop, the settings, the last results."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from IPython.core.error import UsageError
from IPython.core.magic import Magics

from nbllm.notebook.completion import Completions
from nbllm.notebook.settings.settings import NbLLM

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from nbllm.core.model_manager import ModelManager
    from nbllm.core.types import GenerationResult, LoadOptions
    from nbllm.notebook.asking.continuation import Asked
    from nbllm.notebook.chat.chats import Chats
    from nbllm.notebook.jobs.jobs import Job
    from nbllm.notebook.loop import LoopThread
    from nbllm.notebook.views.display import View

__all__ = [
    "RESULT_VARIABLE",
    "Failure",
    "NotebookSession",
    "SessionMagics",
    "SessionState",
    "is_own",
]

RESULT_VARIABLE = "_llm"
RESULTS_KEPT = 50


@dataclass(frozen=True, slots=True)
class Failure:
    """An error of the reader's own code; ``cell`` as it was typed, and its ``number``, if known."""

    error: BaseException
    cell: str | None = None
    number: int | None = None


def is_own(error: BaseException) -> bool:
    """Whether ``error`` is of the reader's code, and not what a magic told or an interrupt."""
    is_told = isinstance(error, UsageError | KeyboardInterrupt)
    return not is_told and not hasattr(error, "_render_traceback_")


class SessionState:
    """What a shell keeps of its magics while the extension is loaded anew: all that is a reader's.

    ``results`` holds the last answers, the newest at its end, ``jobs`` the answers in the
    background by their numbers. ``failure`` is the last error of the reader's own code, from
    before ``%load_ext`` too, and ``asked`` the last question with its answer. ``bridge`` is the
    thread in which coroutines run.
    """

    def __init__(self, shell: InteractiveShell) -> None:
        self.settings = NbLLM(parent=shell)
        self.jobs: dict[int, Job] = {}
        self.asked: Asked | None = None
        self.results: deque[GenerationResult] = deque(maxlen=RESULTS_KEPT)
        before = getattr(sys, "last_value", None)
        self.failure = None if before is None or not is_own(before) else Failure(before)
        self.bridge: LoopThread | None = None

    @cached_property
    def chats(self) -> Chats:
        """The conversations."""
        from nbllm.notebook.chat.chats import Chats

        return Chats()

    def close_bridge(self) -> None:
        """End the thread, and the answers that are still written in it."""
        if self.bridge is not None:
            self.bridge.close()
            self.bridge = None


class NotebookSession:
    """The magics of one shell, from ``%load_ext`` to ``%unload_ext``.

    ``get_manager`` gives the models; it is called when they are first needed, since loading the
    extension must cost nothing. ``state`` is what an earlier session of the shell left, to go on
    with. ``completions`` completes what is typed behind the magics.
    """

    def __init__(
        self,
        shell: InteractiveShell,
        get_manager: Callable[[], ModelManager],
        state: SessionState | None = None,
    ) -> None:
        self.shell = shell
        self.state = state or SessionState(shell)
        self.settings, self.jobs, self.results = (
            self.state.settings,
            self.state.jobs,
            self.state.results,
        )
        self._get_manager = get_manager
        self._at_close = ExitStack()
        self.completions = Completions(self)

    @property
    def chats(self) -> Chats:
        """The conversations."""
        return self.state.chats

    @property
    def failure(self) -> Failure | None:
        """The last error of the reader's own code."""
        return self.state.failure

    @property
    def manager(self) -> ModelManager:
        """The models that the magics use."""
        return self._get_manager()

    @property
    def loop(self) -> LoopThread:
        """The thread in which coroutines run for the magics."""
        from nbllm.notebook.loop import LoopThread

        if self.state.bridge is None:
            self.state.bridge = LoopThread()
        return self.state.bridge

    def magic_name(self, name: str) -> str:
        """What the magic ``llm…`` is called in this shell."""
        return self.settings.magic_prefix + name.removeprefix("llm")

    def open_view(self, name: str, *, is_value: bool = False) -> View:
        """The place where the magic ``name`` shows its progress and its answer.

        ``is_value`` says that the answer is shown as the value of the cell.
        """
        from nbllm.notebook.views.display import open_view

        return open_view(self.shell, self.magic_name(name), is_value=is_value)

    def load_options(self) -> LoadOptions:
        """How models are loaded where a flag does not say otherwise."""
        from nbllm.core.types import LoadOptions

        return LoadOptions(
            context_length=self.settings.context or None, device=self.settings.device or None
        )

    def keep(self, result: GenerationResult, variable: str | None = None) -> None:
        """Put an answer into ``_llm``, and into ``variable``."""
        self.results.append(result)
        names = [RESULT_VARIABLE, *([variable] if variable else [])]
        self.shell.user_ns.update(dict.fromkeys(names, result))

    def at_close(self, callback: Callable[[], object]) -> None:
        """Have ``callback`` called when the extension is unloaded; the last given comes first."""
        self._at_close.callback(callback)

    def close(self) -> None:
        """Give back all that was opened in this session; models and the state stay."""
        self._at_close.close()


class SessionMagics(Magics):
    """A group of magics over one session. What it opens it has closed with ``at_close``."""

    def __init__(self, session: NotebookSession) -> None:
        super().__init__(session.shell)
        self.session = session
