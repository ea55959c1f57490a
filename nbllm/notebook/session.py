"""What the magics of one shell share: the models, the loop, the settings, the last results."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from functools import cached_property
from typing import TYPE_CHECKING

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

__all__ = ["RESULT_VARIABLE", "NotebookSession", "SessionMagics"]

RESULT_VARIABLE = "_llm"
RESULTS_KEPT = 50


class NotebookSession:
    """The magics of one shell. ``%unload_ext`` closes it, and ``%load_ext`` goes on with it.

    ``get_manager`` gives the models; it is called when they are first needed, since loading the
    extension must cost nothing. ``results`` holds the last answers, the newest at its end,
    ``jobs`` the answers in the background by their numbers. ``completions`` completes what is
    typed behind the magics. ``last_error`` is that of the reader's own code, ``last_cell``
    the cell as typed that it ended, and ``proposal`` the cell that the last ``%llm_fix`` came to.
    ``asked`` is the last question with its answer.
    """

    def __init__(self, shell: InteractiveShell, get_manager: Callable[[], ModelManager]) -> None:
        self.shell = shell
        self.settings = NbLLM(parent=shell)
        self.jobs: dict[int, Job] = {}
        self.asked: Asked | None = None
        self.last_error: BaseException | None = None
        self.last_cell: str | None = None
        self.proposal: str | None = None
        self.results: deque[GenerationResult] = deque(maxlen=RESULTS_KEPT)
        self.get_manager = get_manager
        self._bridge: LoopThread | None = None
        self._at_close = ExitStack()
        self.completions = Completions(self)

    @cached_property
    def chats(self) -> Chats:
        """The conversations."""
        from nbllm.notebook.chat.chats import Chats

        return Chats()

    @property
    def manager(self) -> ModelManager:
        """The models that the magics use."""
        return self.get_manager()

    @property
    def loop(self) -> LoopThread:
        """The thread in which coroutines run for the magics."""
        from nbllm.notebook.loop import LoopThread

        if self._bridge is None:
            self._bridge = LoopThread()
        return self._bridge

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

    def close(self, *, keeps_jobs: bool = False) -> None:
        """Give back all that was opened in this session; the models that are loaded stay so.

        Jobs that run go on where ``keeps_jobs`` says so, and are stopped otherwise.
        """
        self._at_close.close()
        goes_on = keeps_jobs and any(not job.done for job in self.jobs.values())
        if self._bridge is not None and not goes_on:
            self._bridge.close()
            self._bridge = None


class SessionMagics(Magics):
    """A group of magics over one session. What it opens it has closed with ``at_close``."""

    def __init__(self, session: NotebookSession) -> None:
        super().__init__(session.shell)
        self.session = session
