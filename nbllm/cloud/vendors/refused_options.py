"""What a server's refusal of an option says: a hint for people, and what not to send again."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable
from contextlib import aclosing
from dataclasses import replace

from nbllm.core.errors import BadRequestError, ModelError
from nbllm.core.layers.layer import Events, Next, Place
from nbllm.core.types import Completed, Event, GenerationOptions, GenerationRequest, ModelInfo
from nbllm.core.words import listed_words

__all__ = [
    "SAMPLING",
    "LearntRefusals",
    "refused_sampling",
    "request_hint",
    "sampling_note",
    "sampling_set",
]

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
