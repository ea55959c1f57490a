"""What a server's refusal of an option says, in plain words and for what is asked next."""

from __future__ import annotations

import re

__all__ = ["refused_sampling", "request_hint"]

_NAMES = {"topP": "top_p", "topK": "top_k"}
_SAMPLING = re.compile(r"\b(temperature|top_p|topP|top_k|topK)\b")
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
    found = (_NAMES.get(name, name) for name in _SAMPLING.findall(told))
    return tuple(dict.fromkeys(found))
