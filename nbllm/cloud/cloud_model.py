"""``CloudModel``: a model of a vendor, or on a server that speaks a vendor's protocol."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncGenerator, Awaitable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import TypeVar

from nbllm.cloud.adapter import Adapter, HttpRequest
from nbllm.cloud.addresses import (
    base_url_of,
    list_all,
    located,
    needs_description,
    seller_of,
    served_model,
)
from nbllm.cloud.key_sources import KeySource, key_source
from nbllm.cloud.prices import PriceTable, load_prices
from nbllm.cloud.secrets import hide_in_logs, scrub_error
from nbllm.cloud.transport.connections import ClientPool, client_maker, route_to
from nbllm.cloud.transport.http_transport import Transport
from nbllm.cloud.transport.responses import LIST_LIMIT, AnswerStream, vectors_limit
from nbllm.cloud.transport.timing import Deadlines, Stopwatch
from nbllm.cloud.vendors import adapter_for, batches_for
from nbllm.cloud.vendors.embeddings import embed_all
from nbllm.cloud.vendors.request_errors import LearntRefusals
from nbllm.cloud.vendors.request_parts import check_not_local
from nbllm.cloud.vendors.token_counts import answer_limit, count_prompt, estimate_text_tokens
from nbllm.core.budgets.bounds import image_bound, json_bytes
from nbllm.core.errors import (
    ApiError,
    AuthenticationError,
    ModelClosedError,
    ModelError,
    ProtocolError,
)
from nbllm.core.layers.retry import Attempts, Retry, RetryPolicy
from nbllm.core.model_interface import ModelInterface
from nbllm.core.openers import LoadControl
from nbllm.core.runs import VendorBatches
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
from nbllm.core.vendors import VENDORS

__all__ = ["CloudModel", "open_model", "price_of", "unchecked_model"]

_DESCRIBING = Deadlines(connect=2.0, first_token=5.0)
"""A server that does not say quickly what it serves is asked for an answer without it."""
_T = TypeVar("_T")


def open_model(info: ModelInfo, control: LoadControl) -> CloudModel:
    """A model behind HTTP, which is asked for its list of models, so that "ready" is true.

    Raises ``AuthenticationError`` where a key is needed and there is none or it is refused,
    ``ConfigError`` for a table of prices that cannot be read, ``InvalidOptionError`` for an entry
    that cannot work. Where nobody answers, ``unready`` of the model says so.
    """
    model = unchecked_model(located(info))
    if not control.cancelled.is_set():
        with ThreadPoolExecutor(1) as thread:  # whoever opens it may have a loop that runs
            thread.submit(asyncio.run, model.check()).result()
    return model


def unchecked_model(info: ModelInfo) -> CloudModel:
    """The model of an entry with its address; nobody is asked. Raises as ``open_model`` does."""
    adapter = adapter_for(info)
    usual = adapter.default_key_env if info.model_type in VENDORS else None
    key = key_source(info, usual, base_url_of(info, adapter.default_base_url))
    return CloudModel(info, adapter, key=key, prices=load_prices())


def price_of(info: ModelInfo) -> tuple[float, float] | None:
    """US dollars for a million tokens read and written, by the table; None where it has none."""
    seller = seller_of(info, adapter_for(info).default_base_url)
    price = load_prices().find(seller, info.model or info.name)
    return None if price is None else (price.input, price.output)


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
        self._route = route_to(info.name, base_url)
        self._host = self._route.url.raw_host.decode("ascii")
        self._pool = ClientPool(client_maker(self._route))
        self._transport = Transport(adapter, self._route, self._pool, key)
        self._described = not needs_description(info)
        self.add_layers(Retry(self._policy), LearntRefusals())
        self._stop_hiding = weakref.finalize(self, hide_in_logs(key.in_use))

    @property
    def usable(self) -> bool:
        """Whether it was not closed."""
        return not self._pool.closed

    @property
    def device(self) -> str:
        """The host that answers."""
        return self._host or super().device

    async def check(self) -> None:
        """Send one small request, and note in ``unready`` why the model cannot answer now.

        Raises ``AuthenticationError`` where its key is refused. Whoever answers anything else is
        there: not every server has a list of models, and not every key may read it.
        """
        try:
            await (self._listed_once() if self._described else self.describe())
        except AuthenticationError:
            await self.aclose()
            raise
        except ApiError as error:
            is_reached = error.status is not None or isinstance(error, ProtocolError)
            self.unready = None if is_reached else str(error)
        except ModelError:  # an answer, though not the one that was wanted
            self.unready = None

    async def _listed_once(self) -> None:
        request = self._adapter.list_request(self.info, None)
        await self._shown(self._transport.fetch(self.info, request, _DESCRIBING))

    async def describe(self) -> ModelInfo:
        """The model with what its server tells of it: its id there and its context length.

        Raises what the server's failure means, ``NotFoundError`` where it serves another model.
        """
        self.info = served_model(self.info, await self.offered())
        self._described = True
        return self.info

    async def offered(self) -> list[ModelInfo]:
        """What the server lists, asked once and for seconds at most."""
        fetch = partial(self._transport.fetch, self.info, deadlines=_DESCRIBING)
        return await self._shown(list_all(self._adapter, self.info, fetch, _DESCRIBING.first_token))

    async def list_models(self) -> list[ModelInfo]:
        """The models that the vendor or server offers now."""
        seconds = Deadlines.of(self.info.options).first_token
        return await self._shown(list_all(self._adapter, self.info, self._fetch, seconds))

    # ------------------------------------------------------------ answers

    async def _events(self, request: GenerationRequest) -> AsyncGenerator[Event, None]:
        """The events of one answer. Closing the generator closes the connection at once."""
        check_not_local(self.info, request.options)
        watch, failure = Stopwatch(), None
        try:
            stream, events = await self._begin(request)
            async with stream:
                while events:
                    watch.tick()
                    for event in events:
                        yield event
                    events = await stream.next_events()
                result = self._completed(stream.finish(), watch)
        except ModelError as error:
            failure = self._fit_to_show(error)
        if failure is not None:
            raise failure
        self.unready = None
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
            read_whole=partial(adapter.parse_answer, info, request),
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

    def vendor_batches(self) -> VendorBatches:
        """The batch API of its vendor."""
        from nbllm.cloud.cloud_batches import CloudBatches, Connection  # no answer waits for it

        protocol = batches_for(self.info)
        if protocol is None:
            return super().vendor_batches()
        connection = Connection(
            self._fetch, self._lines, self._shown, self._fit_to_show, self._priced
        )
        return CloudBatches(self.info, self._adapter, protocol, connection)

    # ------------------------------------------------------------ counting and embedding

    async def _count_messages(self, messages: tuple[Message, ...]) -> TokenCount:
        request = GenerationRequest(messages, self.info.options, model=self.info)
        counting = count_prompt(self._adapter, self.info, request, self._fetch)
        return await self._shown(counting)

    async def _count_text(self, text: str) -> TokenCount:
        """An estimate: vendors count whole requests only."""
        return TokenCount(estimate_text_tokens(text), exact=False)

    async def _embed(self, texts: list[str]) -> Embeddings:
        """Large batches are split and put together again in order."""
        return await self._shown(self._embedded(texts))

    async def _embedded(self, texts: list[str]) -> Embeddings:
        fetch = partial(self._fetch, limit=vectors_limit(len(texts)))
        embeddings = await embed_all(self._adapter, self.info, texts, fetch)
        return replace(embeddings, usage=self._priced(embeddings.usage))

    # ------------------------------------------------------------ budgets

    async def usage_bound(self, request: GenerationRequest) -> Usage:
        """By what would be sent: every byte of it may be a token, and it says the limit."""
        try:
            body = self._adapter.generation_request(self.info, request, stream=True).body or {}
        except ModelError as error:
            failure = self._fit_to_show(error)
        else:
            prompt = json_bytes(body) + image_bound(request.messages)
            return Usage(prompt_tokens=max(0, prompt), completion_tokens=answer_limit(body))
        raise failure

    async def counted_prompt(self, request: GenerationRequest) -> int | None:
        """As the vendor counts it, and a little more: some call their counts estimates."""
        counting = count_prompt(self._adapter, self.info, request, self._fetch)
        try:
            count = await self._shown(counting)
        except ModelError:
            return None
        return count + count // 50 + 16 if count.exact else None

    def highest_cost(self, usage: Usage) -> float | None:
        """By the table of prices; no prompt's token counts as cached, and any as written there."""
        plain = replace(usage, cached_tokens=0, cache_write_tokens=0, cost_usd=None)
        costs = [self._priced(plain).cost_usd]
        if self.info.model_type == "anthropic":  # the one that asks more for it
            written = usage.prompt_tokens or 0
            costs.append(self._priced(replace(plain, cache_write_tokens=written)).cost_usd)
        return max((cost for cost in costs if cost is not None), default=None)

    # ------------------------------------------------------------ the rest

    async def aclose(self) -> None:
        """Close all connections, those of other event loops too, and forget the key."""
        await self._pool.aclose()
        self._stop_hiding()

    async def _fetch(
        self, request: HttpRequest, limit: int = LIST_LIMIT, *, again: bool = True
    ) -> bytes:
        """The body of the answer; ``again`` asks for it as long as that makes sense."""
        deadlines = Deadlines.of(self.info.options)
        attempts = Attempts(self._policy, self.info.options.max_retry_seconds if again else 0)
        while True:
            try:
                return await self._transport.fetch(self.info, request, deadlines, limit=limit)
            except ModelError as error:
                failure = self._fit_to_show(error)
            delay = attempts.delay_after(failure)
            if delay is None:
                raise failure
            await asyncio.sleep(delay)

    async def _lines(self, request: HttpRequest) -> AsyncGenerator[bytes, None]:
        """The lines of an answer; asked for once."""
        lines = self._transport.lines(self.info, request, Deadlines.of(self.info.options))
        try:
            with self.uses:
                async with aclosing(lines):
                    async for line in lines:
                        yield line
            return
        except ModelError as error:
            failure = self._fit_to_show(error)
        raise failure

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
                "it was unloaded during the request; load it again to use it",
                partial_text=error.partial_text,
            )
        self._route.explain(error)
        self._key.explain(error)
        return scrub_error(error, self._key.in_use())
