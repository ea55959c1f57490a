"""Whether a budget holds when many ask at once, and what keeping it takes.

    python tests/benchmarks/bench_budget.py [REQUESTS]

A server on the loopback bills what it writes, heard or not, refuses some requests and breaks some
answers off. The budgets are for tokens, of a kernel and of a day that three kernels share; what
was billed must not exceed them by one. What a budget adds to a request is measured on a model that
answers at once.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import tempfile
import time
from pathlib import Path

from nbllm import Budget, ModelInfo
from nbllm.cloud.cloud_model import CloudModel, unchecked_model
from nbllm.core.budgets.budgets import Budgets
from nbllm.testing import FakeModel

PROMPT_TOKENS, LIMIT = 7, 40


class Server:
    """Speaks Chat Completions; ``billed`` counts the tokens."""

    def __init__(self) -> None:
        self.billed = self.requests = 0
        self._chance = random.Random(1)

    async def __aenter__(self) -> Server:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=1024)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        size = int(head.partition("content-length:")[2].split("\r\n")[0] or 0)
        body = json.loads(await reader.readexactly(size) or b"{}")
        writer.write(await self._answer(body, head.startswith("post")))
        await writer.drain()
        writer.close()

    async def _answer(self, body: dict[str, int], is_question: bool) -> bytes:
        self.requests += is_question
        chance = self._chance.random()
        if not is_question or chance < 0.1:
            return b"HTTP/1.1 503 X\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}"
        words = self._chance.randrange(1, body["max_tokens"] + 1)
        self.billed += PROMPT_TOKENS + words
        await asyncio.sleep(0.05 * self._chance.random())
        events = [{"choices": [{"delta": {"content": " w"}}]} for _ in range(words)]
        usage = {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": words}
        whole = [*events, {"choices": [{"delta": {}, "finish_reason": "stop"}]}, {"usage": usage}]
        sent = events[: words // 2] if chance < 0.2 else whole
        lines = [f"data: {json.dumps(each)}\n\n" for each in sent]
        end = "" if chance < 0.2 else "data: [DONE]\n\n"
        head = "HTTP/1.1 200 X\r\nconnection: close\r\ncontent-type: text/event-stream\r\n\r\n"
        return f"{head}{''.join(lines)}{end}".encode()


async def asked(model: CloudModel, count: int) -> int:
    """How many of so many requests at once were answered."""
    requests = (model.generate("Hi", max_tokens=LIMIT) for _ in range(count))
    outcomes = await asyncio.gather(*requests, return_exceptions=True)
    return sum(not isinstance(each, BaseException) for each in outcomes)


async def held(count: int, kernels: int, budget: Budget, folder: Path) -> None:
    """Ask from as many managers' budgets as there are kernels; tell what was billed."""
    async with Server() as server:
        info = ModelInfo(name="m", model_type="vllm", local=False, base_url=server.url)
        models = [unchecked_model(info) for _ in range(kernels)]
        budgets = [Budgets(budget, file=folder / "spent.json") for _ in models]
        for model, each in zip(models, budgets, strict=True):
            model.spend_from(each)
        began = time.monotonic()
        answered = sum(await asyncio.gather(*(asked(m, count // kernels) for m in models)))
        seconds = time.monotonic() - began
        for model in models:
            await model.aclose()
    (status,) = budgets[0].statuses()
    print(
        f"{count} at once, {kernels} x {budget.name}, {budget.tokens:,} tokens: {answered} "
        f"answered, {server.requests} sent, {server.billed:,} tokens billed, "
        f"{status.spent.tokens:,} counted, {status.reserved.tokens} left reserved, {seconds:.1f} s"
    )
    assert budget.tokens is not None
    assert server.billed <= status.spent.tokens <= budget.tokens


async def added(budget: Budget | None, folder: Path, rounds: int) -> float:
    """Microseconds that a request takes of a model that answers at once."""
    model = FakeModel(text="Yes.")
    model.spend_from(Budgets(budget or (), file=folder / "added.json"))
    began = time.perf_counter()
    for _ in range(rounds):
        await model.generate("Hi", max_tokens=LIMIT)
    return (time.perf_counter() - began) / rounds * 1e6


async def main(requests: int) -> None:
    """All of it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for count in (16, requests):
            await held(count, 1, Budget(tokens=3_000), folder)
        await held(requests, 3, Budget(tokens=6_000, per="day"), folder)
        without = await added(None, folder, 2_000)
        for budget, rounds in ((Budget(tokens=10**9), 2_000), (Budget(usd=9, per="day"), 200)):
            extra = await added(budget, folder, rounds) - without
            print(f"{budget.name} adds {extra:,.0f} µs to a request ({without:,.0f} µs without)")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 200))
