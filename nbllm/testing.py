"""Fakes for testing code that uses nbllm, without a model file, a key or a network.

::

    manager = ModelManager([fake_info("tiny")], open_model=FakeOpener(text="Hello!"))
    model, info = await manager.load_model("tiny")
    assert (await model.generate("Hi")).text == "Hello!"
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from typing import Any

from nbllm.core.errors import DoesNotFitError, ModelClosedError, ModelError
from nbllm.core.hardware.resources import CpuInfo, MemoryInfo, Resources
from nbllm.core.kinds import kind_of
from nbllm.core.model_interface import ModelInterface
from nbllm.core.openers import LoadControl
from nbllm.core.placement import MemoryParts, Placement
from nbllm.core.types import (
    Completed,
    Embeddings,
    Event,
    FinishReason,
    GenerationRequest,
    GenerationResult,
    Message,
    ModelInfo,
    PromptProgress,
    ReasoningDelta,
    TextDelta,
    Timings,
    TokenCount,
    Usage,
)
from nbllm.core.words import size_words

__all__ = ["FakeModel", "FakeOpener", "fake_info"]

_TOKEN = re.compile(r"\s*\S+|\s+$")
_LOAD_STEPS = 10


def fake_info(name: str = "fake", **fields: Any) -> ModelInfo:
    """The entry of a model that exists nowhere; ``fields`` are those of ``ModelInfo``."""
    return ModelInfo(
        **{"name": name, "model_type": "fake", "local": True, "context_length": 4096, **fields}
    )


class FakeModel(ModelInterface):
    """Answers every prompt with ``text``, word by word; a word counts as a token.

    ``prompt_seconds`` pass, with ``PromptProgress``, before the first word, ``token_seconds``
    between words, and ``reasoning`` comes before them all. ``error`` is raised after
    ``fail_after`` words, with the partial text in it.
    ``requests`` holds what was asked, ``cancelled`` counts the answers that were not read to
    their end.
    """

    def __init__(
        self,
        info: ModelInfo | None = None,
        *,
        text: str = "A scripted answer.",
        token_seconds: float = 0.0,
        prompt_seconds: float = 0.0,
        reasoning: str = "",
        error: Exception | None = None,
        fail_after: int = 0,
    ) -> None:
        super().__init__(info or fake_info())
        self._words = _TOKEN.findall(text)
        self._token_seconds, self._prompt_seconds = token_seconds, prompt_seconds
        self._reasoning = reasoning
        self._error, self._fail_after = error, fail_after
        self._is_open = True
        self.requests: list[GenerationRequest] = []
        self.cancelled = 0

    @property
    def usable(self) -> bool:  # noqa: D102 - see ModelInterface
        return self._is_open

    async def _events(self, request: GenerationRequest) -> AsyncGenerator[Event, None]:
        self._check_open()
        self.requests.append(request)
        limit = request.options.max_tokens or len(self._words)
        began, done = time.monotonic(), ""
        try:
            async for step in self._read_prompt(_count(request.messages)):
                yield step
            if self._reasoning:
                yield ReasoningDelta(self._reasoning)
            first = None
            for number, word in enumerate(self._words[:limit]):
                self._fail_where_told(number, done)
                await asyncio.sleep(self._token_seconds)
                first = first or time.monotonic()
                done += word
                yield TextDelta(word, 1)
            self._fail_where_told(len(self._words), done)
        except (GeneratorExit, asyncio.CancelledError):
            self.cancelled += 1
            raise
        yield Completed(self._result(request, done, limit, _timings(began, first)))

    def _result(
        self, request: GenerationRequest, text: str, limit: int, timings: Timings
    ) -> GenerationResult:
        is_cut = limit < len(self._words)
        return GenerationResult(
            text=text,
            reasoning=self._reasoning,
            model=self.name,
            finish_reason=FinishReason.LENGTH if is_cut else FinishReason.STOP,
            usage=Usage(
                prompt_tokens=_count(request.messages),
                completion_tokens=min(limit, len(self._words)),
            ),
            timings=timings,
            seed=request.options.seed,
            device=self.info.device,
        )

    async def _read_prompt(self, tokens: int) -> AsyncGenerator[PromptProgress, None]:
        for step in range(1, 5) if self._prompt_seconds else ():
            await asyncio.sleep(self._prompt_seconds / 4)
            yield PromptProgress(tokens * step // 4, tokens)

    def _fail_where_told(self, words: int, partial_text: str) -> None:
        if self._error is not None and words >= self._fail_after:
            if isinstance(self._error, ModelError):
                self._error.partial_text = partial_text
            raise self._error

    async def tokenize(self, text: str) -> list[int]:  # noqa: D102
        return list(text.encode())

    async def detokenize(self, tokens: Sequence[int]) -> str:  # noqa: D102
        return bytes(tokens).decode(errors="replace")

    async def _count_messages(self, messages: tuple[Message, ...]) -> TokenCount:
        return TokenCount(_count(messages))

    async def _count_text(self, text: str) -> TokenCount:
        return TokenCount(len(text.split()))

    async def _embed(self, texts: list[str]) -> Embeddings:
        """Vectors of the texts' lengths and numbers of words."""
        import numpy as np

        with self.uses:
            self._check_open()
            vectors = [[len(text), len(text.split())] for text in texts]
            return Embeddings(np.array(vectors, dtype=np.float32).reshape(-1, 2), self.name)

    async def aclose(self) -> None:  # noqa: D102
        self._is_open = False

    def _check_open(self) -> None:
        if not self._is_open:
            raise ModelClosedError(self.name, "it was unloaded; load it again")


