"""What the magics of one shell share: the models, the loop, the settings, the last results."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from IPython.core.magic import Magics

from nbllm.notebook.completion import Completions
from nbllm.notebook.magic_settings import NbLLM

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from nbllm.core.model_manager import ModelManager
    from nbllm.core.types import GenerationResult, LoadOptions
    from nbllm.notebook.chat.chats import Chats
    from nbllm.notebook.loop import LoopThread
    from nbllm.notebook.views.display import View

__all__ = ["RESULT_VARIABLE", "NotebookSession", "SessionMagics"]

RESULT_VARIABLE = "_llm"
RESULTS_KEPT = 50

Part = TypeVar("Part")


class NotebookSession:
    """The magics of one shell. ``%unload_ext`` closes it, and ``%load_ext`` goes on with it.

    ``get_manager`` gives the models; it is called when they are first needed, since loading the
    extension must cost nothing. ``results`` holds the last answers, the newest at its end.
    ``completions`` completes what is typed behind the magics. What one room of the notebook
    remembers besides is a ``part``.
    """

    def __init__(self, shell: InteractiveShell, get_manager: Callable[[], ModelManager]) -> None:
        self.shell = shell
        self.settings = NbLLM(parent=shell)
        self.results: deque[GenerationResult] = deque(maxlen=RESULTS_KEPT)
        self.get_manager = get_manager
        self._bridge: LoopThread | None = None
        self._at_close = ExitStack()
        self._parts: dict[Callable[[], Any], Any] = {}
        self.completions = Completions(shell, self.settings, get_manager)

    @cached_property
    def chats(self) -> Chats:
        """The conversations."""
        from nbllm.notebook.chat.chats import Chats

        return Chats()

    def part(self, kind: Callable[[], Part]) -> Part:
        """The one ``kind()`` of this session, made when it is first needed; a reload keeps it."""
        if kind not in self._parts:
            self._parts[kind] = kind()
        part: Part = self._parts[kind]
        return part

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
        if self._bridge is not None and not (keeps_jobs and self._bridge.is_busy):
            self._bridge.close()
            self._bridge = None


class SessionMagics(Magics):
    """A group of magics over one session. What it opens it has closed with ``at_close``."""

    def __init__(self, session: NotebookSession) -> None:
        super().__init__(session.shell)
        self.session = session
