"""What someone may have meant who wrote a router's entry otherwise than it is read."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nbllm.core.suggest import did_you_mean

__all__ = [
    "failure_hint",
    "key_hint",
    "member_hint",
    "members_hint",
    "number_hint",
    "strategy_hint",
]

_STRATEGIES = {
    "weighted": "round robin random shuffle rotate rotation distribute balance weight weights",
    "lowest-latency": "latency fast fastest speed quick quickest soonest ttft",
    "least-busy": "busy load idle connections usage rpm tpm",
    "cheapest": "cost cheap price budget",
    "in-order": "fallback failover priority order ordered first sequential sequence preferred",
}
_KEYS = {
    "members": "models deployments model_list targets backends providers candidates endpoints",
    "strategy": "routing_strategy policy algorithm mode",
    "max_attempts": "retries num_retries max_retries attempts tries",
    "cooldown_seconds": "cooldown cooldown_time",
    "fallback": "fallbacks fallback_on",
    "sticky": "session affinity session_affinity sticky_sessions",
}
_OF_MEMBERS = {"weight": 2, "price": {"input": 0.15, "output": 0.6}}
_FAILURES = {
    "rate_limit": "429 ratelimit rate_limited",
    "overload": "503 529 overloaded busy",
    "server": "500 502 internal",
    "timeout": "408 504 timed_out",
    "authentication": "401 403 auth",
    "not_found": "404",
    "quota": "402 billing",
}


def _meant(word: object, table: Mapping[str, str]) -> str | None:
    """The word of a table that has a word, or a part of one, among its synonyms."""
    text = str(word).casefold().replace("-", "_")
    parts = {text, *re.split(r"[^a-z0-9]+", text)}
    return next((known for known, others in table.items() if parts & {*others.split()}), None)


def key_hint(key: str, value: object, known: Iterable[str], keys: Sequence[str]) -> str:
    """What to do about an unknown ``key`` of an entry; ``keys`` are those of routers."""
    if isinstance(value, Mapping) and any(name in keys for name in value):
        names = ", ".join(str(name) for name in value)
        return f' Put {names} beside "model_type", not in an object of their own.'
    single = key.removesuffix("s")
    if single in _OF_MEMBERS:
        example = json.dumps({"name": "b", single: _OF_MEMBERS[single]})
        return f' Each member has its own: "members": ["a", {example}]'
    meant = _meant(key, _KEYS)
    if meant is not None:
        return f" Did you mean {meant!r}?"
    if key == "timeout":
        return ' Set "max_retry_seconds" in the router\'s "options".'
    return did_you_mean(key, known)


def strategy_hint(given: object, known: Iterable[str]) -> str:
    """The strategy that others call so."""
    meant = _meant(given, _STRATEGIES) if isinstance(given, str) else None
    return did_you_mean(str(given), known) or (f" Did you mean {meant!r}?" if meant else "")


def failure_hint(given: object, known: Iterable[str], members: Sequence[object]) -> str:
    """The kind of failure that a status or another word means."""
    if given in members:
        return (
            " Another member is asked without being named here: list the kinds of failures after "
            "which it is."
        )
    meant = _meant(given, _FAILURES)
    return f" Did you mean {meant!r}?" if meant else did_you_mean(str(given), known)


def members_hint(given: object) -> str:
    """How a list of members is written that was given otherwise."""
    listed: list[Any] = ["a", {"name": "b", "weight": 2}]
    if isinstance(given, str) and given.strip():
        listed = [name.strip() for name in given.split(",") if name.strip()]
    elif isinstance(given, Mapping) and given:
        listed = [_written(str(name), value) for name, value in given.items()]
    text = json.dumps(listed[:5])
    return f", such as {text}" if len(text) < 200 else ""


def _written(name: str, value: object) -> object:
    if isinstance(value, Mapping):
        return {"name": name, **value} if value else name
    is_weight = isinstance(value, int | float) and not isinstance(value, bool)
    return {"name": name, "weight": value} if is_weight else name


def member_hint(given: object) -> str:
    """How one member is written whose name is not found in it."""
    if isinstance(given, list | tuple) and len(given) == 2 and isinstance(given[0], str):
        return f"; write {json.dumps(_written(given[0], given[1]), default=str)}"
    if isinstance(given, Mapping):
        for key in ("model", "model_name", "id", "member"):
            if isinstance(given.get(key), str):
                return f'; write "name" in place of "{key}"'
        if len(given) == 1:
            ((name, value),) = given.items()
            return f"; write {json.dumps(_written(str(name), value), default=str)}"
    return ""


def number_hint(given: object) -> str:
    """That a number, or true or false, stands in quotes."""
    if not isinstance(given, str):
        return ""
    text = given.strip().lstrip("$").strip()
    try:
        float(text)
    except ValueError:
        return f"; write {text.casefold()} without quotes" if _is_word(text) else ""
    return f"; write {text} without quotes"


def _is_word(text: str) -> bool:
    return text.casefold() in ("true", "false")
