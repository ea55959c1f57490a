"""What a failure means, whoever tells it: by its words first, then its sentence, then its status.

Words are codes and types, such as "insufficient_quota", "RateLimitError" and "NOT_FOUND"; they are
compared without regard to how they are written. Sentences count where a server has no word for it,
and never against a status that leaves no doubt. The status comes last, because servers answer with
400 or 500 what can have a better one, and because there is none inside a stream.

Sources: https://developers.openai.com/api/docs/guides/error-codes,
https://platform.claude.com/docs/en/api/errors, https://ai.google.dev/gemini-api/docs/troubleshooting,
and what the other servers write that are named beside the patterns.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cache

from nbllm.cloud.adapter import Meaning
from nbllm.cloud.vendors import every_adapter
from nbllm.cloud.vendors.error_bodies import Failure
from nbllm.cloud.vendors.request_errors import is_context_sentence, is_context_word

__all__ = ["IN_STREAM", "READ", "is_futile", "meaning_of", "strong_words"]

IN_STREAM = 0
"""The status of an error inside a stream, which has none of its own."""

READ = 4000
"""So many characters of a sentence are looked at."""


M = Meaning

# Words without "_", "error" and case, so that one spelling stands for all. Each vendor's own are
# with its adapter; these are of the many servers like them.
_STRONG = {
    "incorrectapikey": M.AUTHENTICATION,
    "missingapikey": M.AUTHENTICATION,
    "invalidauthentication": M.AUTHENTICATION,
    "auth": M.AUTHENTICATION,
    "unauthorized": M.AUTHENTICATION,
    "invalidtoken": M.AUTHENTICATION,
    "tokenexpired": M.AUTHENTICATION,
    "expiredkey": M.AUTHENTICATION,
    "tokennotfoundindb": M.AUTHENTICATION,
    "forbidden": M.PERMISSION,
    "accessdenied": M.PERMISSION,
    "modeltermsrequired": M.PERMISSION,
    "ratelimitexceeded": M.RATE_LIMIT,
    "ratelimitreached": M.RATE_LIMIT,
    "ratelimited": M.RATE_LIMIT,
    "requestlimitexceeded": M.RATE_LIMIT,
    "toomanyrequests": M.RATE_LIMIT,
    "throttling": M.RATE_LIMIT,
    "engineoverloaded": M.OVERLOADED,
    "modeloverloaded": M.OVERLOADED,
    "servicetiercapacityexceeded": M.OVERLOADED,
    "capacityexceeded": M.OVERLOADED,
    "serviceunavailable": M.OVERLOADED,
    "modelnotexist": M.NOT_FOUND,
    "modelnotavailable": M.NOT_FOUND,
    "modelnotsupported": M.NOT_FOUND,
    "modeldecommissioned": M.NOT_FOUND,
    "invalidmodel": M.NOT_FOUND,
    "unknownmodel": M.NOT_FOUND,
    "unsupportedmodel": M.NOT_FOUND,
    "contentpolicy": M.POLICY,
    "datainspectionfailed": M.POLICY,
}
_WEAK = {
    "invalidrequest": M.BAD_REQUEST,
    "invalidargument": M.BAD_REQUEST,
    "failedprecondition": M.BAD_REQUEST,
    "badrequest": M.BAD_REQUEST,
    "validation": M.BAD_REQUEST,
    "requesttoolarge": M.BAD_REQUEST,
    "notfound": M.NOT_FOUND,
    "billing": M.QUOTA,
    "api": M.SERVER,
    "server": M.SERVER,
    "internal": M.SERVER,
    "internalserver": M.SERVER,
    "timeout": M.TIMEOUT,
    "deadlineexceeded": M.TIMEOUT,
}
"""Words that say no more than a status does, and so count only where there is none."""

# Here the whole word is looked at: the vendors combine them in ever new ways.
_QUOTA_WORD = re.compile(
    r"insufficient_?(user_?)?(quota|balance|credits?|funds)|credit_?balance|quota_?exceeded"
    r"|exceeded_?current_?quota|billing_(error|not|hard|limit|inactive|disabled|required)"
    r"|(spend(ing)?|usage|budget)_?(limit|exceeded)|payment_?required|arrearage|PerDay",
    re.IGNORECASE,
)

_SENTENCES = (
    (
        M.UNSUPPORTED,
        # llama-server, vLLM, OpenRouter, Ollama, DeepSeek, Mistral, OpenAI
        r"\b(image|vision|audio|video|multimodal|file)s?( inputs?| content)?( is| are)? not"
        r" (supported|enabled)"
        r"|(not|n't) support (image|vision|multimodal|audio|video|file)"
        r"(?!s? (format|type|size|detail))"
        r"|(not|n't) support (the )?(use of )?(tools?|functions?|thinking)\b"
        r"|(not|n't) support (the )?(use of )?(embeddings?|completions?)\b"
        r"|support (image|audio|video|file|tool) (input|use)"
        r"|image_url is only supported|unknown variant .image_url|not a multimodal model"
        r"|at most 0 (image|audio|video)|data required for image|requires? .{0,20}--jinja"
        r"|--enable-auto-tool-choice",
    ),
    (
        M.QUOTA,
        # Anthropic, OpenAI, OpenRouter, the hub's router, xAI, LiteLLM, Gemini without billing
        r"credit balance is too low|specified API usage limits|exceeded your current quota"
        r"|insufficient (balance|credits?|funds|quota)|more credits|out of credits"
        r"|monthly included credits|all available credits|spending limit"
        r"|budget has been exceeded|payment required|please check your (plan and )?billing",
    ),
    (
        M.AUTHENTICATION,
        # xAI, Perplexity, OpenRouter, Azure, LiteLLM, llama-server
        r"(incorrect|invalid|wrong|missing|expired|malformed|no) ([\w-]+ ){0,2}api[ _-]?key"
        r"|api[ _-]?key[^.]{0,40}( not (valid|found|provided|set|passed)|invalid|incorrect"
        r"|missing|expired|required)"
        r"|no (cookie )?auth credentials|invalid (access|auth|bearer|subscription) (token|key)"
        r"|invalid (x-api-key|authentication|credentials?)"
        r"|authentication (fail|required|parameter)|could not validate credentials",
    ),
    (
        M.NOT_FOUND,
        # DeepSeek, OpenRouter, Mistral, Perplexity, LiteLLM, LM Studio, vLLM, Ollama
        r"\bmodel\b[^\n]{0,120} ((does|do|did)( not|n't) exist|not exist\b|not found\b)"
        r"|(unknown|invalid|no such|unrecognized|unsupported) model\b(?! (out|in|param|resp))"
        r"|invalid model (name|id)|not a valid model|no (endpoints|providers) found"
        r"|no allowed providers"
        r"|not supported by any provider|has been decommissioned|does not serve (the )?model",
    ),
    (
        M.POLICY,
        # Azure, OpenRouter's moderation, DeepSeek, DashScope, xAI
        r"content (management|moderation|usage|filter\w*)? ?polic(y|ies)"
        r"|usage (polic|guideline)|content filter|safety (system|filter|polic)"
        r"|input was flagged|flagged as|content exists risk|inappropriate content",
    ),
    (M.RATE_LIMIT, r"rate[ -]?limit(ed| (reached|exceeded|hit))|too many requests"),
    (
        M.OVERLOADED,
        r"overloaded|(at|over|no|out of|insufficient|lack of) capacity"
        r"|temporarily unavailable|loading model|model is (currently )?(loading|warming)"
        r"|(server|service) is (too )?busy",
    ),
)
"""Patterns that ``re`` compiles when the first error comes, because most sessions see none."""

_BELIEVED: dict[int, tuple[Meaning, ...]] = {
    401: (),
    402: (),
    403: (M.QUOTA, M.AUTHENTICATION, M.POLICY),
    404: (M.UNSUPPORTED,),
    413: (M.CONTEXT,),
    429: (M.QUOTA,),
    503: (M.CONTEXT, M.QUOTA, M.UNSUPPORTED, M.RATE_LIMIT),
    529: (),
}
"""What a sentence may say against a status; against any other, everything."""

_OF_STATUS = {
    401: M.AUTHENTICATION,
    402: M.QUOTA,
    403: M.PERMISSION,
    404: M.NOT_FOUND,
    408: M.TIMEOUT,
    409: M.CONFLICT,
    429: M.RATE_LIMIT,
    501: M.NOT_IMPLEMENTED,
    503: M.OVERLOADED,
    504: M.TIMEOUT,
    529: M.OVERLOADED,
}
_LITELLM = re.compile(r"\blitellm\.([A-Z]\w{1,60}Error)\b")
"""LiteLLM writes the class of its exception into the sentence."""
_TOO_LARGE_AT_ONCE = re.compile(
    r"request too large|must be reduced|larger than the .{0,40}limit", re.IGNORECASE
)
_NOTHING_ALLOWED = re.compile(r"\blimit: 0\b", re.IGNORECASE)  # Gemini's free tier without a model


def meaning_of(failure: Failure, status: int) -> Meaning:
    """What a failure means; ``status`` is ``IN_STREAM`` where it came in a stream."""
    meaning = (
        _of_words([*failure.words, *_LITELLM.findall(failure.shown[:READ])])
        or _of_sentence(failure.shown[:READ], status)
        or _of_status(status)
        or _of_status(_numbered(failure))
        or _first_known(_WEAK, failure.words)
    )
    if meaning is M.RATE_LIMIT and _NOTHING_ALLOWED.search(failure.shown[:READ]):
        return M.QUOTA
    # A request that began to be answered was good: what broke then is the server's, and the other
    # one is for the servers that answer with an error under a status of 200.
    return meaning or (M.SERVER if status == IN_STREAM else M.BAD_REQUEST)


def is_futile(failure: Failure) -> bool:
    """Whether a limit is one that this request alone exceeds, so that waiting cannot help."""
    return bool(_TOO_LARGE_AT_ONCE.search(failure.shown[:READ]))


def _of_words(words: Sequence[str]) -> Meaning | None:
    if any(map(is_context_word, words)):
        return M.CONTEXT
    if any(map(_QUOTA_WORD.search, words)):
        return M.QUOTA
    return _first_known(strong_words(), words)


@cache
def strong_words() -> dict[str, Meaning]:
    """Those of all: a router quotes any vendor's errors, whichever protocol it speaks."""
    words = dict(_STRONG)
    for adapter in every_adapter():
        words |= adapter.error_words
    return words


