"""``ModelInterface``: what every model can be asked, wherever it runs."""

from __future__ import annotations

import asyncio
import os
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, aclosing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from nbllm.core.awaiting import tells_unless_awaited
from nbllm.core.budgets.bounds import bytes_of_labels, bytes_of_messages, bytes_of_tools
from nbllm.core.budgets.budgets import Budgets
from nbllm.core.budgets.guard import Budgeted
from nbllm.core.errors import InvalidOptionError, NbllmError, UnsupportedError
from nbllm.core.generation import Generation
from nbllm.core.history import GenerationLog
from nbllm.core.images import image
from nbllm.core.kinds import kind_of, place_of
from nbllm.core.layers.activity import Activity, Watched
from nbllm.core.layers.layer import Layer, Place, composed
from nbllm.core.layers.schema import ResultSchema
from nbllm.core.layers.uses import CountedUse, Uses
from nbllm.core.openai_turns import message_of, part_of, with_names
from nbllm.core.option_checks import items_of, text_of, texts_of
from nbllm.core.request_checks import check_options, check_size
from nbllm.core.routing.members import MemberReport
from nbllm.core.schemas.questions import asked_about, cued
from nbllm.core.schemas.requests import with_schema
from nbllm.core.texts import shown, trimmed
from nbllm.core.types import (
    Completed,
    ContentPart,
    Embeddings,
    Event,
    GenerationOptions,
    GenerationRequest,
    GenerationResult,
    ImagePart,
    Message,
    ModelInfo,
    PromptLike,
    TextPart,
    TokenCount,
    Usage,
)

if TYPE_CHECKING:
    from nbllm.batches.batch import Batch
    from nbllm.core.runs import Run
    from nbllm.core.vendor_batches import VendorBatches

__all__ = ["ModelInterface", "to_messages"]

_awaited = tells_unless_awaited("model")
_SEEDS = 2**63
_MOST_ANSWERS = 10_000