class FakeOpener:
    """Opens a ``FakeModel`` for any entry: give it to ``ModelManager(open_model=…)``.

    A load takes ``load_seconds`` and fails with ``load_error`` where that is given; all other
    arguments go to the models. ``opened`` holds the models, in the order of their loads.

    It is a machine with ``total_bytes`` of memory too, of which each open model takes its entry's
    ``size_bytes``: with ``plan_model=opener.plan_model, resources=opener.resources`` a manager
    evicts models and refuses what does not fit, as it does with real ones. ``most_used_bytes`` is
    the most that was ever in use at once.
    """

    def __init__(
        self,
        *,
        load_seconds: float = 0.0,
        load_error: Exception | None = None,
        device: str = "CPU",
        total_bytes: int = 16 * 2**30,
        **model_arguments: Any,
    ) -> None:
        self.total_bytes = total_bytes
        self.most_used_bytes = 0
        self._load_seconds, self._load_error, self._device = load_seconds, load_error, device
        self._model_arguments = model_arguments
        self.opened: list[FakeModel] = []

    def __call__(self, info: ModelInfo, control: LoadControl) -> FakeModel:
        """Open the model; blocks, as every opener does."""
        for step in range(_LOAD_STEPS):
            control.progress(step / _LOAD_STEPS)
            if control.cancelled.wait(self._load_seconds / _LOAD_STEPS):
                break
        if self._load_error is not None:
            raise self._load_error
        control.progress(1.0)
        model = FakeModel(
            replace(info, device=self._device, memory_bytes=info.size_bytes),
            **self._model_arguments,
        )
        self.opened.append(model)
        self.most_used_bytes = max(self.most_used_bytes, self.used_bytes)
        return model

    @property
    def used_bytes(self) -> int:
        """What the open models take together."""
        return sum(model.info.size_bytes or 0 for model in self.opened if model.usable)

    def resources(self) -> Resources:
        """The machine as it is now."""
        return Resources(
            cpu=CpuInfo(
                model="Fake CPU",
                architecture="fake",
                sockets=1,
                physical_cores=2,
                logical_cores=2,
                usable_cores=2,
            ),
            memory=MemoryInfo(
                total_bytes=self.total_bytes,
                available_bytes=self.total_bytes - self.used_bytes,
                machine_bytes=self.total_bytes,
            ),
        )

    def plan_model(self, info: ModelInfo, resources: Resources) -> Placement | None:
        """On the CPU, as large as its entry says; raises ``DoesNotFitError``."""
        if not kind_of(info).takes_memory:
            return None
        needed, available = info.size_bytes or 0, resources.memory.available_bytes
        if needed > available:
            raise DoesNotFitError(
                info.name,
                f"it needs {size_words(needed)} of memory, and {size_words(available)} are free",
                needed_bytes=needed,
                available_bytes=available,
            )
        return Placement(
            device="CPU",
            memory={"CPU": MemoryParts(weights=needed)},
            context_length=info.load.context_length or info.context_length or 4096,
            parallel=info.load.parallel or 1,
            threads=2,
            batch_threads=2,
            explain=_fake_reason,
        )


def _fake_reason(placement: Placement) -> str:
    return "It is a fake."


def _timings(began: float, first: float | None) -> Timings:
    now = time.monotonic()
    first = first or now
    return Timings(
        first_token_seconds=first - began,
        decode_seconds=now - first,
        total_seconds=now - began,
    )


def _count(messages: Sequence[Any]) -> int:
    return sum(len(message.text.split()) for message in messages)
