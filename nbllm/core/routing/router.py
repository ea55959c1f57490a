"""``Router``: a model that has each request answered by one of its members."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial

from nbllm.core.errors import (
    ConfigError,
    InvalidOptionError,
    ModelClosedError,
    ModelNotFoundError,
    NbllmError,
    UnsupportedError,
)
from nbllm.core.generation_requests import check_options
from nbllm.core.kinds import kind_of
from nbllm.core.layers.layer import Events
from nbllm.core.model_interface import ModelInterface
from nbllm.core.openers import LoadControl, price_of
from nbllm.core.routing.choosing import Chosen, MemberState, NoMember, Request, WaitUntil
from nbllm.core.routing.health import kind_of_failure
from nbllm.core.routing.members import MemberReport, Members, answered_key
from nbllm.core.routing.route import failure_words
from nbllm.core.routing.router_settings import MemberPrice, RouterMember, RouterSettings
from nbllm.core.routing.trip import Attempt, Trip
from nbllm.core.schemas.decision_questions import asked_about
from nbllm.core.types import (
    Completed,
    Embeddings,
    Event,
    GenerationRequest,
    GenerationResult,
    Message,
    ModelInfo,
    ReasoningDelta,
    RetryScheduled,
    TextDelta,
    TokenCount,
    ToolCallDelta,
)

__all__ = ["Router", "open_model"]


def open_model(info: ModelInfo, control: LoadControl) -> Router:
    """A router whose members are known; each is loaded when it is first needed.

    Raises ``ConfigError`` for an entry that cannot work, by its key.
    """
    if info.router is None:
        raise _refused(info, "members", "a router needs a list of members")
    try:
        info.router.check_named(info.name)
    except InvalidOptionError as error:
        raise _refused(info, error.option, error.problem) from None
    return Router(info, info.router, _states(info, info.router, control), control)


def _states(info: ModelInfo, settings: RouterSettings, control: LoadControl) -> list[MemberState]:
    states: list[MemberState] = []
    entries: list[ModelInfo] = []
    for place, member in enumerate(settings.members):
        key = f"members[{place}]"
        try:
            entry = control.find(member.name)
        except ModelNotFoundError as error:
            raise _refused(info, key, str(error)) from None
        if kind_of(entry).routes:
            problem = f"{member.name!r} is a router itself; list its members here instead"
            raise _refused(info, key, problem)
        if entry in entries:
            other = settings.members[entries.index(entry)].name
            problem = f"{member.name!r} and {other!r} are the same model; remove one of them"
            raise _refused(info, key, problem)
        entries.append(entry)
        length = entry.load.context_length or entry.context_length
        price = _price(member, entry) if settings.strategy == "cheapest" else None
        states.append(MemberState(member=member, context_length=length, price=price))
    return states


def _price(member: RouterMember, entry: ModelInfo) -> MemberPrice | None:
    if member.price is not None:
        return member.price
    if kind_of(entry).takes_memory:
        return MemberPrice(0.0, 0.0)
    known = price_of(entry)
    return None if known is None else MemberPrice(*known)


_PIECES = (TextDelta, ReasoningDelta, ToolCallDelta)


def rough_tokens(messages: Sequence[Message]) -> int:
    """Tokens of a conversation within about a third, whoever reads it: a fourth of its bytes."""
    return sum(4 + len(message.text.encode()) // 4 for message in messages)


def _refused(info: ModelInfo, key: str, problem: str) -> ConfigError:
    return ConfigError(problem, file=info.config_file, entry=info.name, key=key)


class Router(ModelInterface):
    """Its members are loaded by ``control`` when they are needed, and stay when it is closed."""

    def __init__(
        self,
        info: ModelInfo,
        settings: RouterSettings,
        states: Sequence[MemberState],
        control: LoadControl,
    ) -> None:
        super().__init__(info)
        self._settings, self._control = settings, control
        self._members = Members(settings, states)
        self._models: dict[str, ModelInterface] = {}
        self._without_defaults: set[str] = set()
        self._is_open = True

    @property
    def usable(self) -> bool:
        """Whether it was not closed."""
        return self._is_open

    @property
    def scores_labels(self) -> bool:
        """Whether its members do; those that do not are asked for JSON when it is their turn."""
        return True

    @property
    def members(self) -> tuple[MemberReport, ...]:
        """How its members do at the moment, in their order."""
        return self._members.reports()

    async def _events(self, request: GenerationRequest) -> AsyncGenerator[Event, None]:
        """The events of the member that answers, after those that tell of the choice."""
        trip = Trip(self.name, self._settings, request)
        while True:
            decision = self._members.choose(self._asked_for(trip), trip.conversation)
            match decision:
                case NoMember():
                    trip.give_up()
                case WaitUntil():
                    seconds = trip.wait_seconds(decision, self._members.reports())
                    if trip.is_news(decision):
                        yield RetryScheduled(max(1, len(trip.tries)), seconds, trip.last_words)
                    began = time.monotonic()
                    await self._members.changed(seconds)
                    trip.waited += time.monotonic() - began
                case Chosen(name, why):
                    async with aclosing(self._tried(trip, name, why)) as events:
                        async for event in events:
                            if not self._is_open:
                                raise _closed(self.name, trip.text)
                            yield event
                    if trip.is_answered:
                        return

    def _asked_for(self, trip: Trip) -> Callable[..., Request]:
        """What the choice depends on."""
        is_by_cost = self._settings.strategy == "cheapest"
        return partial(
            Request,
            excluded=frozenset(trip.excluded),
            only=trip.only,
            longer_than=trip.longer_than,
            prompt_tokens=rough_tokens(trip.request.messages) if is_by_cost else 0,
            answer_tokens=trip.request.options.max_tokens,
            running={name: model.uses.count for name, model in self._models.items()},
        )

    async def _tried(self, trip: Trip, name: str, why: str) -> Events:
        """One attempt; ``trip`` knows afterwards whether it was the answer."""
        attempt = Attempt(time.monotonic())
        failure: Exception | None = None
        try:
            device = self._device_of(name)
            yield trip.chosen(name, why, device)
            if not device:  # what follows is counted where it runs
                await self._loaded(name, trip)
                yield trip.chosen(name, why, self._device_of(name))
            async with aclosing(self._attempt(name, trip, attempt)) as events:
                async for event in events:
                    self._note(name, trip, attempt, event)
                    if isinstance(event, Completed):
                        event = Completed(trip.completed(name, attempt, event.result))
                        if trip.is_sticky:
                            self._keep_home(trip, name, event.result)
                    yield event
        except NbllmError as error:
            failure = error
        finally:
            self._finish(name, trip, attempt, failure)
        if failure is not None:
            trip.check(name, attempt, failure, self._members.context_of(name))

    async def _attempt(self, name: str, trip: Trip, attempt: Attempt) -> Events:
        """The events of the member, which is loaded again where it was unloaded meanwhile."""
        for may_reload in (True, False):
            model = await self._loaded(name, trip)
            attempt.began = time.monotonic()
            asked = self._asked(name, model, trip.request)
            try:
                async with aclosing(model.attempt(asked, attempt.mark_asked)) as events:
                    async for event in events:
                        yield event
                return
            except ModelClosedError:
                self._models.pop(name, None)
                if attempt.has_begun or not may_reload:
                    raise

    def _asked(
        self, name: str, model: ModelInterface, request: GenerationRequest
    ) -> GenerationRequest:
        """The request as it goes to a member, whose own defaults stand behind all others."""
        if request.questions and not model.scores_labels:
            messages = asked_about(request.messages, request.questions)
            request = replace(request, messages=messages)
        if name in self._without_defaults:
            return replace(request, model=model.info)
        options = model.info.options.merged(request.options)
        check_options(options)
        return replace(request, model=model.info, options=options)

    async def _loaded(self, name: str, trip: Trip) -> ModelInterface:
        model = self._models.get(name)
        if model is None or not model.usable:
            has_others = "does_not_fit" in self._settings.fallback
            wait = 0.0 if has_others else trip.seconds_left
            model = await self._control.load(name, wait)
            self._models[name] = model
            if not model.info.options.set_values():
                self._without_defaults.add(name)
            self._members.learn_context(name, model.info.context_length)
        return model

    def _device_of(self, name: str) -> str:
        model = self._models.get(name)
        return "" if model is None else model.device

    def _note(self, name: str, trip: Trip, attempt: Attempt, event: Event) -> None:
        """Take notice of what a member says: its first piece shows that it is well."""
        is_piece = isinstance(event, _PIECES)
        if isinstance(event, TextDelta):
            trip.texts.append(event.text)
        trip.has_pieces = trip.has_pieces or is_piece
        if attempt.has_begun or not (is_piece or isinstance(event, Completed)):
            return
        attempt.begin()
        if attempt.is_asked:
            self._members.answered(name, attempt.seconds)

    def _finish(self, name: str, trip: Trip, attempt: Attempt, failure: Exception | None) -> None:
        """Whatever became of it: count it out, and note why it failed."""
        kind = None if failure is None else kind_of_failure(failure)
        if failure is not None:
            trip.failed(name, attempt, kind, failure)
        if kind is not None:
            self._members.failed(
                name,
                kind,
                failure_words(kind.word),
                began=attempt.began,
                delay=getattr(failure, "retry_after_seconds", None),
            )
        is_told = kind is not None or (attempt.has_begun and attempt.is_asked)
        self._members.leave(name, untold=not is_told)

    def _keep_home(self, trip: Trip, name: str, result: GenerationResult) -> None:
        key = answered_key(trip.request.messages, result.text)
        self._members.keep_home(trip.conversation, key, name)

    # ------------------------------------------------------------ counting and embedding

    async def _count_messages(self, messages: tuple[Message, ...]) -> TokenCount:
        """An estimate: each member counts otherwise."""
        return TokenCount(rough_tokens(messages), exact=False)

    async def _embed(self, texts: list[str]) -> Embeddings:
        raise UnsupportedError(
            self.name,
            "vectors of different models cannot be compared; embed with one member, such as "
            f"{self._settings.members[0].name}",
        )

    async def tokenize(self, text: str) -> list[int]:
        """Each member has tokens of its own, so this raises ``UnsupportedError``."""
        raise UnsupportedError(
            self.name,
            "its members have different tokens; ask one of them, such as "
            f"{self._settings.members[0].name}",
        )

    async def _count_text(self, text: str) -> TokenCount:
        return await self._count_messages((Message("user", text),))

    async def aclose(self) -> None:
        """Take no more requests. The members stay loaded: others may use them."""
        self._is_open = False


def _closed(name: str, partial_text: str) -> ModelClosedError:
    problem = "it was unloaded during the request; load it again to use it"
    return ModelClosedError(name, problem, partial_text=partial_text)
