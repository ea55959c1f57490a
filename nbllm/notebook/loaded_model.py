"""``nbllm.load``: models for scripts and first steps, without ``await``.

Everything here is a few lines over ``ModelManager`` and ``ModelInterface``; what it does not have
is there, on ``LoadedModel.model``.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Mapping
from contextlib import aclosing
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, overload

from nbllm.core.errors import NbllmError
from nbllm.core.model_manager import default_manager
from nbllm.core.texts import trimmed
from nbllm.core.types import Completed, Event, GenerationResult, Message, PromptLike, TextDelta
from nbllm.core.words import counted
from nbllm.notebook.loop import free_loop, run
from nbllm.notebook.status_messages import ready_words

if TYPE_CHECKING:
    from nbllm.core.model_interface import ModelInterface
    from nbllm.core.model_manager import ModelManager
    from nbllm.core.types import ModelInfo

__all__ = ["AnswerStream", "Chat", "LoadedModel", "load"]

_OnEnd: TypeAlias = Callable[[GenerationResult], GenerationResult]


def load(
    name: str | Path | None = None, *, manager: ModelManager | None = None, **options: Any
) -> LoadedModel:
    """Load a model, and return it ready to be asked: ``nbllm.load("SmolLM2").ask("Hi")``.

    ``name`` is what ``%llm_load`` takes; without it, it is the bundled model. ``options`` and
    errors are those of ``ModelManager.load_model``, and the ``manager`` is the one of the magics
    unless another is given. It works in scripts, notebooks and threads; an interrupt gives the
    load up. The model stays loaded until it is unloaded or the process ends.
    """
    manager = manager or default_manager()
    wanted = manager.bundled_model().name if name is None else name
    before = {info.name for info in manager.list_loaded_models()}
    model, info = run(manager.load_model(wanted, **options))
    return LoadedModel(model, manager, was_loaded=info.name in before)


class LoadedModel:
    """A loaded model that answers without ``await``; see ``load``.

    As a context manager it is unloaded at the end, unless it was loaded before. ``model`` is the
    asynchronous interface.
    """

    def __init__(
        self, model: ModelInterface, manager: ModelManager, *, was_loaded: bool = False
    ) -> None:
        self.model = model
        self._manager, self._was_loaded = manager, was_loaded

    @property
    def name(self) -> str:
        """The name under which it was loaded."""
        return self.model.name

    @property
    def info(self) -> ModelInfo:
        """What is known of it."""
        return self.model.info

    @overload
    def ask(
        self, prompt: PromptLike, *, stream: Literal[False] = False, **options: Any
    ) -> GenerationResult: ...
    @overload
    def ask(self, prompt: PromptLike, *, stream: Literal[True], **options: Any) -> AnswerStream: ...
    def ask(
        self, prompt: PromptLike, *, stream: bool = False, **options: Any
    ) -> GenerationResult | AnswerStream:
        """The answer, which prints as its text; with ``stream`` its pieces as they are written.

        ``options`` are those of ``ModelInterface.stream``: ``system``, ``schema``,
        ``max_tokens``, … Each question stands alone; ``chat`` remembers. An interrupt stops the
        answer.
        """
        if stream:
            return AnswerStream(self.model.stream(prompt, **options))
        return run(self.model.generate(prompt, **options))

    def decide(
        self, prompt: PromptLike, decide: Mapping[str, Any], **options: Any
    ) -> GenerationResult:
        """The most probable labels: ``decide(text, {"urgent": bool}).value["urgent"]``.

        Takes and raises what ``ModelInterface.decide`` does.
        """
        return run(self.model.decide(prompt, decide, **options))

    def chat(self, system: str | None = None) -> Chat:
        """A conversation, in which each question is sent with those before it."""
        return Chat(self, system)

    def unload(self) -> None:
        """Free its memory. Raises ``ModelNotFoundError`` where it is no longer loaded."""
        run(self._manager.unload_model(self.name))

    def __enter__(self) -> LoadedModel:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._was_loaded and self.model.usable:
            self.unload()

    def __repr__(self) -> str:
        if not self.model.usable:
            return f"<{self.name}, which is no longer loaded>"
        return f"<{ready_words(self.info, unready=self.model.unready)}>"


class Chat:
    """A conversation with a model. ``messages`` are its turns, which may be changed."""

    def __init__(self, model: LoadedModel, system: str | None = None) -> None:
        self.messages: list[Message] = [] if system is None else [Message("system", system)]
        self._model = model

    @overload
    def ask(
        self, prompt: str, *, stream: Literal[False] = False, **options: Any
    ) -> GenerationResult: ...
    @overload
    def ask(self, prompt: str, *, stream: Literal[True], **options: Any) -> AnswerStream: ...
    def ask(
        self, prompt: str, *, stream: bool = False, **options: Any
    ) -> GenerationResult | AnswerStream:
        """The answer to ``prompt`` after all turns before it; see ``LoadedModel.ask``.

        A question joins the turns together with its answer, once that is whole.
        """
        turns = [*self.messages, Message("user", trimmed(prompt))]

        def keep(result: GenerationResult) -> GenerationResult:
            self.messages += [turns[-1], result.message]
            return result

        model = self._model.model
        if stream:
            return AnswerStream(model.stream(turns, **options), keep)
        return keep(run(model.generate(turns, **options)))

    def __repr__(self) -> str:
        turns = sum(message.role == "assistant" for message in self.messages)
        return f"<chat with {self._model.name}, {counted(turns, 'turn')}>"


class AnswerStream(Iterator[str]):
    """The pieces of an answer's text: ``for piece in stream``.

    After the last one ``result`` is the whole answer. What a model raises, the iteration raises.
    The answer begins with the first piece that is asked for; leaving the loop, ``close`` or an
    interrupt stops it.
    """

    def __init__(self, events: AsyncGenerator[Event, None], on_end: _OnEnd | None = None) -> None:
        """``on_end`` gets the whole answer once its last piece was read."""
        self._pieces = self._read(events, on_end)
        self._result: GenerationResult | None = None

    @property
    def result(self) -> GenerationResult:
        """The whole answer; what was not read of it yet is waited for."""
        for _ in self._pieces:
            pass
        if self._result is None:
            raise ValueError("the answer was stopped before its end; ask again")
        return self._result

    def close(self) -> None:
        """Stop the answer, if it is incomplete."""
        self._pieces.close()

    def __next__(self) -> str:
        return next(self._pieces)

    def _read(
        self, events: AsyncGenerator[Event, None], on_end: _OnEnd | None
    ) -> Generator[str, None, None]:
        pieces: SimpleQueue[str] = SimpleQueue()
        wake = threading.Event()
        with free_loop() as loop:
            job = loop.submit(_pump(events, pieces, wake), wake=wake)
            try:
                while not (job.result.done() and pieces.empty()):
                    job.wait_until(lambda: not pieces.empty())
                    while not pieces.empty():
                        yield pieces.get()
                result = job.result.result()
                self._result = result if on_end is None else on_end(result)
            finally:
                job.cancel()

    def __repr__(self) -> str:
        return "<the pieces of an answer: for piece in …>"


async def _pump(
    events: AsyncGenerator[Event, None], pieces: SimpleQueue[str], wake: threading.Event
) -> GenerationResult:
    async with aclosing(events):
        async for event in events:
            match event:
                case TextDelta(text=text):
                    pieces.put(text)
                    wake.set()
                case Completed(result):
                    return result
                case _:
                    pass
    raise NbllmError("the stream ended without a result; this is a bug of nbllm")