@_awaited
class ModelInterface(ABC):
    """A loaded model. It may be used from any event loop, and from several at once."""

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
                messages = cued(messages, question)
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

    def report_to(self, activity: Activity) -> None:
        """From now on ``activity`` lists and records every stream, in place of one of its own."""
        self._activity = activity

    def add_layers(self, *layers: Layer) -> None:
        """From now on every stream passes through ``layers`` too, each at its place."""
        self._layers = (*self._layers, *layers)

    @property
    def device(self) -> str:
        """Where it runs: the devices of this machine, or the host behind which it is."""
        return self.info.device or place_of(self.info) or "CPU"

    @property
    def name(self) -> str:
        """The name under which the model was loaded."""
        return self.info.name

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
    def can_fill(self) -> bool:
        """Whether ``fill`` works: the model has tokens for the text before and behind a gap."""
        return False

    def vendor_batches(self) -> VendorBatches:
        """The batch API of the model's vendor: many requests at once, answered later.

        Raises ``UnsupportedError`` where there is none.
        """
        raise UnsupportedError(
            self.name,
            "it has no batch API; OpenAI, Anthropic and Gemini have one. Leave batch_api unset to "
            "ask it row by row",
        )

    def working_on(
        self, run: Run
    ) -> AbstractContextManager[Callable[[GenerationResult | NbllmError], None]]:
        """List a run whose answers come without streams; what this gives records each of them."""
        return self._activity.during(run, self.name, self.device)

    async def reserve_batch(self, tag: str, requests: Sequence[GenerationRequest]) -> None:
        """Reserve in the budgets what a batch of ``vendor_batches`` may take at most.

        Raises ``BudgetError``; nothing is to be sent then.
        """
        await self._budgeted.reserve_batch(tag, requests)

    async def settle_batch(self, tag: str, usages: Sequence[Usage]) -> None:
        """Count what the requests of a batch took that is over, or was never sent."""
        await self._budgeted.settle_batch(tag, usages)

    @property
    def scores_labels(self) -> bool:
        """Whether ``decide`` tells probabilities; without them a model writes JSON."""
        return False

    @abstractmethod
    def _events(self, request: GenerationRequest) -> AsyncGenerator[Event, None]:
        """The events of one answer. Closing the generator stops the work at once."""

    def stream(
        self,
        prompt: PromptLike,
        *,
        system: str | None = None,
        options: GenerationOptions | None = None,
        schema: Any = None,
        generation: Generation | None = None,
        **overrides: Any,
    ) -> AsyncGenerator[Event, None]:
        """The answer as it is made; the last event is ``Completed`` with the whole result.

        ``prompt`` is a text, a message or a conversation; ``system`` stands before it. A text is
        sent without its blank ends, which small models trip over, unless ``raw`` continues it;
        messages are sent as they are.
        ``overrides`` are fields of ``GenerationOptions``; they win over ``options``, which win
        over the defaults of the model's config. ``schema`` is what the answer is to look like: a
        JSON schema, a pydantic model, a dataclass, a TypedDict, or a type of them such as
        ``list[Person]``; ``result.value`` is the answer as such a value. ``generation``
        is filled with what has come so far, for those who watch the stream from elsewhere. Closing
        the stream, cancelling its task or leaving the loop stops the generation.

        Raises ``InvalidOptionError`` at once, and from the iteration whatever the model raises,
        with the partial text in ``partial_text``.
        """
        request = self._request(prompt, system, options, overrides, schema)
        return self.stream_request(request, generation)

    def request(
        self,
        prompt: PromptLike,
        *,
        system: str | None = None,
        options: GenerationOptions | None = None,
        schema: Any = None,
        **overrides: Any,
    ) -> GenerationRequest:
        """What ``stream`` would ask, checked and not asked. Raises ``InvalidOptionError``."""
        return self._request(prompt, system, options, overrides, schema)

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

    def map(
        self,
        prompts: Iterable[PromptLike],
        *,
        system: str | None = None,
        options: GenerationOptions | None = None,
        schema: Any = None,
        decide: Mapping[str, Any] | None = None,
        concurrency: int | None = None,
        journal: str | os.PathLike[str] | None = None,
        retry_failed: bool = True,
        max_failures: float = 0.5,
        max_cost: float | None = None,
        max_total_tokens: int | None = None,
        first: int = 0,
        title: str = "",
        batch_api: bool = False,
        **overrides: Any,
    ) -> Batch:
        """Ask every prompt: ``async for row in model.map(…)``, or ``rows = await model.map(…)``.

        The rows come in the prompts' order. Each fails alone, with its ``error``. With a
        ``journal``, a file, what is finished outlives the kernel, and the same run goes on where
        it stopped. ``decide`` chooses among labels, as the method of this name does. ``batch_api``
        sends the rows to the vendor's batch API, which answers within a day for half the price;
        ``Batch.cancel`` cancels that, and without a ``journal`` one is kept in the working
        directory, so that the same run takes it up again; ``concurrency`` cannot be given then,
        and ``max_failures`` ends nothing. The other parameters are those of
        ``nbllm.batches.run.run_batch``, and ``stream``'s. Raises as that does.
        """
        from nbllm.core.openers import batch_of  # which needs this module
        from nbllm.core.schemas.answers import schema_or_decision

        asked = _checked(options).merged(GenerationOptions.of(overrides))
        return batch_of(
            self,
            prompts,
            system=system,
            options=asked,
            schema=schema_or_decision(schema, decide),
            concurrency=concurrency,
            journal=None if journal is None else Path(journal),
            retry_failed=retry_failed,
            max_failures=max_failures,
            max_cost=max_cost,
            max_total_tokens=max_total_tokens,
            first=first,
            title=title,
            batch_api=batch_api,
        )

    async def generate(
        self,
        prompt: PromptLike,
        *,
        system: str | None = None,
        options: GenerationOptions | None = None,
        schema: Any = None,
        generation: Generation | None = None,
        **overrides: Any,
    ) -> GenerationResult:
        """The whole answer; takes and raises the same as ``stream``."""
        request = self._request(prompt, system, options, overrides, schema)
        return await self._whole(self.stream_request(request, generation))

    async def _whole(self, stream: AsyncGenerator[Event, None]) -> GenerationResult:
        async with aclosing(stream) as events:
            async for event in events:
                if isinstance(event, Completed):
                    return event.result
        raise NbllmError(f"{self.name}: the stream ended without a result; this is a bug in nbllm")

    async def decide(
        self,
        prompt: PromptLike,
        decide: Mapping[str, Any],
        *,
        system: str | None = None,
        options: GenerationOptions | None = None,
        **overrides: Any,
    ) -> GenerationResult:
        """Choose among labels, as in ``decide(text, {"team": ["red", "blue"], "urgent": bool})``.

        Labels are texts, numbers, None, bool, an Enum, a Literal or a range. ``result.value`` has
        the most probable one for each question, and ``result.probabilities`` those of all. A local
        model writes nothing: it scores each label behind its chat template by the log-probability
        of all its tokens, of one letter case or the other, with or without a space before it, and
        as the beginning of an answer that is no longer label. The probabilities of a question's
        labels are scaled to add up to 1; below about 0.001 they are upper bounds. Behind the
        prompt stands the name of the question, as in "The team, in a word:", without the labels:
        name them in the prompt where they do not explain themselves. Any other model is asked for
        JSON with the labels as an enum, and tells no probabilities. Raises
        ``InvalidOptionError`` and whatever ``stream`` raises.
        """
        from nbllm.core.schemas.answers import decision_schema

        request = self._request(prompt, system, options, overrides, decision_schema(decide))
        return await self._whole(self.stream_request(request))

    async def generate_many(
        self,
        prompt: PromptLike,
        n: int,
        *,
        system: str | None = None,
        options: GenerationOptions | None = None,
        schema: Any = None,
        **overrides: Any,
    ) -> list[GenerationResult]:
        """``n`` answers to one prompt, which a local model reads only once.

        With a ``seed`` the answers draw with it and the numbers that follow it. Takes and raises
        the same as ``stream``; the first failure ends the others.
        """
        if not isinstance(n, int) or isinstance(n, bool) or not 1 <= n <= _MOST_ANSWERS:
            problem = f"must be an integer between 1 and {_MOST_ANSWERS:,} (got {shown(n)})"
            raise InvalidOptionError("n", problem)
        asked = _checked(options).merged(GenerationOptions.of(overrides))
        seed = self.info.options.merged(asked).seed
        one_each = [
            asked if seed is None else replace(asked, seed=(seed + number) % _SEEDS)
            for number in range(n)
        ]
        tasks = [
            asyncio.ensure_future(
                self.generate(prompt, system=system, options=options, schema=schema)
            )
            for options in one_each
        ]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def fill(
        self,
        prefix: str,
        suffix: str,
        *,
        options: GenerationOptions | None = None,
        **overrides: Any,
    ) -> GenerationResult:
        """What belongs between two texts, mostly of code; takes the same options as ``generate``.

        Raises ``UnsupportedError`` where the model was not trained to fill in the middle.
        """
        if not self.can_fill:
            raise UnsupportedError(
                self.name,
                "it was not trained for fill-in-the-middle; load a GGUF of a code model, such as "
                "Qwen2.5-Coder",
            )
        before, behind = text_of("prefix", prefix), text_of("suffix", suffix)
        request = self._request(Message("user", before), None, options, overrides)
        return await self._whole(self.stream_request(replace(request, suffix=behind)))

    async def tokenize(self, text: str) -> list[int]:
        """The tokens of ``text`` alone, without a chat template; it may have 32 MiB."""
        raise UnsupportedError(self.name, "its vendor does not publish a tokenizer")

    async def detokenize(self, tokens: Sequence[int]) -> str:
        """The text of ``tokens``; invalid UTF-8 becomes U+FFFD."""
        raise UnsupportedError(self.name, "its vendor does not publish a tokenizer")

    async def count_tokens(
        self,
        prompt: PromptLike,
        *,
        system: str | None = None,
        template: bool = True,
        raw: bool = False,
    ) -> TokenCount:
        """How many tokens ``prompt`` is for this model, its chat template included.

        Without the ``template`` it is those of a text alone, such as a part of a prompt, and with
        ``raw`` those of a text that ``raw=True`` continues. The count
        is exact where the model is here or its vendor counts, else an estimate. A text may have
        32 MiB.
        """
        if template and not raw:
            messages = to_messages(_without_ends(prompt), system=system)
            for message in messages:
                check_size("prompt", message.text)
            return await self._count_messages(messages)
        if not isinstance(prompt, str) or system is not None:
            problem = "without a template, give one string and no system prompt"
            raise InvalidOptionError("template", problem)
        check_size("prompt", prompt)
        return await (self._count_raw(prompt) if raw else self._count_text(prompt))

    @abstractmethod
    async def _count_messages(self, messages: tuple[Message, ...]) -> TokenCount:
        """The tokens of a conversation, as it is sent."""

    async def _count_text(self, text: str) -> TokenCount:
        """The tokens of a text alone."""
        return TokenCount(len(await self.tokenize(text)))

    async def _count_raw(self, text: str) -> TokenCount:
        """The tokens of a text that is continued as it is."""
        return await self._count_text(text)

    async def embed(self, texts: str | Sequence[str], *, normalize: bool = True) -> Embeddings:
        """One vector for each text, of length 1 unless ``normalize`` is off.

        So the dot product of two vectors is their cosine, whatever the model: most vendors give
        such vectors anyway, and what the length of the others means is rarely known. Raises
        ``InvalidOptionError`` for what is not text, such as a missing value of a column, and for
        a text of more than 32 MiB.
        """
        given = texts_of("texts", [texts] if isinstance(texts, str) else texts)
        for text in given:
            check_size("texts", text)
        embeddings = await self._budgeted.embedded(given, self._embed)
        return embeddings.normalized() if normalize else embeddings

    @abstractmethod
    async def _embed(self, texts: list[str]) -> Embeddings:
        """One vector for each text, as the model gives it."""

    async def rerank(self, query: str, documents: Sequence[str]) -> tuple[float, ...]:
        """How well each document answers ``query``; higher is better.

        The scores are the model's own: compare them among the documents of one call. Raises
        ``UnsupportedError`` where the model is no reranker.
        """
        raise UnsupportedError(
            self.name,
            "it is not a reranker; load a GGUF of one, such as bge-reranker-v2-m3, or compare "
            "the vectors of model.embed",
        )

    @abstractmethod
    async def aclose(self) -> None:
        """Give everything back: memory, processes, connections. Closing twice is harmless."""

    def _request(
        self,
        prompt: PromptLike,
        system: str | None,
        options: GenerationOptions | None,
        overrides: Mapping[str, Any],
        schema: Any = None,
    ) -> GenerationRequest:
        chosen = self.info.options.merged(_checked(options))
        chosen, wanted = with_schema(chosen.merged(GenerationOptions.of(overrides)), schema)
        check_options(chosen)
        asked = prompt if chosen.raw else _without_ends(prompt)
        messages = to_messages(asked, system=system)
        if wanted is not None and wanted.questions:
            _check_decision(chosen)
            if self.scores_labels:
                chosen = replace(chosen, temperature=0.0)  # nothing is drawn
            else:
                messages = asked_about(messages, wanted.questions)
        return GenerationRequest(messages, chosen, schema=wanted, model=self.info)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"


