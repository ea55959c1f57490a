"""``Budgeted``: the layer that reserves what a request may take, and settles what it took."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import aclosing, contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from nbllm.core.budgets.books import Hold, Shortage
from nbllm.core.budgets.bounds import Meter, charge
from nbllm.core.budgets.budget import NOTHING, Amount, Budget
from nbllm.core.budgets.budgets import Budgets
from nbllm.core.budgets.worst import Worst, WorstBatch, exceeded, unreadable
from nbllm.core.errors import BudgetError
from nbllm.core.layers.layer import Events, Next, Place
from nbllm.core.option_names import option_name
from nbllm.core.paths import reason
from nbllm.core.types import (
    BudgetWait,
    Completed,
    Event,
    FinishReason,
    GenerationRequest,
    Usage,
)

if TYPE_CHECKING:
    from nbllm.core.managed_model import ManagedModel

__all__ = ["Budgeted"]

MOST_ANSWER_TOKENS = 8_192
"""The limit of an answer whose request states none, and whose model has none that is known."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.005, 0.25
T = TypeVar("T")
_Holds: TypeAlias = tuple[tuple[Budget, Hold], ...]
_Reserved: TypeAlias = tuple[_Holds, int]


class Budgeted:
    """The layer of one model: reserves before each attempt, and settles after it."""

    place = Place.BUDGET

    def __init__(self, budgets: Budgets, model: ManagedModel) -> None:
        self._budgets, self._model = budgets, model
        self._batches: dict[str, _Holds] = {}

    def __call__(self, request: GenerationRequest, following: Next) -> Events:
        """Requests that no budget covers pass through at no cost."""
        covering = self._budgets.covering(request.model)
        return self._guarded(request, following, covering) if covering else following(request)

    async def _guarded(
        self, request: GenerationRequest, following: Next, covering: tuple[Budget, ...]
    ) -> Events:
        worst = await _worst(self._model, request, covering)
        holds: _Holds = ()
        waited_for, answer = "", 0
        async with aclosing(self._outcomes(worst, request)) as outcomes:
            async for outcome in outcomes:
                if not isinstance(outcome, Shortage):
                    holds, answer = outcome
                elif outcome.budget.name != waited_for:
                    waited_for = outcome.budget.name
                    yield BudgetWait(waited_for)
        request, note = _limited(request, worst, answer)
        meter, usage = Meter(worst.usage(answer)), None
        try:
            if waited_for:
                yield BudgetWait("")
            async with aclosing(following(request)) as events:
                async for event in events:
                    meter.take(event)
                    if isinstance(event, Completed):
                        usage, done = meter.told(event.result.usage), holds
                        holds = ()  # the reader may never come back for more
                        await self._settled(done, usage)
                        event = _with_note(event, note)
                    yield event
        except BaseException as error:
            usage = meter.ended(error)
            raise
        finally:
            await self._settled(holds, usage)

    async def room(self, request: GenerationRequest) -> int | None:
        """The tokens that budgets leave for an answer; None: no budget bounds it, or none can tell.

        What requests under way have reserved does not count: this request can wait for them.
        """
        covering = self._budgets.covering(request.model)
        if not covering:
            return None
        with suppress(BudgetError):  # which the request itself will meet
            worst = await _worst(self._model, request, covering)
            if not worst.is_stated:
                return await asyncio.to_thread(self._most_affordable, worst)
        return None

    async def read(
        self, tokens: int, work: Callable[[], Awaitable[T]], usage_of: Callable[[T], Usage]
    ) -> T:
        """What ``work`` gives that reads so many tokens at most and writes none, such as vectors.

        It counts as a request. Raises ``BudgetError``.
        """
        budgets = self._budgets.covering(self._model.info)
        if not budgets or not tokens:
            return await work()
        worst = Worst(self._model, budgets, tokens)
        holds, _ = await self._reserve(worst)
        meter, usage = Meter(worst.usage(0)), None
        try:
            given = await work()
            usage = meter.told(usage_of(given))
        except BaseException as error:
            usage = meter.ended(error)
            raise
        finally:
            await self._settled(holds, usage)
        return given

    async def reserve_batch(self, tag: str, requests: Sequence[GenerationRequest]) -> None:
        """Reserve what a batch may take that is to be sent to the vendor; it keeps that until
        ``settle_batch``, as the vendor works on it whether or not this process waits.

        Raises ``BudgetError``, also where nothing limits an answer.
        """
        budgets = self._budgets.covering(self._model.info)
        if not budgets:
            return
        usages = []
        for request in requests:
            usages.append(await self._model.usage_bound(request))
            await asyncio.sleep(0)  # which lets others run: there may be very many
        if any(usage.completion_tokens is None for usage in usages):
            problem = (
                "nothing limits the answers, so that a budget cannot hold; set "
                f"{option_name('max_tokens')}"
            )
            raise BudgetError(self._model.name, problem, budget=budgets[0].name)
        prompt = sum(usage.prompt_tokens or 0 for usage in usages)
        answer = sum(usage.completion_tokens or 0 for usage in usages)
        worst = WorstBatch(self._model, budgets, prompt, answer, requests=tuple(usages))
        self._batches[tag], _ = await self._reserve(worst)

    async def settle_batch(self, tag: str, usages: Sequence[Usage]) -> None:
        """Put what a batch took in the place of what it reserved, if that was in this process."""
        holds = self._batches.pop(tag, ())
        await asyncio.to_thread(self._settle_batch, holds, usages)

    def _settle_batch(self, holds: _Holds, usages: Sequence[Usage]) -> None:
        for budget, hold in holds:
            spent = NOTHING
            for usage in usages:
                spent += _spent(self._model, budget, hold, usage)
            self._note_failure(hold, spent)

    # ------------------------------------------------------------ reserving and settling

    async def _reserve(self, worst: Worst, request: GenerationRequest | None = None) -> _Reserved:
        """The reservations of a request, and the limit of its answer. Raises ``BudgetError``."""
        async for outcome in self._outcomes(worst, request):
            if not isinstance(outcome, Shortage):
                return outcome
        raise AssertionError("the last outcome is a reservation")

    async def _outcomes(
        self, worst: Worst, request: GenerationRequest | None
    ) -> AsyncGenerator[_Reserved | Shortage, None]:
        """What is short each time that it has to wait, and in the end what is reserved.

        Where its bytes are too many, its tokens are counted, if anybody counts them.
        Raises ``BudgetError``.
        """
        until, pause = time.monotonic() + self._budgets.wait_seconds, _FIRST_PAUSE
        while isinstance(outcome := await self._attempt(worst), Shortage):
            if outcome.is_final and request is not None and outcome.unit != "requests":
                counted, request = await self._model.counted_prompt(request), None
                if counted is not None and counted < worst.prompt:
                    worst = replace(worst, prompt=counted)
                    continue
            if outcome.is_final or time.monotonic() > until:
                raise exceeded(worst, outcome)
            yield outcome
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
        yield outcome

    async def _attempt(self, worst: Worst) -> tuple[_Holds, int] | Shortage:
        if not worst.is_kept_in_file:
            return self._try(worst)
        work = asyncio.get_running_loop().run_in_executor(None, self._try, worst)
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            work.add_done_callback(self._give_back)  # for the thread goes on and may reserve
            raise

    def _try(self, worst: Worst) -> tuple[_Holds, int] | Shortage:
        """Reserve in all budgets, or in none."""
        holds: list[tuple[Budget, Hold]] = []
        try:
            answer = worst.answer if worst.is_stated else self._most_affordable(worst)
            for budget in worst.budgets:
                amount = worst.charge(budget, answer)
                with self._told(budget):
                    outcome = self._budgets.books[budget.per].reserve(budget, amount)
                if isinstance(outcome, Shortage):
                    return outcome
                holds.append((budget, outcome))
        finally:
            if len(holds) < len(worst.budgets):
                self._release(holds)
        return tuple(holds), answer

    def _most_affordable(self, worst: Worst) -> int:
        return min(self._affordable(worst, budget) for budget in worst.budgets)

    def _affordable(self, worst: Worst, budget: Budget) -> int:
        with self._told(budget):
            spent = self._budgets.books[budget.per].standing(budget.scope).spent
        return worst.affordable(budget, spent)

    @contextmanager
    def _told(self, budget: Budget) -> Iterator[None]:
        """What a file does not give becomes a ``BudgetError``: it is never taken for nothing."""
        try:
            yield
        except (OSError, ValueError) as error:
            raise unreadable(self._model.name, budget, self._budgets.day_book.file, error) from None

    def _give_back(self, work: asyncio.Future[tuple[_Holds, int] | Shortage]) -> None:
        if work.cancelled() or work.exception() is not None:
            return
        outcome = work.result()
        if not isinstance(outcome, Shortage):
            self._release(outcome[0])

    def _release(self, holds: Iterable[tuple[Budget, Hold]]) -> None:
        for _, hold in holds:
            self._note_failure(hold, NOTHING)

    async def _settled(self, holds: _Holds, usage: Usage | None) -> None:
        """Put what a request took in the place of what it reserved; None: it never went out."""
        if not any(budget.per == "day" for budget, _ in holds):
            self._settle(holds, usage)
            return
        loop = asyncio.get_running_loop()
        await asyncio.shield(loop.run_in_executor(None, self._settle, holds, usage))

    def _settle(self, holds: _Holds, usage: Usage | None) -> None:
        for budget, hold in holds:
            self._note_failure(hold, _spent(self._model, budget, hold, usage))

    def _note_failure(self, hold: Hold, spent: Amount) -> None:
        """What cannot be written stays reserved, which counts as spent."""
        try:
            hold.settle(spent)
        except (OSError, ValueError) as error:
            note = f"{self._budgets.day_book.file} could not be updated: {reason(error)}"
            if note not in self._budgets.notes:
                self._budgets.notes.append(note)


