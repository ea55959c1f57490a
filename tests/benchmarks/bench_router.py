"""What a router costs, how it finds failing and slow members, and what it keeps of prefix caches.

Run it with ``python tests/benchmarks/bench_router.py [REQUESTS]`` on a machine that does nothing
else. A process of its own serves three members on the loopback, which fail, wait and keep prefixes
as they are told. Where LiteLLM is installed, its router does the same in the same run.

- overhead: what a router adds to an answer of one word, without HTTP (limit: 200 µs)
- failing: one of three fails half its requests (at least 99.9 % answered, at most 5 % to that one
  after its first failure)
- latency: one becomes five times slower (found within 20 requests), and well again (comes back)
- sticky: the share of cached tokens, against that of one member alone (at least 0.95 of it)
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import statistics
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib.util import find_spec
from typing import Any

from nbllm import Message, ModelInfo, ModelManager
from nbllm.core.model_interface import ModelInterface
from nbllm.core.routing.router_settings import RouterMember, RouterSettings, Strategy
from nbllm.core.types import GenerationResult
from nbllm.testing import FakeOpener, fake_info

SERVER = """
import asyncio, json, random

STATE = {name: {"fail": 0.0, "seconds": 0.0, "asked": 0, "texts": []} for name in "abc"}
random.seed(7)

def cached_tokens(state, text):
    best = 0
    for known in state["texts"]:
        same = 0
        for one, other in zip(known, text):
            if one != other:
                break
            same += 1
        best = max(best, same)
    state["texts"].append(text)
    return best

def usage_of(state, asked):
    turns = [m["role"] + (m["content"] or "") for m in asked["messages"]]
    words = [w for turn in turns for w in turn.split(" ")]
    cached = cached_tokens(state, words) if len(words) > 20 else 0
    return {"prompt_tokens": len(words), "completion_tokens": 1, "total_tokens": len(words) + 1,
            "prompt_tokens_details": {"cached_tokens": cached}}

def answer(asked, usage):
    base = {"id": "chatcmpl-1", "created": 1, "model": "m"}
    if not asked.get("stream"):
        message = {"role": "assistant", "content": "word"}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        return json.dumps({**base, "object": "chat.completion", "choices": [choice],
                           "usage": usage}).encode(), b"application/json"
    chunk = {**base, "object": "chat.completion.chunk"}
    delta = {"role": "assistant", "content": "word"}
    events = [{**chunk, "choices": [{"index": 0, "finish_reason": None, "delta": delta}]},
              {**chunk, "choices": [{"index": 0, "finish_reason": "stop", "delta": {}}]},
              {**chunk, "choices": [], "usage": usage}]
    lines = [*map(json.dumps, events), "[DONE]"]
    return "".join(f"data: {each}\\n\\n" for each in lines).encode(), b"text/event-stream"

def reply(body, kind=b"application/json", status=b"200 OK"):
    return b"HTTP/1.1 %b\\r\\ncontent-type: %b\\r\\ncontent-length: %d\\r\\n\\r\\n%b" % (
        status, kind, len(body), body)

async def answered(path, body):
    if path == "/state":
        for name, change in json.loads(body or b"{}").items():
            STATE[name].update(change)
        told = {name: state["asked"] for name, state in STATE.items()}
        return reply(json.dumps(told).encode())
    if not body:  # the list of models, which opening a model asks for
        return reply(b"{}", status=b"404 Not Found")
    state = STATE[path.split("/")[1]]
    state["asked"] += 1
    await asyncio.sleep(state["seconds"])
    if random.random() < state["fail"]:
        error = {"error": {"message": "told to fail", "type": "server_error"}}
        return reply(json.dumps(error).encode(), status=b"500 Internal Server Error")
    asked = json.loads(body)
    return reply(*answer(asked, usage_of(state, asked)))

async def serve(reader, writer):
    try:
        while True:
            head = await reader.readuntil(b"\\r\\n\\r\\n")
            length = int(head.lower().partition(b"content-length:")[2].split(b"\\r\\n")[0] or 0)
            body = await reader.readexactly(length)
            writer.write(await answered(head.split(b" ")[1].decode(), body))
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()

