"""Telling that a prompt was too long, and by how much, from what servers write.

Some have a word for it; the counts, and with most servers the fact, stand in the sentence only.
Each pattern is of a server that is named beside it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

__all__ = ["context_numbers", "is_context_sentence", "is_context_word"]

_WORD = (
    r"context_?(length|window|size|limit)_?exceeded"  # OpenAI, LiteLLM's class
    r"|exceed_context|context_exceeded|context_overflow"  # llama-server
    r"|too_many_(prompt|input)_tokens|requested_too_many_tokens"  # Perplexity
    r"|(prompt|input)_too_(long|large)|tokens_limit_reached"  # GitHub
)

_SENTENCE = (
    r"maximum context length"  # OpenAI, vLLM, llama_cpp.server, OpenRouter, DeepSeek, SGLang
    r"|exceeds? (?:the |its |your )?(?:model's )?(?:max(?:imum)? )?context (?:window|length|size)"
    r"|exceeds? (?:the )?available context size"  # llama-server
    r"|context (?:size|length|window) (?:has been |is )?exceed"  # llama-server, MiniMax
    r"|exceeded (?:max )?context length"  # Ollama
    r"|exceed context limit"  # Anthropic, with max_tokens
    r"|(?:prompt|input) is too long"  # Anthropic, Fireworks, Bedrock
    r"|prompt too long"  # Ollama
    r"|input tokens exceed"  # OpenAI, Perplexity
    r"|input token count.{0,40}exceeds the maximum number of tokens"  # Gemini
    r"|(?:greater|longer) than the (?:model's )?(?:context|maximum model) length"  # LM Studio, vLLM
    r"|context length of only|context the overflows"  # LM Studio
    r"|maximum prompt length is"  # xAI
    r"|reduce the length of the (?:messages|input|prompt)"  # Groq, vLLM
    r"|exceeded model token limit"  # Kimi
    r"|prompt token count of \d+ exceeds"  # Copilot
    r"|total number of tokens in the prompt cannot exceed"  # Cohere
    r"|following a prompt of length \d+, which exceeds"  # Perplexity
    r"|inputs?` tokens \+ `max_new_tokens` must be"  # Hugging Face
    r"|range of input length should be"  # DashScope
    r"|\(\d+ tokens\) is too large to process"  # llama-server's embeddings
    r"|total length of all messages is too long"  # Perplexity
    r"|(?:prompt|input|request) (?:contains|has) too many (?:input )?tokens"
    r"|(?:prompt|input)\b.{0,40}\btoo long\b.{0,80}\bcontext"  # Ollama and others
)
"""Like all patterns here, ``re`` compiles it when the first error comes."""
# The refusal of an answer that is too long, not of a prompt: OpenAI, vLLM, Groq.
_ANSWER_TOO_LONG = re.compile(
    r"max_(?:completion_)?tokens['`]? (?:is too large|must be less)", re.IGNORECASE
)

_PROMPT = (
    r"\((\d+) in (?:the messages|your prompt)",  # OpenAI's older form, llama_cpp.server
    r"(\d+) tokens from the input messages",  # SGLang
    r"too long: (\d+)",  # Anthropic, Fireworks
    r"context limit: (\d+) \+",  # Anthropic
    r"token count \((\d+)\)",  # Gemini
    r"(?:resulted in|requested(?: about)?|has|contains(?: at least)?) (\d+) (?:input )?tokens",
    r"(?:request|input) \((\d+) tokens\)",  # llama-server, SGLang, Together
    r"keep the first (\d+) tokens",  # LM Studio
    r"n_keep: (\d+)",  # LM Studio
    r"prompt of length (\d+)",  # Perplexity
    r"\(requested: (\d+)\)",  # Kimi
    r"token count of (\d+)",  # Copilot
    r"(?:tokens|length) \(?(\d+)\)? (?:exceeds?|is longer)",  # llama_cpp.server, vLLM
    r"received (\d+)",  # Cohere
    r"tokens \((\d+)\) exceeds?",
    r"given: (\d+) `inputs`",  # Hugging Face
)
_CONTEXT = (
    r"maximum context length (?:of|is|:) ?(\d+)",
    r"maximum context length: (\d+)",  # Fireworks
    r"context length \((\d+)",  # Together, SGLang
    r"tokens > (\d+)",
    r"context limit: \d+ \+ \d+ > (\d+)",
    r"tokens allowed \(?(\d+)",
    r"configured limit of (\d+)",
    r"context size \((\d+)",
    r"context length of only (\d+)",
    r"n_ctx: (\d+)",
    r"maximum prompt length is (\d+)",
    r"max limit of (\d+)",
    r"token limit: (\d+)",
    r"exceeds? the limit of (\d+)",
    r"context window of (\d+)",
    r"maximum model length of (\d+)",
    r"input tokens exceeds? (\d+)",
    r"cannot exceed (\d+)",
    r"`max_new_tokens` must be <= (\d+)",
    r"input length should be \[\d+, (\d+)\]",
)


def is_context_word(word: str) -> bool:
    """Whether a server's word says that the prompt was too long."""
    return bool(re.search(_WORD, word[:200], re.IGNORECASE))


def is_context_sentence(sentence: str) -> bool:
    """Whether a server's sentence says that the prompt was too long."""
    return bool(
        re.search(_SENTENCE, sentence, re.IGNORECASE | re.DOTALL)
    ) and not _ANSWER_TOO_LONG.search(sentence)


def context_numbers(sentence: str, numbers: Mapping[str, float]) -> tuple[int | None, int | None]:
    """The tokens of the prompt and those of the context, each None where the server tells none.

    ``numbers`` are the fields of the error; llama-server has ``n_prompt_tokens`` and ``n_ctx``.
    """
    plain = re.sub(r"(?<=\d),(?=\d{3})", "", sentence)
    return (
        _field(numbers, "n_prompt_tokens") or _first(_PROMPT, plain),
        _field(numbers, "n_ctx") or _first(_CONTEXT, plain),
    )


def _field(numbers: Mapping[str, float], name: str) -> int | None:
    value = numbers.get(name, 0)
    return int(value) if 0 < value < 2**53 else None


def _first(patterns: Sequence[str], sentence: str) -> int | None:
    for pattern in patterns:
        if found := re.search(pattern, sentence, re.IGNORECASE):
            return int(found[1][:15])
    return None
