"""A model that the workers of a Dask cluster answer for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn
from uuid import uuid4

from nbllm.batches.brake import Brake
from nbllm.batches.cluster import on_worker
from nbllm.batches.cluster.on_worker import Answer, Opened, Wanted
from nbllm.batches.cluster.seats import Seat
from nbllm.batches.cluster.workers import LostError, Workers
from nbllm.batches.spread import SpreadModel
from nbllm.core.budgets.bounds import bytes_of_messages
from nbllm.core.caching.request_key import request_key
from nbllm.core.errors import (
    AuthenticationError,
    EngineCrashedError,
    EngineError,
    ModelClosedError,
    ModelLoadError,
    ModelNotFoundError,
    NotFoundError,
    PermissionDeniedError,
    QuotaError,
    UnsupportedError,
)
from nbllm.core.types import Completed, Embeddings, Event, GenerationRequest, ModelInfo, Usage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from distributed import Client

    from nbllm.core.types import Message, TokenCount

__all__ = ["ClusterModel"]

_PATIENCE_SECONDS = 60.0
_MOST_ATTEMPTS = 3
_WORKER_CANNOT = (
    AuthenticationError,
    PermissionDeniedError,
    QuotaError,
    NotFoundError,
    ModelLoadError,
    ModelNotFoundError,
)
"""What every row would meet on one worker, and perhaps not on another."""
_MODEL_DIED = (EngineCrashedError, ModelClosedError)


class ClusterModel(SpreadModel):
    """The model ``name`` on all workers of ``client``'s cluster, those that join later too.

    ``entry`` is what this machine knows of it; see ``Wanted``. Each worker's process loads it into
    the memory of its own machine. A row whose worker is lost is asked on another one, at most
    three times. A run without any worker ends after ``patience`` seconds.
    """

    def __init__(
        self,
        client: Client,
        name: str,
        entry: ModelInfo | None = None,
        *,
        patience: float = _PATIENCE_SECONDS,
    ) -> None:
        super().__init__(entry or ModelInfo(name=name, model_type="unknown", local=False))
        self._client, self._patience = client, patience
        self._entry = None if entry is None else _for_others(entry)
        self._workers: Workers | None = None
        self._wanted = Wanted(name=self.name, entry=self._entry, run="")

    @property
    def notes(self) -> list[str]:
        """Which workers of the last run were not asked, and why."""
        return self._workers.notes if self._workers else []

    @property
    def width(self) -> int:
        """See ``SpreadModel``."""
        return self._workers.brake.most if self._workers else 1

    @property
    def scores_labels(self) -> bool:
        """Whether the workers' model does."""
        return self._first is not None and self._first.scores_labels

    @property
    def _first(self) -> Opened | None:
        return self._workers.first if self._workers else None

    async def open(self, concurrency: int | None) -> Brake:
        """Return as soon as one worker has loaded the model; see ``SpreadModel``."""
        self._wanted = replace(self._wanted, run=uuid4().hex)
        workers = Workers(self._client, self._wanted, concurrency, self._patience)
        self._workers = workers
        try:
            await workers.seats.give_back(await workers.seats.take())
        except BaseException:
            await workers.close()
            raise
        if workers.first is not None:
            self.info = workers.first.info
        return workers.brake

    async def close(self) -> None:
        """End what is still asked; see ``SpreadModel``."""
        if self._workers is not None:
            await self._workers.close()

    def key_of(self, request: GenerationRequest, sample: int = 0) -> str:
        """The same as in a run on this machine; see ``SpreadModel``."""
        return request_key(request, sample, model=self._first.identity if self._first else None)

    # ------------------------------------------------------------ rows

    async def _events(self, request: GenerationRequest) -> AsyncGenerator[Event, None]:
        answer = await self._answer(request)
        for retry in answer.retries:
            yield retry
        if answer.error is not None:
            raise answer.error
        if answer.result is not None:
            yield Completed(replace(answer.result, model=self.name))

    async def _answer(self, request: GenerationRequest) -> Answer:
        """The answer of one worker, or of another where the first has gone or cannot."""
        if self._workers is None:
            raise ModelClosedError(self.name, "it can be asked in a run only; use map_frame")
        workers, light, problem = self._workers, _without_types(request), ""
        for _ in range(_MOST_ATTEMPTS):
            seat = await workers.seats.take()
            try:
                answer = await self._until_lost(workers, seat, light)
            except LostError:
                problem = f"the worker {seat.address} was lost"
                continue
            finally:
                await workers.seats.give_back(seat)
            if isinstance(answer.error, _WORKER_CANNOT):
                workers.refuse(seat.address, answer.error)
            elif not isinstance(answer.error, _MODEL_DIED):
                return answer
            problem = f"{seat.address}: {answer.error}"
        words = f"{_MOST_ATTEMPTS} workers failed on this row, the last because {problem}"
        return Answer(error=EngineError(self.name, words))

    async def _until_lost(self, workers: Workers, seat: Seat, request: GenerationRequest) -> Answer:
        call = asyncio.ensure_future(workers.call(seat.address, on_worker.answered, request))
        gone = asyncio.ensure_future(seat.lost.wait())
        try:
            await asyncio.wait({call, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not call.done():
                raise LostError
            answer: Answer = call.result()
            seat.is_warm = True
            return answer
        finally:
            call.cancel()
            gone.cancel()
            await asyncio.gather(call, gone, return_exceptions=True)

    # ------------------------------------------------------------ budgets

    async def _prompt_bound(self, request: GenerationRequest) -> int:
        return bytes_of_messages(request)

    def highest_cost(self, usage: Usage) -> float | None:
        """By the prices that the first worker knows."""
        prompt, answer = self._first.prices if self._first else (None, None)
        if prompt is None or answer is None:
            return None
        return (usage.prompt_tokens or 0) * prompt + (usage.completion_tokens or 0) * answer

    # ------------------------------------------------------------ what a run does not need

    async def tokenize(self, text: str) -> list[int]:  # noqa: D102 - see ModelInterface
        self._refuse("tokenize")

    async def detokenize(self, tokens: Sequence[int]) -> str:  # noqa: D102
        self._refuse("detokenize")

    async def _count_messages(self, messages: tuple[Message, ...]) -> TokenCount:
        self._refuse("count tokens")

    async def _embed(self, texts: list[str]) -> Embeddings:
        self._refuse("embed")

    def _refuse(self, what: str) -> NoReturn:
        raise UnsupportedError(self.name, f"a model on a cluster cannot {what}; load it here")

    async def aclose(self) -> None:
        """As ``close``."""
        await self.close()


def _for_others(entry: ModelInfo) -> ModelInfo:
    """The entry without what is true of this machine only."""
    return replace(
        entry,
        source="config",
        placement=None,
        device=None,
        memory_bytes=None,
        config_file=None,
        tuned_from=None,
        budgets=(),
    )


def _without_types(request: GenerationRequest) -> GenerationRequest:
    """The request without Python types, which a worker need not be able to import."""
    schema = request.schema
    if schema is None:
        return request
    questions = tuple(replace(each, values=each.labels) for each in schema.questions)
    return replace(request, schema=replace(schema, kind=None, questions=questions))
