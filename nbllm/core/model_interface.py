"""``ModelInterface``: what every model can be asked, wherever it runs."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbllm.core.awaiting import gathered
from nbllm.core.budgets.bounds import rerank_bound, text_bound
from nbllm.core.errors import InvalidOptionError, NbllmError, UnsupportedError
from nbllm.core.generation import Generation
from nbllm.core.generation_requests import (
    check_size,
    generation_request,
    options_of_many,
    to_messages,
    without_ends,
)
from nbllm.core.managed_model import ManagedModel
from nbllm.core.option_checks import text_of, texts_of
from nbllm.core.option_table import given
from nbllm.core.runs import batch_of
from nbllm.core.types import (
    Completed,
    Embeddings,
    Event,
    GenerationOptions,
    GenerationRequest,
    GenerationResult,
    Message,
    PromptLike,
    TokenCount,
    Usage,
)

if TYPE_CHECKING:
    from nbllm.batches.batch import Batch

__all__ = ["ModelInterface"]

_BY_NAME = "max_tokens=100"


class ModelInterface(ManagedModel):
    """A loaded model. It may be used from any event loop, and from several at once."""

    @property
    def can_fill(self) -> bool:
        """Whether ``fill`` works: the model has tokens for the text before and behind a gap."""
        return False

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
        request = self.request(prompt, system=system, options=options, schema=schema, **overrides)
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
        asked = given(GenerationOptions, options, overrides, _BY_NAME)
        return generation_request(
            self.info,
            prompt,
            system=system,
            options=asked,
            schema=schema,
            scores_labels=self.scores_labels,
        )

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
        directory, so that the same run takes it up again; ``concurrency`` and
        ``max_total_tokens`` cannot be given then, and ``max_failures`` ends nothing. The other
        parameters are those of ``nbllm.batches.run.RunSettings``, and ``stream``'s. Raises as
        ``run_batch`` there does.
        """
        from nbllm.core.schemas.answer_schemas import schema_or_decision

        asked = given(GenerationOptions, options, overrides, _BY_NAME)
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
        request = self.request(prompt, system=system, options=options, schema=schema, **overrides)
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
        prompt stands the name of the question, as in "The team, in a word:". A model of a billion
        parameters or more is told the labels of all questions in the system message; a smaller one
        is not, since it would choose among them by their place rather than by the text: name them
        in the prompt where they do not explain themselves. Any other model is asked for JSON behind
        the prompt, with the labels there and as an enum, and tells no probabilities. Raises
        ``InvalidOptionError`` and whatever ``stream`` raises.
        """
        from nbllm.core.schemas.answer_schemas import decision_schema

        request = self.request(
            prompt, system=system, options=options, schema=decision_schema(decide), **overrides
        )
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
        asked = given(GenerationOptions, options, overrides, _BY_NAME)
        one_each = options_of_many(asked, self.info.options.merged(asked).seed, n)
        return await gathered(
            self.generate(prompt, system=system, options=options, schema=schema)
            for options in one_each
        )

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
        request = self.request(Message("user", before), options=options, **overrides)
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
            messages = to_messages(without_ends(prompt), system=system)
            for message in messages:
                check_size("prompt", message.text)
            return await self._count_messages(messages)
        if not isinstance(prompt, str) or system is not None:
            problem = "without a template, give one string and no system prompt"
            raise InvalidOptionError("template", problem)
        check_size("prompt", prompt)
        return await (self._count_raw(prompt) if raw else self._count_text(prompt))

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
        embeddings = await self._budgeted.read(
            text_bound(given), partial(self._embed, given), lambda each: each.usage
        )
        return embeddings.normalized() if normalize else embeddings

    @abstractmethod
    async def _embed(self, texts: list[str]) -> Embeddings:
        """One vector for each text, as the model gives it."""

    async def rerank(self, query: str, documents: Sequence[str]) -> tuple[float, ...]:
        """How well each document answers ``query``; higher is better.

        The scores are the model's own: compare them among the documents of one call. Raises
        ``UnsupportedError`` where the model is no reranker, and ``InvalidOptionError`` as ``embed``
        does.
        """
        asked, texts = text_of("query", query), texts_of("documents", documents)
        for text in (asked, *texts):
            check_size("documents", text)
        scores, _ = await self._budgeted.read(
            rerank_bound(asked, texts), partial(self._rerank, asked, texts), lambda each: each[1]
        )
        return scores

    async def _rerank(self, query: str, documents: list[str]) -> tuple[tuple[float, ...], Usage]:
        """The scores, and what they took."""
        raise UnsupportedError(
            self.name,
            "it is not a reranker; load a GGUF of one, such as bge-reranker-v2-m3, or compare "
            "the vectors of model.embed",
        )

    @abstractmethod
    async def aclose(self) -> None:
        """Give everything back: memory, processes, connections. Closing twice is harmless."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"