async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

asyncio.run(main())
"""

Ask = Callable[[Any], Awaitable[str]]
"""Sends messages and gives the text of the answer, or raises."""


class Server:
    """Three members on the loopback."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def address(self, name: str) -> str:
        return f"{self.url}/{name}/v1"

    def tell(self, **changes: dict[str, Any]) -> dict[str, int]:
        """Change how members behave; gives how many requests each had."""
        request = urllib.request.Request(f"{self.url}/state", json.dumps(changes).encode())
        with urllib.request.urlopen(request) as response:
            told: dict[str, int] = json.load(response)
        return told

    def fresh(self, **changes: dict[str, Any]) -> None:
        well = {"fail": 0.0, "seconds": 0.0, "asked": 0, "texts": []}
        self.tell(**{name: {**well, **changes.get(name, {})} for name in "abc"})


@asynccontextmanager
async def routed(server: Server, strategy: Strategy, **settings: Any) -> AsyncIterator[Any]:
    """A router of the three members."""
    infos = [
        ModelInfo(
            name=name, model_type="openai-compatible", local=False, base_url=server.address(name)
        )
        for name in "abc"
    ]
    members = tuple(map(RouterMember, "abc"))
    router = RouterSettings(members=members, strategy=strategy, **settings)
    entry = ModelInfo(name="r", model_type="router", local=False, router=router)
    async with ModelManager([*infos, entry]) as manager:
        yield (await manager.load_model("r"))[0]


async def seconds_each(model: ModelInterface, requests: int) -> float:
    """Of this process alone, whatever else the machine does."""
    began = time.process_time()
    for _ in range(requests):
        await model.generate("Hi")
    return (time.process_time() - began) / requests


async def overhead() -> None:
    infos = [fake_info(name) for name in "abc"]
    members = tuple(map(RouterMember, "abc"))
    for strategy in ("in-order", "least-busy", "lowest-latency"):
        settings = RouterSettings(members=members, strategy=strategy)  # type: ignore[arg-type]
        entry = ModelInfo(name="r", model_type="router", local=False, router=settings)
        async with ModelManager([*infos, entry], open_model=FakeOpener(text="word")) as manager:
            router, _ = await manager.load_model("r")
            member, _ = await manager.load_model("a")
            await seconds_each(router, 50)
            pairs = [
                (await seconds_each(router, 200), await seconds_each(member, 200)) for _ in range(9)
            ]
        added = statistics.median(routed - direct for routed, direct in pairs)
        print(f"overhead, {strategy}: {1e6 * added:.0f} µs a request")