def _first_known(table: dict[str, Meaning], words: Iterable[str]) -> Meaning | None:
    return next((table[bare] for bare in map(_bare, words) if bare in table), None)


def _bare(word: str) -> str:
    """A word as the tables have it: "RateLimitError", "rate_limit_error" are "ratelimit"."""
    letters = re.sub(r"[^a-z]", "", word[:100].lower())
    letters = re.sub(r"(error|exception)$", "", letters)
    return "throttling" if letters.startswith("throttling") else letters


def _of_sentence(sentence: str, status: int) -> Meaning | None:
    believed = _BELIEVED.get(status, tuple(M))
    if M.CONTEXT in believed and is_context_sentence(sentence):
        return M.CONTEXT
    found = (
        meaning
        for meaning, pattern in _SENTENCES
        if meaning in believed and re.search(pattern, sentence, re.IGNORECASE)
    )
    return next(found, None)


def _of_status(status: int | None) -> Meaning | None:
    if status is None or not 400 <= status < 600:
        return None
    return _OF_STATUS.get(status, M.BAD_REQUEST if status < 500 else M.SERVER)


def _numbered(failure: Failure) -> int | None:
    """The status that some servers write as the code, LiteLLM as text."""
    told = [word for word in failure.words if re.fullmatch(r"[45]\d\d", word)]
    numbers = failure.numbers or {}
    named = (numbers[key] for key in ("code", "status", "statusCode") if key in numbers)
    number = int(told[0]) if told else next(named, 0)
    return int(number) if 400 <= number < 600 else None
