"""``LlamaCppModel``: a GGUF on this machine, run by llama.cpp in a worker process."""

from __future__ import annotations

import asyncio
import time
import warnings
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

import msgspec

from nbllm.core.awaiting import gathered
from nbllm.core.errors import (
    EngineError,
    InvalidOptionError,
    ModelClosedError,
    ModelLoadError,
    NbllmError,
    UnsupportedError,
)
from nbllm.core.fitting.model_shape import ModelShape
from nbllm.core.generation_requests import check_size
from nbllm.core.model_interface import ModelInterface
from nbllm.core.openers import LoadControl
from nbllm.core.option_checks import text_of, token_ids
from nbllm.core.placement import Placement
from nbllm.core.resource_detector import ResourceDetector
from nbllm.core.schemas.decision_questions import Question
from nbllm.core.types import (
    Completed,
    Embeddings,
    Event,
    GenerationRequest,
    GenerationResult,
    Message,
    ModelInfo,
    TokenCount,
    Usage,
)
from nbllm.local.gguf.shape import described
from nbllm.local.installation import check_installation
from nbllm.local.ipc import events, operations
from nbllm.local.ipc.channel import Channel, Delivery, Exited, NewText
from nbllm.local.ipc.liveness import SAVE_SECONDS
from nbllm.local.ipc.protocol import LastEvent, UnsendableError
from nbllm.local.ipc.worker_process import LEAVE_SECONDS
from nbllm.local.load_settings import load_operation
from nbllm.local.plans import make_plan, settled
from nbllm.local.reading.answer_reader import AnswerReader, decision_result
from nbllm.local.worker_requests import (
    decide_operation,
    delivery_error,
    portions,
    turns_of,
    unexpected,
    worker_options,
)

__all__ = ["LlamaCppModel", "open_model"]

WORKER = "nbllm.local.worker"
"""The module that owns one model and answers requests."""

_EVENTS = msgspec.json.Decoder(events.WorkerEvent)


R = TypeVar("R", bound=LastEvent)


