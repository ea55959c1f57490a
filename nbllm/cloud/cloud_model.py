"""``CloudModel``: a model of a vendor, or on a server that speaks a vendor's protocol."""

from __future__ import annotations

import asyncio
import random
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TypeVar
from urllib.parse import urlsplit

import httpx

from nbllm import __version__
from nbllm.cloud.adapter import Adapter, HttpRequest
from nbllm.cloud.answer_stream import AnswerStream
from nbllm.cloud.clients import ClientPool
from nbllm.cloud.deadlines import Deadlines
from nbllm.cloud.keys import KeySource, key_source
from nbllm.cloud.prices import PriceTable, load_prices
from nbllm.cloud.retries import RetryPolicy
from nbllm.cloud.secrets import hide_in_logs, scrub_error
from nbllm.cloud.served import base_url_of, needs_description, seller_of, served_model
from nbllm.cloud.tasks import Stopwatch, run_together
from nbllm.cloud.token_estimate import estimate_tokens
from nbllm.cloud.transport import Transport
from nbllm.cloud.vendors import adapter_for
from nbllm.core.errors import (
    ApiError,
    InvalidOptionError,
    ModelClosedError,
    ModelError,
    NotFoundError,
    ProtocolError,
    UnsupportedError,
)
from nbllm.core.model_interface import ModelInterface, to_messages
from nbllm.core.openers import LoadControl
from nbllm.core.types import (
    Completed,
    Embeddings,
    Event,
    GenerationOptions,
    GenerationRequest,
    GenerationResult,
    ModelInfo,
    PromptLike,
    RetryScheduled,
    TokenCount,
    Usage,
)
from nbllm.core.vendors import SERVER_TYPES, VENDORS, protocol_of

__all__ = ["CloudModel", "open_model"]

_MOST_PAGES = 100
_DESCRIBING = Deadlines(connect=2.0, first_token=5.0)
"""A server that does not say quickly what it serves is asked for an answer without it."""
_T = TypeVar("_T")


def open_model(info: ModelInfo, control: LoadControl) -> CloudModel:
    """A model behind HTTP. Vendors are not asked; a server of one's own is, for what it serves.

    Raises ``AuthenticationError`` where a key is needed and there is none, ``ConfigError`` for a
    table of prices that cannot be read, ``InvalidOptionError`` for an entry that cannot work.
    """
    protocol = protocol_of(info.model_type)
    if protocol not in VENDORS:
        raise InvalidOptionError(
            "model_type",
            f"{info.model_type!r} is no vendor ({', '.join(VENDORS)}) and no kind of server "
            f"({', '.join(SERVER_TYPES)})",
        )
    adapter = adapter_for(replace(info, model_type=protocol))
    base_url_of(info, adapter.default_base_url)  # an address that is none is told before a key
    key = key_source(info, adapter.default_key_env if protocol == info.model_type else None)
    model = CloudModel(info, adapter, key=key, prices=load_prices())
    if needs_description(info) and not control.cancelled.is_set():
        with suppress(ModelError):  # asked again by the first request, which says what is wrong
            asyncio.run(model.describe())
    return model