async def failing(server: Server, name: str, ask: Ask, requests: int) -> None:
    """Ask so often, eight at a time, while b fails half of what it gets."""
    server.fresh(b={"fail": 0.5})
    outcomes: Counter[str] = Counter()

    async def work(count: int) -> None:
        for _ in range(count):
            try:
                await ask([Message("user", "Hi")])
                outcomes["answered"] += 1
            except Exception as error:  # noqa: BLE001, PERF203 - whatever a router raises is counted
                outcomes[type(error).__name__] += 1

    began = time.perf_counter()
    await asyncio.gather(*(work(requests // 8) for _ in range(8)))
    seconds = time.perf_counter() - began
    asked = server.tell()
    total = sum(outcomes.values())
    others = {kind: count for kind, count in outcomes.items() if kind != "answered"}
    print(
        f"failing, {name}: {100 * outcomes['answered'] / total:.2f} % of {total:,} answered, "
        f"{100 * asked['b'] / total:.1f} % went to the one that fails, "
        f"{sum(asked.values()) - total:,} requests more than answers, "
        f"{1e3 * seconds / total:.2f} ms each{f', errors {others}' if others else ''}"
    )


async def latency(server: Server) -> None:
    def usual(a: float) -> dict[str, dict[str, float]]:
        return {"a": {"seconds": a}, "b": {"seconds": 0.024}, "c": {"seconds": 0.026}}

    async with routed(server, "lowest-latency") as router:

        async def members(count: int) -> list[str]:
            return [(await router.generate("Hi")).model for _ in range(count)]

        server.fresh(**usual(0.02))
        before = await members(60)
        server.tell(**usual(0.1))
        slow = await members(80)
        server.tell(**usual(0.02))
        after = await members(160)
    back = next((i for i, name in enumerate(after) if after[i : i + 3] == ["a"] * 3), None)
    print(
        f"latency: {before.count('a')} of 60 to the fastest; once five times slower, "
        f"{slow[:20].count('a')} of the next 20 and {slow[20:].count('a')} of 60 after them; "
        f"well again, back after {back} requests"
    )


async def cached_share(router: ModelInterface) -> float:
    """Of the tokens that were read in 24 conversations of 8 turns, two at a time."""
    results: list[GenerationResult] = []

    async def talk(number: int) -> None:
        turns = [Message("user", f"{number} " + "word " * 30)]
        for turn in range(8):
            result = await router.generate(turns)
            results.append(result)
            turns += [result.message, Message("user", f"{number} {turn} " + "word " * 10)]

    for number in range(0, 24, 2):
        await asyncio.gather(talk(number), talk(number + 1))
    read = sum(result.usage.prompt_tokens or 0 for result in results)
    return sum(result.usage.cached_tokens for result in results) / read


async def sticky(server: Server) -> None:
    shares = {}
    for label, strategy, settings in (
        ("one member", "in-order", {}),
        ("sticky", "least-busy", {"sticky": True}),
        ("not sticky", "least-busy", {"sticky": False}),
    ):
        server.fresh()
        async with routed(server, strategy, **settings) as router:  # type: ignore[arg-type]
            shares[label] = await cached_share(router)
    alone = shares["one member"]
    words = ", ".join(
        f"{label} {share:.3f} ({share / alone:.2f} of it)" for label, share in shares.items()
    )
    print(f"share of cached tokens: {words}")


def litellm_ask(server: Server) -> Ask | None:
    """LiteLLM's router of the same members; None where it is not installed."""
    if find_spec("litellm") is None:
        return None
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else it asks the network
    litellm: Any = importlib.import_module("litellm")
    litellm.suppress_debug_info = True
    models = [
        {
            "model_name": "r",
            "litellm_params": {
                "model": "openai/m",
                "api_base": server.address(name),
                "api_key": "none",
            },
        }
        for name in "abc"
    ]
    router = litellm.Router(model_list=models, num_retries=4, routing_strategy="least-busy")

    async def ask(messages: Any) -> str:
        turns = [{"role": each.role, "content": each.text} for each in messages]
        answer = await router.acompletion(model="r", messages=turns)
        return str(answer.choices[0].message.content)

    return ask


async def alone(server: Server, name: str, ask: Ask) -> None:
    """What an answer takes when all members are well."""
    server.fresh()
    for _ in range(20):
        await ask([Message("user", "Hi")])
    times = []
    for _ in range(300):
        began = time.perf_counter()
        await ask([Message("user", "Hi")])
        times.append(time.perf_counter() - began)
    print(f"well, {name}: {1e3 * statistics.median(times):.2f} ms a request")


async def measured(server: Server, requests: int) -> None:
    await overhead()
    async with routed(server, "least-busy") as router:

        async def ask(messages: Any) -> str:
            return str(await router.generate(messages))

        await alone(server, "nbllm", ask)
        await failing(server, "nbllm", ask, requests)
    await latency(server)
    await sticky(server)
    other = litellm_ask(server)
    if other is None:
        print("LiteLLM is not installed: pip install litellm")
        return
    await alone(server, "LiteLLM", other)
    await failing(server, "LiteLLM", other, requests)


def main(requests: int) -> None:
    process = subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        server = Server(int(process.stdout.readline()))
        asyncio.run(measured(server, requests))
    finally:
        process.kill()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2_000)