class LlamaCppModel(ModelInterface):
    """A model in a worker process of its own.

    Every request goes to the worker with an id; a thread hands what comes back to the mailbox of
    that id, on whatever event loop its reader waits.
    """

    def __init__(self, info: ModelInfo) -> None:
        super().__init__(info)
        self._closing = False
        self._can_write, self._can_fill, self._is_reranker = True, False, False
        self.buffer_bytes = 0
        """What llama.cpp reports of its buffers, once it is loaded."""
        self._channel = Channel(WORKER, _EVENTS)
        self._worker = self._channel.worker

    # ------------------------------------------------------------ loading

    def load(self, placement: Placement, control: LoadControl) -> None:
        """Have the worker load the model; blocks. Raises ``ModelLoadError``."""
        self._channel.send(load_operation(self.info, placement))
        ready = self._loaded(control)
        self._can_write, self._can_fill = ready.can_write, ready.can_fill
        self._is_reranker = ready.is_reranker
        self.buffer_bytes = ready.memory_bytes
        placement = placement.corrected(self.buffer_bytes)
        self.info = replace(
            self.info,
            context_length=ready.context_length,
            device=placement.device,
            placement=placement,
            memory_bytes=placement.total_bytes,
        )

    def _loaded(self, control: LoadControl) -> events.Ready:
        stall_seconds = self.info.options.stall_timeout
        while True:
            match self._channel.first_event(control.cancelled, stall_seconds):
                case None:
                    raise ModelLoadError(self.name, "the load was cancelled")
                case events.LoadProgress(fraction):
                    control.progress(fraction)
                case events.Ready() as ready:
                    return ready
                case events.Unloadable(problem):
                    raise self._load_error(problem)
                case Exited() as exited:
                    raise self._load_error(f"its worker process {exited.problem(' while loading')}")
                case event:
                    raise self._load_error(unexpected(event))

    def _load_error(self, problem: str) -> ModelLoadError:
        return ModelLoadError(self.name, problem, log=self._worker.final_log())

    # ------------------------------------------------------------ ModelInterface

    @property
    def usable(self) -> bool:
        """Whether the worker runs."""
        return self._channel.usable and not self._closing

    @property
    def pid(self) -> int:
        """The worker's process id."""
        return self._worker.pid

    def used_memory_bytes(self) -> int | None:
        """The worker's resident memory, less the mapped files where the system tells them apart."""
        return self._worker.used_memory_bytes()

    @property
    def can_fill(self) -> bool:
        """Whether the vocabulary has the tokens for it."""
        return self._can_fill

    async def _events(self, request: GenerationRequest) -> AsyncGenerator[Event, None]:
        self._check_writes()
        if request.questions:
            yield Completed(await self._decided(request))
            return
        reader = AnswerReader(self.info, request.options.tools or ())
        turns = turns_of(self.name, request.messages)
        for message in request.messages:
            check_size("prompt", message.text)
        options = worker_options(self.info, request)
        stall_seconds, stage = request.options.stall_timeout, "requests"
        with self._channel.mailbox() as (number, mailbox):
            await self._send(operations.Generate(number, turns, options, request.suffix))
            while True:
                for told in await self._channel.take(mailbox, stall_seconds, stage):
                    stage = "engine"
                    if not isinstance(
                        told, events.AnswerFormat | events.Progress | NewText | events.Done
                    ):
                        raise self._error(told, reader.text)
                    self._warn()
                    for event in reader.read(told):
                        yield event
                    if isinstance(told, events.Done):
                        return

    def _warn(self) -> None:
        """Warn of what the worker has noted; here, where the caller's filters apply."""
        for text in self._channel.notices():
            warnings.warn(f"{self.name}: {text}", stacklevel=2)

    def _check_writes(self) -> None:
        if not self._can_write:
            kind = "a reranker; use model.rerank" if self._is_reranker else "an embedding model"
            use = "" if self._is_reranker else "; use model.embed"
            raise UnsupportedError(self.name, f"it cannot generate text: it is {kind}{use}")

    @property
    def scores_labels(self) -> bool:
        """True: the engine has the log-probability of every token."""
        return True

    async def _decided(self, request: GenerationRequest) -> GenerationResult:
        """The questions of a request, side by side: what they begin with is read once."""
        began = time.perf_counter()
        replies = await gathered(self._scores(request, each) for each in request.questions)
        return decision_result(self.info, request.questions, replies, time.perf_counter() - began)

    async def _scores(self, request: GenerationRequest, question: Question) -> events.Decided:
        ask = decide_operation(self.info, request, question)
        stall_seconds, stage = request.options.stall_timeout, "requests"
        with self._channel.mailbox() as (number, mailbox):
            await self._send(msgspec.structs.replace(ask, id=number))
            while True:
                for told in await self._channel.take(mailbox, stall_seconds, stage):
                    stage = "engine"
                    if isinstance(told, events.Decided):
                        return told
                    if not isinstance(told, events.Progress):
                        raise self._error(told, "")

    async def tokenize(self, text: str) -> list[int]:
        """The tokens of ``text`` alone; special tokens written out in it are recognised."""
        given = text_of("text", text)
        check_size("text", given)
        return (
            await self._ask(events.Tokenized, lambda number: operations.Tokenize(number, given))
        ).tokens

    async def detokenize(self, tokens: Sequence[int]) -> str:
        """The text of ``tokens``, special ones written out; invalid UTF-8 becomes U+FFFD."""
        given = token_ids("tokens", tokens)
        return (
            await self._ask(events.Detokenized, lambda number: operations.Detokenize(number, given))
        ).text

    async def _count_messages(self, messages: tuple[Message, ...]) -> TokenCount:
        return await self._count_turns(turns_of(self.name, messages))

    async def _count_raw(self, text: str) -> TokenCount:
        return await self._count_turns([{"role": "user", "content": text}], raw=True)

    async def _count_turns(self, turns: list[operations.Turn], *, raw: bool = False) -> TokenCount:
        reply = await self._ask(
            events.TokensCounted, lambda number: operations.CountTokens(number, turns, raw)
        )
        return TokenCount(reply.tokens)

    async def _embed(self, texts: list[str]) -> Embeddings:
        """Vectors pooled as the model's file says, else the mean over the tokens."""
        import numpy as np

        if self._is_reranker:
            raise UnsupportedError(
                self.name, "it returns scores instead of vectors; use model.rerank"
            )
        if not texts:
            raise InvalidOptionError("texts", "must not be empty; give at least one text")
        replies = [
            await self._ask(events.Embedded, partial(operations.Embed, texts=some))
            for some in portions(texts)
        ]
        vectors = np.frombuffer(b"".join(reply.vectors for reply in replies), np.float32)
        usage = Usage(prompt_tokens=sum(reply.tokens for reply in replies), cost_usd=0.0)
        return Embeddings(vectors.reshape(len(texts), -1), self.name, usage)

    async def _rerank(self, query: str, documents: list[str]) -> tuple[tuple[float, ...], Usage]:
        """The score of each document, as the model's own head gives it."""
        if not self._is_reranker:
            return await super()._rerank(query, documents)
        if not documents:
            return (), Usage(prompt_tokens=0, cost_usd=0.0)
        import numpy as np

        replies = [
            await self._ask(events.Scores, partial(operations.Rerank, query=query, documents=some))
            for some in portions(documents)
        ]
        scores = np.frombuffer(b"".join(reply.scores for reply in replies), np.float32)
        usage = Usage(prompt_tokens=sum(reply.tokens for reply in replies), cost_usd=0.0)
        return tuple(scores.tolist()), usage

    async def aclose(self) -> None:
        """End the worker; requests under way raise ``ModelClosedError`` with their text so far."""
        self._closing = True
        saves = bool(self.info.load.prefix_cache_disk)
        await asyncio.to_thread(self._worker.close, SAVE_SECONDS if saves else LEAVE_SECONDS)

    def kill(self) -> None:
        """End the worker at once; blocks until its memory is free."""
        self._closing = True
        self._worker.kill()

    # ------------------------------------------------------------ operations

    def _error(self, told: Delivery[events.WorkerEvent], partial_text: str) -> NbllmError:
        if isinstance(told, Exited) and self._closing:
            return ModelClosedError(
                self.name, "it was unloaded; load it again to use it", partial_text=partial_text
            )
        error = delivery_error(self.name, told, self._worker.log_tail(), partial_text)
        if error is not None:
            return error
        self._worker.end()
        return EngineError(self.name, unexpected(told), partial_text=partial_text)

    async def _ask(self, reply: type[R], request: Callable[[int], operations.WorkerRequest]) -> R:
        """Send a request, made with its id, and wait for its one reply."""
        stall_seconds = self.info.options.stall_timeout
        with self.uses, self._channel.mailbox() as (number, mailbox):
            await self._send(request(number))
            told, *_ = await self._channel.take(mailbox, stall_seconds, "requests", "embedder")
        if not isinstance(told, reply):
            raise self._error(told, "")
        return told

    async def _send(self, request: operations.WorkerRequest) -> None:
        try:
            await self._channel.send_long(request)
        except UnsendableError as error:
            raise EngineError(self.name, f"the request cannot be encoded: {error}") from None


def open_model(info: ModelInfo, control: LoadControl) -> LlamaCppModel:
    """Load a GGUF; blocks until it is ready.

    It goes where ``info.placement`` says, else to the best place that there is now. Raises
    ``MissingDependencyError``, ``ModelFileError``, ``DoesNotFitError`` and other
    ``ModelLoadError``; whichever it is, nothing is left running.
    """
    check_installation()
    plan = make_plan(info, control.resources or ResourceDetector().detect())
    placement = info.placement or plan.placement()
    model = LlamaCppModel(
        _with_header(info, plan.shape)
    )  # its process starts while llama.cpp is asked
    try:
        model.load(settled(plan, placement, info), control)
    except BaseException:
        model.kill()
        raise
    return model


def _with_header(info: ModelInfo, shape: ModelShape) -> ModelInfo:
    """The entry, with what it leaves open filled in from the file's header."""
    assert info.path is not None  # noqa: S101 - for the type checker: make_plan has checked
    header = described(info.path, shape)
    return replace(
        info,
        model_type=header.model_type,
        context_length=info.context_length or header.context_length,
        quantization=info.quantization or header.quantization,
        parameters=info.parameters or header.parameters,
        size_bytes=header.size_bytes,
    )