class CloudModel(ModelInterface):
    """A model behind HTTP; usable from several event loops at once.

    ``policy`` says when a failed request is sent again, ``prices`` what an answer costs.
    """

    def __init__(
        self,
        info: ModelInfo,
        adapter: Adapter,
        *,
        key: KeySource,
        prices: PriceTable,
        policy: RetryPolicy | None = None,
    ) -> None:
        super().__init__(info)
        self._adapter, self._key, self._prices = adapter, key, prices
        self._policy = policy or RetryPolicy()
        base_url = base_url_of(info, adapter.default_base_url)
        self._host = urlsplit(base_url).hostname
        self._pool = ClientPool(_client_maker(base_url))
        self._transport = Transport(adapter, base_url, self._pool, key)
        self._described = not needs_description(info)
        self._stop_hiding = weakref.finalize(self, hide_in_logs(key.in_use))

    @property
    def usable(self) -> bool:
        """Whether it was not closed."""
        return not self._pool.closed

    @property
    def device(self) -> str:
        """The host that answers."""
        return self._host or super().device

    async def describe(self) -> ModelInfo:
        """The model with what its server tells of it: its id there and its context length.

        Raises what the server's failure means, ``NotFoundError`` where it serves another model.
        """
        fetch = partial(self._transport.fetch, self.info, deadlines=_DESCRIBING)
        listed = await self._shown(self._list(fetch))
        self.info = served_model(self.info, listed)
        self._described = True
        return self.info

    async def list_models(self) -> list[ModelInfo]:
        """The models that the vendor or server offers now."""
        return await self._shown(self._list(self._fetch))

    # ------------------------------------------------------------ answers

    async def _events(self, request: GenerationRequest) -> AsyncGenerator[Event, None]:
        """The events of one answer. Closing the generator closes the connection at once."""
        if request.options.adapters is not None:
            raise UnsupportedError(self.name, "adapters are of local models; leave them unset")
        if request.options.raw:
            problem = "it answers conversations and cannot continue a raw text; leave out raw"
            raise UnsupportedError(self.name, problem)
        watch, attempt = Stopwatch(), 1
        while True:
            failure, delivered = None, False
            try:
                stream, events = await self._begin(request)
                async with stream:
                    while events:
                        delivered = True
                        watch.tick()
                        for event in events:
                            yield event
                        events = await stream.next_events()
                    result = self._completed(stream.finish(), watch)
            except ModelError as error:
                failure = self._fit_to_show(error)
            if failure is None:
                break
            delay = None if delivered else self._delay(failure, attempt, watch, request.options)
            if delay is None:
                raise failure
            yield RetryScheduled(attempt, delay, str(failure))
            await asyncio.sleep(delay)
            attempt += 1
        yield Completed(result)

    async def _begin(self, request: GenerationRequest) -> tuple[AnswerStream, list[Event]]:
        if not self._described:
            await self._describe_if_possible()
        info, adapter = self.info, self._adapter
        return await self._transport.begin(
            info,
            adapter.generation_request(info, request, stream=True),
            Deadlines.of(request.options),
            adapter.stream_parser(info, request),
            whole=partial(adapter.parse_answer, info, request),
        )

    async def _describe_if_possible(self) -> None:
        """Ask the server what it serves; one that has no list is asked for what the config says."""
        try:
            await self.describe()
        except ApiError as error:
            if error.status is None and not isinstance(error, ProtocolError):
                raise
            self._described = True

    def _completed(self, result: GenerationResult, watch: Stopwatch) -> GenerationResult:
        return replace(
            result,
            usage=self._priced(result.usage),
            timings=watch.timings(),
            device=result.device or self._host,
        )

    # ------------------------------------------------------------ counting and embedding

    async def count_tokens(self, prompt: PromptLike, *, system: str | None = None) -> TokenCount:
        """The tokens of ``prompt``: exact where the vendor counts them, else an estimate."""
        request = GenerationRequest(to_messages(prompt, system=system), self.info.options)
        return await self._shown(self._count(request))

    async def _count(self, request: GenerationRequest) -> TokenCount:
        counting = self._adapter.count_request(self.info, request)
        try:
            if counting is not None:
                body = await self._fetch(counting)
                return TokenCount(self._adapter.parse_count(self.info, body))
        except NotFoundError:
            if self.info.base_url is None:
                raise
            # A server that speaks a vendor's protocol need not have all of it.
        return TokenCount(estimate_tokens(request), exact=False)

    async def _embed(self, texts: list[str]) -> Embeddings:
        """Large batches are split and put together again in order."""
        return await self._shown(self._embedded(texts))

    async def _embedded(self, texts: list[str]) -> Embeddings:
        requests = self._adapter.embedding_requests(self.info, texts)
        bodies = await run_together([partial(self._fetch, request) for request in requests])
        embeddings = self._adapter.parse_embeddings(self.info, bodies)
        return replace(embeddings, usage=self._priced(embeddings.usage))

    # ------------------------------------------------------------ the rest

    async def aclose(self) -> None:
        """Close all connections, those of other event loops too, and forget the key."""
        await self._pool.aclose()
        self._stop_hiding()

    async def _list(self, fetch: Callable[[HttpRequest], Awaitable[bytes]]) -> list[ModelInfo]:
        models: list[ModelInfo] = []
        page: str | None = None
        for _ in range(_MOST_PAGES):
            body = await fetch(self._adapter.list_request(self.info, page))
            more, page = self._adapter.parse_list(self.info, body)
            models += more
            if page is None:
                break
        return models

    async def _fetch(self, request: HttpRequest) -> bytes:
        """The body of the answer, asked for again as long as that makes sense."""
        deadlines = Deadlines.of(self.info.options)
        watch, attempt = Stopwatch(), 1
        while True:
            try:
                return await self._transport.fetch(self.info, request, deadlines)
            except ModelError as error:
                failure = self._fit_to_show(error)
            delay = self._delay(failure, attempt, watch, self.info.options)
            if delay is None:
                raise failure
            await asyncio.sleep(delay)
            attempt += 1

    def _delay(
        self, failure: ModelError, attempt: int, watch: Stopwatch, options: GenerationOptions
    ) -> float | None:
        limit = options.max_retry_seconds
        policy = self._policy if limit is None else replace(self._policy, max_seconds=limit)
        chance = random.random()  # noqa: S311 - jitter is no secret
        return policy.delay(failure, attempt=attempt, elapsed=watch.seconds, chance=chance)

    def _priced(self, usage: Usage) -> Usage:
        if usage.cost_usd is not None:
            return usage
        seller = seller_of(self.info, self._adapter.default_base_url)
        model = self.info.model or self.info.name
        return replace(usage, cost_usd=self._prices.cost(seller, model, usage))

    async def _shown(self, work: Awaitable[_T]) -> _T:
        """What ``work`` gives; its error is made fit to be shown."""
        try:
            with self.uses:
                return await work
        except ModelError as error:
            failure = self._fit_to_show(error)
        raise failure

    def _fit_to_show(self, error: ModelError) -> ModelError:
        if self._pool.closed and not isinstance(error, ModelClosedError):
            error = ModelClosedError(
                self.name,
                "it was unloaded while it worked; load it again to use it",
                partial_text=error.partial_text,
            )
        return scrub_error(error, self._key.in_use())


def _client_maker(base_url: str) -> Callable[[], httpx.AsyncClient]:
    """Makes clients for one address. The CA bundle is read here, once, and not for plain http."""
    trust = httpx.create_ssl_context() if base_url.startswith("https:") else False
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=10, keepalive_expiry=30)
    agent = {"user-agent": f"nbllm/{__version__}"}
    return lambda: httpx.AsyncClient(verify=trust, limits=limits, headers=agent)
