"""The second turn of a long conversation, beside the first, and beside ``llama_cpp.Llama``.

Run it with ``python tests/benchmarks/bench_prefix.py [ROUNDS [TOKENS]]`` on a machine that does
nothing else. A conversation begins with about 2,000 tokens; its second turn is to have its first
token ten times sooner than the first turn had. The same with two conversations that take turns,
where ``llama_cpp.Llama`` reads everything again. Seconds to the first token, medians.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import sys
import time
from typing import Any

from llama_peer import load_llama

from nbllm import ModelManager, TextDelta
from nbllm.core.catalogue.listing import bundled_models

CONTEXT = 8192
Conversation = list[dict[str, str]]
Figures = dict[str, list[float]]


def opening(tokens: int) -> Conversation:
    numbers = " ".join(str(random.randrange(10, 99)) for _ in range(tokens // 3))
    return [{"role": "user", "content": f"Remember these numbers: {numbers}"}]


def goes_on(conversation: Conversation, answer: str) -> None:
    conversation.append({"role": "assistant", "content": answer})
    conversation.append({"role": "user", "content": "Which one came first?"})


async def ask_nbllm(model: Any, conversation: Conversation) -> float:
    began, first, text = time.perf_counter(), 0.0, ""
    async for event in model.stream(conversation, temperature=0, max_tokens=8):
        if isinstance(event, TextDelta):
            first = first or time.perf_counter() - began
            text += event.text
    goes_on(conversation, text)
    return first


async def ask_llama(llama: Any, conversation: Conversation) -> float:
    began, first, text = time.perf_counter(), 0.0, ""
    for chunk in llama.create_chat_completion(
        conversation, temperature=0, max_tokens=8, stream=True
    ):
        piece = chunk["choices"][0]["delta"].get("content")
        if piece:
            first = first or time.perf_counter() - began
            text += piece
    goes_on(conversation, text)
    return first


async def measured(ask: Any, engine: Any, tokens: int, name: str, figures: Figures) -> None:
    def note(turn: str, seconds: float) -> None:
        figures.setdefault(f"{name}, {turn}", []).append(seconds)

    alone = opening(tokens)
    note("first turn", await ask(engine, alone))
    note("second turn", await ask(engine, alone))
    pair = opening(tokens), opening(tokens)
    for conversation in pair:
        note("first turn", await ask(engine, conversation))
    for conversation in pair:
        note("second turn, two conversations", await ask(engine, conversation))


async def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    tokens = int(sys.argv[2]) if len(sys.argv) > 2 else 2000
    figures: Figures = {}
    info = bundled_models()[0]
    llama = load_llama(str(info.path), CONTEXT)
    async with ModelManager() as manager:
        model, _ = await manager.load_model(info.name)
        for _ in range(rounds):
            await measured(ask_nbllm, model, tokens, "nbllm", figures)
            await measured(ask_llama, llama, tokens, "llama_cpp.Llama", figures)
    medians = {name: statistics.median(values) for name, values in figures.items()}
    for name, median in medians.items():
        first = medians[f"{name.split(',')[0]}, first turn"]
        print(f"{name:48} {median:8.3f} s  {first / median:6.1f} times sooner")
    print("nbllm's second turns are to be 10 times sooner")


if __name__ == "__main__":
    asyncio.run(main())