def _without_ends(prompt: PromptLike) -> PromptLike:
    """A text without its blank ends, unless it is nothing else; anything else as it is."""
    return (trimmed(prompt) or prompt) if isinstance(prompt, str) else prompt


def _check_decision(options: GenerationOptions) -> None:
    if options.tools:
        raise InvalidOptionError("tools", "cannot be combined with decide; leave one out")


def _checked(options: object) -> GenerationOptions:
    """Options that a caller gave; None stands for none."""
    if options is None:
        return GenerationOptions()
    if not isinstance(options, GenerationOptions):
        raise InvalidOptionError(
            "options",
            f"must be a GenerationOptions (got {shown(options)}); single options can be given "
            "by name, as in max_tokens=100",
        )
    return options


def to_messages(prompt: PromptLike, *, system: str | None = None) -> tuple[Message, ...]:
    """``prompt`` as a conversation, behind ``system`` where that is given.

    Mappings are read as OpenAI's JSON has them: ``{"role": …, "content": …}``. Content may be a
    list of texts, parts, OpenAI's pieces, and images of any kind that ``image`` takes. Raises
    ``InvalidOptionError`` for anything else.
    """
    if isinstance(prompt, str):
        turns: tuple[Message, ...] = (Message("user", prompt),)
    elif isinstance(prompt, Message):
        turns = (prompt,)
    elif isinstance(prompt, Mapping):
        turns = (_to_message(prompt),)
    elif not isinstance(prompt, Iterable):
        problem = f"must be a string or a list of messages (got {shown(prompt)})"
        raise InvalidOptionError("prompt", problem)
    else:
        turns = with_names(tuple(map(_to_message, items_of("prompt", prompt, "messages"))))
    if not turns:
        raise InvalidOptionError(
            "prompt", "must not be empty; give a string or at least one message"
        )
    return turns if system is None else (Message("system", text_of("system", system)), *turns)


def _to_message(turn: Message | Mapping[str, Any]) -> Message:
    if isinstance(turn, Message):
        return turn
    if not isinstance(turn, Mapping):
        raise InvalidOptionError(
            "prompt",
            "each message must be a Message or a mapping with role and content "
            f"(got {shown(turn)})",
        )
    return message_of(turn, _part)


def _part(piece: Any) -> ContentPart:
    if isinstance(piece, get_args(ContentPart)):
        part: ContentPart = piece
        return part
    if isinstance(piece, Mapping):
        return part_of(piece)
    return TextPart(piece) if isinstance(piece, str) else image(piece)
