"""What an error says of the request: it is too long, or has an option that the model refuses."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace

from nbllm.core.errors import BadRequestError, ModelError
from nbllm.core.layers.layer import Events, Next, Place
from nbllm.core.types import Completed, Event, GenerationOptions, GenerationRequest, ModelInfo
from nbllm.core.words import listed_words

__all__ = [
    "SAMPLING",
    "LearntRefusals",
    "context_numbers",
    "is_context_sentence",
    "is_context_word",
    "refused_sampling",
    "request_hint",
    "sampling_note",
    "sampling_set",
]

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


_NAMES = {"topP": "top_p", "topK": "top_k"}
SAMPLING = ("temperature", "top_p", "top_k")
"""Options that a model may refuse as a whole, because it chooses its own sampling."""
_SAMPLING_WORD = re.compile(r"\b(temperature|top_p|topP|top_k|topK)\b")
_REFUSED = re.compile(
    r"(not |n't |un)support|deprecat|not (allowed|permitted|accepted|available|compatible)"
    r"|(unknown|unrecognized|unexpected|extra) |only the default|may only be|cannot be (set|used)"
    r"|no longer|must (not be|be (unset|omitted|removed))|(remove|omit) ",
    re.IGNORECASE,
)
_RANGE = re.compile(
    r"range|between|(greater|less|larger|smaller|more|fewer) than|at (most|least)|[<>≤≥]"
    r"|too (large|small|high|low)|maximum|minimum|exceed|valid (number|float|integer)|should be a",
    re.IGNORECASE,
)
"""A value out of its range: the server says what the range is, and an own hint would be wrong."""
_TOGETHER = re.compile(r"cannot both|only one of|not both|together", re.IGNORECASE)
_OTHER_LIMIT = re.compile(r"use ['`\"]?max_completion_tokens", re.IGNORECASE)
_THINKING = re.compile(r"adaptive|budget_tokens|thinking_?(level|budget)", re.IGNORECASE)


def request_hint(told: str) -> str:
    """What to do about a refused request; "" where the server's own words say all there is."""
    if _OTHER_LIMIT.search(told):
        return 'Leave max_tokens unset and give extra={"max_completion_tokens": …}.'
    if _RANGE.search(told):
        return ""
    names = _sampling_names(told)
    if len(names) > 1 and _TOGETHER.search(told):
        return f"Give only one of {' and '.join(names)}."
    if names and _REFUSED.search(told):
        named = " and ".join(names)
        return (
            f"This model does not support {named} as given: it chooses its own sampling. "
            f"Leave {named} unset, in the call and in the model's options."
        )
    if _THINKING.search(told):
        return (
            'Give reasoning_effort in the other form: a word such as "low", or a number of tokens '
            'such as "4096".'
        )
    return ""


def refused_sampling(told: str) -> tuple[str, ...]:
    """The sampling options that a model refuses at any value, () where the refusal is another."""
    if _RANGE.search(told) or _TOGETHER.search(told) or not _REFUSED.search(told):
        return ()
    return _sampling_names(told)


def _sampling_names(told: str) -> tuple[str, ...]:
    found = (_NAMES.get(name, name) for name in _SAMPLING_WORD.findall(told))
    return tuple(dict.fromkeys(found))


def sampling_set(options: GenerationOptions, among: Container[str] = SAMPLING) -> tuple[str, ...]:
    """The sampling options that are set, of those ``among`` which it matters."""
    return tuple(name for name in SAMPLING if name in among and getattr(options, name) is not None)


def sampling_note(names: Iterable[str]) -> tuple[str, ...]:
    """The note about options that were not sent; empty if there are none."""
    left_out = tuple(names)
    if not left_out:
        return ()
    return (f"{listed_words(left_out)} not sent: the model chooses its own sampling",)


class LearntRefusals:
    """What a loaded model has refused, to be left out of every later request to it.

    As a layer it sends what was refused once more without that, at once.
    """

    place = Place.REFUSED_OPTIONS

    def __init__(self) -> None:
        self._names: frozenset[str] = frozenset()

    async def __call__(self, request: GenerationRequest, following: Next) -> Events:
        """The events of the request that the model takes; its result tells what was left out."""
        delivered, is_refused = False, True
        while is_refused:
            is_refused = False
            sent, notes = self.without(request)
            try:
                async with aclosing(following(sent)) as events:
                    async for event in events:
                        delivered = True
                        yield _with_notes(event, notes)
            except ModelError as error:
                if delivered or not self.learn(request.model, error, sent):
                    raise
                is_refused = True

    def learn(self, info: ModelInfo, failure: ModelError, request: GenerationRequest) -> bool:
        """Whether a failure is a refusal of sampling options that this request has."""
        is_claude = "claude" in (info.model or info.name).lower()
        if not isinstance(failure, BadRequestError) or not is_claude:
            return False
        refused = frozenset(refused_sampling(str(failure)))
        if not sampling_set(request.options, refused):
            return False
        self._names |= refused
        return True

    def without(self, request: GenerationRequest) -> tuple[GenerationRequest, tuple[str, ...]]:
        """The request as the model takes it, and what its result says of that."""
        left_out = sampling_set(request.options, self._names)
        if not left_out:
            return request, ()
        options = request.options.replaced(**dict.fromkeys(left_out))
        return replace(request, options=options), sampling_note(left_out)


def _with_notes(event: Event, notes: tuple[str, ...]) -> Event:
    if not notes or not isinstance(event, Completed):
        return event
    return Completed(replace(event.result, notes=(*event.result.notes, *notes)))