async def _worst(
    model: ManagedModel, request: GenerationRequest, covering: tuple[Budget, ...]
) -> Worst:
    bound = await model.usage_bound(request)
    prompt, answer = bound.prompt_tokens or 0, bound.completion_tokens
    if request.options.max_tokens is not None and answer is not None:
        return Worst(model, covering, prompt, answer)
    options = request.options.replaced(max_tokens=1)
    least = (await model.usage_bound(replace(request, options=options))).completion_tokens
    if least is None:
        problem = (
            "extra takes the limit from its answer, so that a budget cannot hold; set "
            f"{option_name('max_tokens')}"
        )
        raise BudgetError(model.name, problem, budget=covering[0].name)
    if answer is not None and least == answer:
        return Worst(model, covering, prompt, answer)
    is_bounded, wanted = answer is not None, MOST_ANSWER_TOKENS
    if answer is not None:
        wanted = answer // max(1, least)
    return Worst(model, covering, prompt, wanted, least, is_stated=False, is_bounded=is_bounded)


def _limited(
    request: GenerationRequest, worst: Worst, answer: int
) -> tuple[GenerationRequest, str]:
    """The request with the limit that the budget gave it, and what to say where that cut it."""
    if worst.is_stated or (worst.is_bounded and answer == worst.answer):
        return request, ""
    note = (
        f"{worst.budgets[0].name} limited the answer to {answer:,} tokens; "
        f"{option_name('max_tokens')} sets another limit"
    )
    return replace(request, options=request.options.replaced(max_tokens=max(1, answer))), note


def _with_note(event: Completed, note: str) -> Event:
    result = event.result
    if not note or result.finish_reason is not FinishReason.LENGTH:
        return event
    return Completed(replace(result, notes=(*result.notes, note)))


def _spent(model: ManagedModel, budget: Budget, hold: Hold, usage: Usage | None) -> Amount:
    if usage is None:
        return NOTHING
    cost = model.highest_cost(usage) if usage.cost_usd is None else max(0.0, usage.cost_usd)
    return charge(budget, usage, cost) or hold.amount
