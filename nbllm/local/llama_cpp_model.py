"""``LlamaCppModel``: a GGUF on this machine, run by llama.cpp in a worker process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import replace
from typing import Any

from nbllm.core.errors import (
    EngineCrashedError,
    EngineError,
    EngineStalledError,
    InvalidOptionError,
    ModelClosedError,
    ModelError,
    ModelLoadError,
    NbllmError,
    UnsupportedError,
)
from nbllm.core.fitting.model_shape import ModelShape
from nbllm.core.model_interface import ModelInterface
from nbllm.core.openers import LoadControl
from nbllm.core.option_checks import text_of, texts_of, token_ids
from nbllm.core.options import ENGINE_OPTIONS
from nbllm.core.placement import Placement
from nbllm.core.request_checks import check_size
from nbllm.core.resource_detector import ResourceDetector
from nbllm.core.types import (
    Embeddings,
    Event,
    GenerationRequest,
    Message,
    ModelInfo,
    TokenCount,
    Usage,
)
from nbllm.local.adapter_scales import scales_of
from nbllm.local.channel import Channel
from nbllm.local.gguf.shape import described
from nbllm.local.installation import check_installation
from nbllm.local.measuring.dry_runs import draft_frame, load_frame
from nbllm.local.plans import make_plan, settled
from nbllm.local.protocol import Frame, UnsendableError
from nbllm.local.reading.answer_reader import AnswerReader, refusal
from nbllm.local.rendering.given import read_template
from nbllm.local.turns import tool_frames, turn_frames
from nbllm.local.worker_process import describe_exit, exit_remedy

__all__ = ["LlamaCppModel", "open_model"]

_OPTIONS = {
    "max_tokens",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repeat_penalty",
    "presence_penalty",
    "frequency_penalty",
    "seed",
    "stop",
    "stop_tokens",
    "response_schema",
    "logit_bias",
    "logprobs",
    "tools",
    "tool_choice",
    "reasoning_effort",
    "priority",
    "on_full",
    "prompt_lookup",
    "raw",
    "stop_repetition",
    "adapters",
    *ENGINE_OPTIONS,
}
_PORTION_CHARACTERS = 4 * 2**20
_HTTP_OPTIONS = (
    "prompt_caching",
    "connect_timeout",
    "first_token_timeout",
    "stall_timeout",
    "max_retry_seconds",
)


class LlamaCppModel(ModelInterface):
    """A model in a worker process of its own.

    Everything that is asked of it goes to the worker as a frame with a number; a thread hands
    each answer to the mailbox of that number, on whatever event loop its reader waits.
    """

    def __init__(self, info: ModelInfo) -> None:
        super().__init__(info)
        self._closing = False
        self._can_write, self._can_fill, self._is_reranker = True, False, False
        self.buffer_bytes = 0
        """What llama.cpp reports of its buffers, once it is loaded."""
        self._channel = Channel()
        self._worker = self._channel.worker

    # ------------------------------------------------------------ loading

    def load(self, placement: Placement, control: LoadControl) -> None:
        """Have the worker load the model; blocks. Raises ``ModelLoadError``."""
        self._channel.send(
            {
                "op": "load",
                "file_bytes": self.info.size_bytes or 0,
                "steady": self.info.load.threads is None,
                "adapters": self.info.load.adapters or (),
                "chat_template": read_template(self.info.load),
                "kept_bytes": (self.info.load.prefix_cache_mib or 0) * 2**20,
                "draft": draft_frame(self.info, placement),
                **load_frame(self.info, placement),
            }
        )
        stall_seconds = self.info.options.stall_timeout
        while True:
            frame = self._channel.first_frame(control.cancelled, stall_seconds)
            if frame is None:
                raise ModelLoadError(self.name, "the load was cancelled")
            if frame["op"] == "ready":
                break
            if frame["op"] != "loading":
                raise ModelLoadError(self.name, frame["problem"], log=self._worker.log_tail())
            control.progress(frame["fraction"])
        self._can_write, self._can_fill = frame["can_write"], frame["can_fill"]
        self._is_reranker = frame["is_reranker"]
        self.buffer_bytes = frame["memory_bytes"]
        placement = placement.corrected(self.buffer_bytes)
        self.info = replace(
            self.info,
            context_length=frame["context_length"],
            device=placement.device,
            placement=placement,
            memory_bytes=placement.total_bytes,
        )

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
        if not self._can_write:
            kind = "a reranker; use model.rerank" if self._is_reranker else "an embedding model"
            use = "" if self._is_reranker else "; use model.embed"
            raise UnsupportedError(self.name, f"it cannot generate text: it is {kind}{use}")
        reader = AnswerReader(self.info, request.options.tools or ())
        turns = turn_frames(self.name, request.messages)
        for message in request.messages:
            check_size("prompt", message.text)
        if request.options.raw:
            _check_raw(request)
        body = {"messages": turns, "options": self._options(request), "suffix": request.suffix}
        stall_seconds, stage = request.options.stall_timeout, "intake"
        with self._channel.mailbox() as (number, mailbox):
            await self._send({"op": "generate", "id": number, **body})
            while True:
                for frame in await self._channel.take(mailbox, stall_seconds, stage):
                    stage = "engine"
                    if frame["op"] in ("failed", "exit", "forked"):
                        raise self._error(frame, reader.text)
                    for event in reader.read(frame):
                        yield event
                    if frame["op"] == "done":
                        return

    async def tokenize(self, text: str) -> list[int]:
        """The tokens of ``text`` alone; special tokens written out in it are recognised."""
        given = text_of("text", text)
        check_size("text", given)
        reply = await self._ask("tokenize", text=given)
        tokens: list[int] = reply["tokens"]
        return tokens

    async def detokenize(self, tokens: Sequence[int]) -> str:
        """The text of ``tokens``, special ones written out; invalid UTF-8 becomes U+FFFD."""
        reply = await self._ask("detokenize", tokens=token_ids("tokens", tokens))
        return str(reply["text"])

    async def _count_messages(self, messages: tuple[Message, ...]) -> TokenCount:
        turns = turn_frames(self.name, messages)
        return TokenCount((await self._ask("count", messages=turns))["tokens"])

    async def _count_raw(self, text: str) -> TokenCount:
        turns = [{"role": "user", "content": text}]
        return TokenCount((await self._ask("count", messages=turns, raw=True))["tokens"])

    async def _embed(self, texts: list[str]) -> Embeddings:
        """Vectors pooled as the model's file says, else the mean over the tokens."""
        import numpy as np

        if self._is_reranker:
            raise UnsupportedError(
                self.name, "it returns scores instead of vectors; use model.rerank"
            )
        if not texts:
            raise InvalidOptionError("texts", "must not be empty; give at least one text")
        replies = [await self._ask("embed", texts=some) for some in _portions(texts)]
        vectors = np.concatenate([np.asarray(reply["vectors"], np.float32) for reply in replies])
        tokens = sum(reply["tokens"] for reply in replies)
        return Embeddings(vectors, self.name, Usage(prompt_tokens=tokens, cost_usd=0.0))

    async def rerank(self, query: str, documents: Sequence[str]) -> tuple[float, ...]:
        """The score of each document, as the model's own head gives it; see the base class."""
        if not self._is_reranker:
            return await super().rerank(query, documents)
        asked, texts = text_of("query", query), texts_of("documents", documents)
        for text in (asked, *texts):
            check_size("documents", text)
        if not texts:
            return ()
        portions = _portions(texts)
        replies = [await self._ask("rerank", query=asked, documents=some) for some in portions]
        return tuple(score for reply in replies for score in reply["scores"])

    async def aclose(self) -> None:
        """End the worker; requests under way raise ``ModelClosedError`` with their text so far."""
        self._closing = True
        await asyncio.to_thread(self._worker.close)

    def kill(self) -> None:
        """End the worker at once; blocks until its memory is free."""
        self._closing = True
        self._worker.kill()

    # ------------------------------------------------------------ requests

    def _options(self, request: GenerationRequest) -> dict[str, Any]:
        values = request.options.set_values()
        for name in _HTTP_OPTIONS:
            values.pop(name, None)
        values["tools"] = tool_frames(values.get("tools", ()))
        if "adapters" in values:
            values["adapters"] = scales_of(self.info.load.adapters or (), values["adapters"])
        for name in values.keys() - _OPTIONS:
            raise UnsupportedError(self.name, f"local models do not support {name}; leave it unset")
        return values

    def _error(self, frame: Frame, partial_text: str) -> NbllmError:
        if frame["op"] == "forked":
            return ModelClosedError(
                self.name,
                "it was loaded before this process was forked, and belongs to the parent process. "
                "Load it again in this process.",
                partial_text=partial_text,
            )
        if frame["op"] == "exit":
            return self._exit_error(frame["status"], partial_text)
        return refusal(self.name, frame, partial_text)

    def _exit_error(self, status: int, partial_text: str) -> ModelError:
        if self._closing:
            return ModelClosedError(
                self.name, "it was unloaded; load it again to use it", partial_text=partial_text
            )
        if self._channel.stalled:
            return EngineStalledError(
                self.name,
                "its worker process stopped responding for longer than stall_timeout and was "
                "terminated. Load the model again to continue.",
                partial_text=partial_text,
            )
        return EngineCrashedError(
            self.name,
            f"its worker process {describe_exit(status)}. The notebook is not affected; "
            f"load the model again to continue.{exit_remedy(status, self._worker.log_tail())}",
            exit_status=status,
            log=self._worker.log_tail(),
            partial_text=partial_text,
        )

    # ------------------------------------------------------------ frames

    async def _ask(self, op: str, **body: Any) -> Frame:
        """Send a question and wait for its one answer."""
        stall_seconds = self.info.options.stall_timeout
        with self.uses, self._channel.mailbox() as (number, mailbox):
            await self._send({"op": op, "id": number, **body})
            frames = await self._channel.take(mailbox, stall_seconds, "intake", "embedder")
        if frames[0]["op"] != "reply":
            raise self._error(frames[0], "")
        return frames[0]

    async def _send(self, frame: Frame) -> None:
        try:
            await self._channel.ask(frame)
        except UnsendableError as error:
            raise EngineError(self.name, f"the request cannot be encoded: {error}") from None


def _portions(texts: list[str]) -> Iterator[list[str]]:
    """The texts in requests that a worker holds easily, and between which others are served."""
    portion: list[str] = []
    size = 0
    for text in texts:
        if portion and size + len(text) > _PORTION_CHARACTERS:
            yield portion
            portion, size = [], 0
        portion.append(text)
        size += len(text)
    yield portion


def _check_raw(request: GenerationRequest) -> None:
    """Raise ``InvalidOptionError`` for what only a chat template can say."""
    if len(request.messages) != 1 or request.messages[0].role != "user":
        raise InvalidOptionError(
            "raw", "must be False for a conversation; give one string to continue it raw"
        )
    if request.options.tools:
        raise InvalidOptionError(
            "raw", "cannot be combined with tools, which need the chat template; leave one out"
        )


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
