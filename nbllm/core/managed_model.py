"""``ManagedModel``: what managers, routers and batches need of a model, wherever it runs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractContextManager, aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nbllm.core.awaiting import tells_unless_awaited
from nbllm.core.budgets.bounds import bytes_of_labels, bytes_of_messages, bytes_of_tools
from nbllm.core.budgets.budgets import Budgets
from nbllm.core.budgets.guard import Budgeted
from nbllm.core.errors import NbllmError, UnsupportedError
from nbllm.core.generation import Generation
from nbllm.core.history import GenerationLog
from nbllm.core.kinds import kind_of, place_of
from nbllm.core.layers.activity import Activity, Watched
from nbllm.core.layers.layer import Events, Layer, Next, Place, composed
from nbllm.core.layers.uses import CountedUse, Uses
from nbllm.core.option_names import option_name
from nbllm.core.routing.members import MemberReport
from nbllm.core.schemas.decision_questions import cued
from nbllm.core.types import (
    Completed,
    Event,
    GenerationRequest,
    GenerationResult,
    ImagePart,
    Message,
    ModelInfo,
    TokenCount,
    Usage,
)

if TYPE_CHECKING:
    from nbllm.core.runs import Run, VendorBatches
    from nbllm.core.schemas.answer_schemas import AnswerSchema

__all__ = [
    "ManagedModel",
    "ResultSchema",
    "without_batch_api",
]


def without_batch_api(model: str) -> UnsupportedError:
    """What is said of a model that has no batch API."""
    return UnsupportedError(
        model,
        "it has no batch API; OpenAI, Anthropic and Gemini have one. Leave "
        f"{option_name('batch_api')} out to ask it row by row",
    )


class ResultSchema:
    """Puts the schema of the request into the result; ``result.value`` is read with it."""

    place = Place.SCHEMA

    def __call__(self, request: GenerationRequest, following: Next) -> Events:
        """Requests without a schema pass through at no cost."""
        events = following(request)
        return events if request.schema is None else _with_schema(events, request.schema)


async def _with_schema(events: Events, schema: AnswerSchema) -> Events:
    async with aclosing(events):
        async for event in events:
            if isinstance(event, Completed):
                event = Completed(replace(_noted(event.result, schema), schema=schema))
            yield event


def _noted(result: GenerationResult, schema: AnswerSchema) -> GenerationResult:
    if not schema.questions or result.label_probabilities:
        return result
    note = "The labels were chosen by an answer in JSON: this model tells no probabilities of them."
    return replace(result, notes=(*result.notes, note))


_awaited = tells_unless_awaited("model")


@_awaited
class ManagedModel(ABC):
    """The state of a loaded model, the layers around its stream, and what its requests may spend.

    What a person asks it stands in ``ModelInterface``, the only class to derive from.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        _awaited(cls)

    def __init__(self, info: ModelInfo) -> None:
        self.info = info
        self._activity = Activity(GenerationLog())
        self.unready: str | None = None
        """Why it could not answer when it was last asked whether it can; None where it could."""
        self.uses = Uses(info.name)
        """The requests under way. Streams are counted here; what else a model is asked, it counts
        itself, by ``with self.uses:``. While there are any, no manager takes its memory away."""
        self._layers: tuple[Layer, ...] = (CountedUse(self.uses), ResultSchema())

        self._budgeted = Budgeted(Budgets(), self)

    @property
    def name(self) -> str:
        """The name under which the model was loaded."""
        return self.info.name

    @property
    def device(self) -> str:
        """Where it runs: the devices of this machine, or the host behind which it is."""
        return self.info.device or place_of(self.info) or "CPU"

    @property
    def usable(self) -> bool:
        """Whether requests can succeed: False once it was closed or its engine died."""
        return True

    def used_memory_bytes(self) -> int | None:
        """What the system counts at present as taken of the main memory; None: all it takes.

        It may be less than the model is going to take: buffers are filled when they are first
        used, and a mapped file counts as memory that can be had.
        """
        return None

    @property
    def members(self) -> tuple[MemberReport, ...]:
        """How the models do that answer for a router; no other has any."""
        return ()

    @property
    def scores_labels(self) -> bool:
        """Whether ``decide`` tells probabilities; without them a model writes JSON."""
        return False

    def spend_from(self, budgets: Budgets) -> None:
        """From now on every request counts in ``budgets``."""
        self._budgeted = Budgeted(budgets, self)
        self.add_layers(self._budgeted)

    async def answer_room(self, request: GenerationRequest) -> int | None:
        """The tokens that budgets leave for the answer to a request that states no limit.

        None where no budget bounds it.
        """
        return await self._budgeted.room(request)

    async def usage_bound(self, request: GenerationRequest) -> Usage:
        """The most tokens that a request may take; no completion tokens: nothing bounds them."""
        if request.questions and self.scores_labels:
            return Usage(prompt_tokens=await self._questions_bound(request), completion_tokens=0)
        prompt, limits = await self._prompt_bound(request), [request.options.max_tokens]
        if self.info.context_length is not None and request.options.on_full != "shift":
            limits.append(max(0, self.info.context_length - prompt))
        known = [limit for limit in limits if limit is not None]
        return Usage(prompt_tokens=prompt, completion_tokens=min(known, default=None))

    async def _questions_bound(self, request: GenerationRequest) -> int:
        """Each question has a prompt of its own, and its labels are read behind it."""
        alone, tokens = replace(request, schema=None), 0
        for question in request.questions:
            messages = request.messages
            if not request.options.raw:
                billions = self.info.parameters
                messages = cued(messages, question, request.questions, billions=billions)
            tokens += await self._prompt_bound(replace(alone, messages=messages))
            tokens += bytes_of_labels(question.labels)
        return tokens

    async def _prompt_bound(self, request: GenerationRequest) -> int:
        """The tokens of a prompt where they can be counted here, else its bytes."""
        has_images = any(isinstance(p, ImagePart) for m in request.messages for p in m.parts)
        if request.suffix or has_images or not kind_of(self.info).counts_freely:
            return bytes_of_messages(request)
        if request.options.raw:
            return int(await self._count_raw("".join(each.text for each in request.messages)))
        return int(await self._count_messages(request.messages)) + bytes_of_tools(request.options)

    async def counted_prompt(self, request: GenerationRequest) -> int | None:
        """As ``usage_bound``, at the price of a request; None where nobody counts."""
        return None

    def highest_cost(self, usage: Usage) -> float | None:
        """US dollars that so many tokens cost at most; None where their price is not known."""
        return 0.0 if kind_of(self.info).takes_memory else None

    async def reserve_batch(self, tag: str, requests: Sequence[GenerationRequest]) -> None:
        """Reserve in the budgets what a batch of ``vendor_batches`` may take at most.

        Raises ``BudgetError``; nothing is to be sent then.
        """
        await self._budgeted.reserve_batch(tag, requests)

    async def settle_batch(self, tag: str, usages: Sequence[Usage]) -> None:
        """Count what the requests of a batch took that is over, or was never sent."""
        await self._budgeted.settle_batch(tag, usages)

    def vendor_batches(self) -> VendorBatches:
        """The batch API of the model's vendor: many requests at once, answered later.

        Raises ``UnsupportedError`` where there is none.
        """
        raise without_batch_api(self.name)

    def report_to(self, activity: Activity) -> None:
        """From now on ``activity`` lists and records every stream, in place of one of its own."""
        self._activity = activity

    def working_on(
        self, run: Run
    ) -> AbstractContextManager[Callable[[GenerationResult | NbllmError], None]]:
        """List a run whose answers come without streams; what this gives records each of them."""
        return self._activity.during(run, self.name, self.device)

    def add_layers(self, *layers: Layer) -> None:
        """From now on every stream passes through ``layers`` too, each at its place."""
        self._layers = (*self._layers, *layers)

    def stream_request(
        self, request: GenerationRequest, generation: Generation | None = None
    ) -> AsyncGenerator[Event, None]:
        """As ``stream``, for a request that ``request`` made."""
        watched = Watched(self._activity, generation or Generation(), self.device)
        return composed((*self._layers, watched), self._events)(request)

    def attempt(
        self, request: GenerationRequest, when_asked: Callable[[], None]
    ) -> AsyncGenerator[Event, None]:
        """One attempt at what a router was asked, which records and repeats it itself.

        ``when_asked`` is called when the model itself is asked, which a kept answer spares.
        """
        layers = (layer for layer in self._layers if layer.place is not Place.RETRY)

        def innermost(request: GenerationRequest) -> AsyncGenerator[Event, None]:
            when_asked()
            return self._events(request)

        return composed(layers, innermost)(request)

    @abstractmethod
    def _events(self, request: GenerationRequest) -> AsyncGenerator[Event, None]:
        """The events of one answer. Closing the generator stops the work at once."""

    @abstractmethod
    async def _count_messages(self, messages: tuple[Message, ...]) -> TokenCount:
        """The tokens of a conversation, as it is sent."""

    @abstractmethod
    async def _count_raw(self, text: str) -> TokenCount:
        """The tokens of a text that is continued as it is."""
