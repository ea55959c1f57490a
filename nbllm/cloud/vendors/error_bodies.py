"""What the body of an error says, in whichever of the known shapes it comes.

``{"error": {…}}`` of the three vendors, ``{"error": "text"}``, ``{"detail": …}`` of FastAPI,
``{"message": …}``, ``{"errors": […]}``, an array around any of them, plain text and web pages.
A body may hold another one: a router quotes what the vendor behind it wrote, as JSON or as text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from nbllm.cloud.vendors.json_values import MalformedError, load_json

__all__ = ["Failure", "is_failure", "read_body", "read_failure"]

_HEAD_OF_A_PAGE = 2**12
_TITLE = re.compile(r"<title\b", re.IGNORECASE)
_NO_REASON = "the server gave no reason"
_DEEPEST = 4
"""So many bodies may be quoted in one another."""
_LONGEST_QUOTE = 2**16
_MOST_PROBLEMS = 5
_SENTENCES = ("message", "Message", "detail", "error", "msg", "errors", "error_description")
"""Where a sentence, or a body that holds one, stands: the first that is there is shown."""
_NESTED = ("error", "detail", "message", "errors", "innererror", "inner_error")
_WORDS = ("code", "type", "status", "param", "reason", "error_code", "quotaId", "__type")


@dataclass(frozen=True, slots=True)
class Failure:
    """What the body of an error says.

    ``code`` is the most telling of its ``words`` (types, codes, reasons, as the vendor wrote
    them), ``numbers`` the fields that are numbers, ``delay_seconds`` the wait that it asks for.
    ``shown`` is for people.
    """

    shown: str
    code: str | None = None
    words: tuple[str, ...] = ()
    numbers: Mapping[str, float] | None = None
    delay_seconds: float | None = None
    request_id: str | None = None


def is_failure(value: Mapping[str, Any]) -> bool:
    """Whether a JSON object is an error, inside a stream or under a 2xx status."""
    if value.get("error") or value.get("object") == "error":
        return True
    if "choices" in value:  # nearly every chunk of every stream
        return False
    if value.keys() & {"data", "output", "usage"}:
        return False
    told = bool(value.get("message") or value.get("detail") or value.get("errors"))
    return told and bool({"code", "type", "status", "detail", "errors"} & value.keys())


def read_body(body: bytes) -> Failure:
    """What the body of an answer whose status is not 2xx says."""
    try:
        return read_failure(load_json(body))
    except MalformedError:
        return Failure(_shown_page(body.decode("utf-8", "replace")))


def read_failure(value: object) -> Failure:
    """What a JSON body says of the failure, in whichever of the known shapes."""
    if isinstance(value, list):
        value = value[0] if value else None
    outer = value if isinstance(value, dict) else {"message": value}
    levels = list(_levels(outer))
    details = [detail for level in levels for detail in _objects(level.get("details"))]
    words = tuple(dict.fromkeys(_words(levels, details)))
    return Failure(
        shown=_with_origin(outer, _sentence(outer)),
        code=next((word for word in words if word != "error"), None),
        words=words,
        numbers=_numbers(levels),
        delay_seconds=_delay_in(details),
        request_id=_as_text(outer.get("request_id")),
    )


def _levels(value: Mapping[str, Any], depth: int = 0) -> Iterator[Mapping[str, Any]]:
    """The bodies that are in this one, the innermost error first and what a router quotes last."""
    if depth < _DEEPEST:
        for key in _NESTED:
            for inner in _objects(_unquoted(value.get(key))):
                yield from _levels(inner, depth + 1)
    yield value
    quoted = _unquoted(_metadata(value).get("raw"))
    if depth < _DEEPEST:
        for inner in _objects(quoted):
            yield from _levels(inner, depth + 1)


def _objects(value: object) -> Iterator[dict[str, Any]]:
    """Gemini has an array of details, Anthropic one object."""
    for item in value[:_MOST_PROBLEMS] if isinstance(value, list) else [value]:
        if isinstance(item, dict):
            yield item


def _unquoted(value: object) -> object:
    """JSON that stands in a text, as JSON."""
    if not isinstance(value, str) or not value.lstrip().startswith(("{", "[")):
        return value
    try:
        return load_json(value) if len(value) <= _LONGEST_QUOTE else value
    except MalformedError:
        return value


def _metadata(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """Where OpenRouter tells what the vendor behind it said."""
    metadata = value.get("metadata")
    return metadata if isinstance(metadata, dict) else {}


def _words(
    levels: Iterable[Mapping[str, Any]], details: Iterable[Mapping[str, Any]]
) -> Iterator[str]:
    """Every word for the failure, the most telling first."""
    known = [item.get(key) for item in details for key in ("error_code", "reason")]
    known += [
        violation.get("quotaId")
        for item in details
        for violation in _objects(item.get("violations"))
    ]
    known += [level.get(key) for level in levels for key in _WORDS]
    yield from (value for value in known if isinstance(value, str) and value)


def _numbers(levels: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """The fields that are numbers, those of the innermost error first."""
    found: dict[str, float] = {}
    for level in levels:
        for key, number in level.items():
            if isinstance(number, int | float) and not isinstance(number, bool):
                found.setdefault(key, number)
    return found


# ---------------------------------------------------------------- what is shown


def _with_origin(outer: Mapping[str, Any], sentence: str) -> str:
    """The sentence of a router, with whom it asked and what was answered there."""
    error = outer.get("error")
    metadata = _metadata(error if isinstance(error, dict) else outer)
    provider, raw = _as_text(metadata.get("provider_name")), metadata.get("raw")
    reasons = [r for r in _listed(metadata.get("reasons")) if isinstance(r, str)]
    behind = _sentence(_unquoted(raw)) if raw else ", ".join(reasons)
    origin = f"{sentence.rstrip('.')} ({provider})" if provider else sentence
    return f"{origin}: {behind}" if behind and behind not in sentence else origin


def _sentence(value: object, depth: int = 0) -> str:
    """What a person reads of a body, or of a part of one."""
    value = _unquoted(value)
    if isinstance(value, str):
        return value or _NO_REASON
    if depth >= _DEEPEST or not value:
        return _written(value) if value else _NO_REASON
    if isinstance(value, list):
        problems = [_sentence(item, depth + 1) for item in value[:_MOST_PROBLEMS]]
        return "; ".join(problems)
    if isinstance(value, dict):
        inner = next((value[key] for key in _SENTENCES if value.get(key)), None)
        return _written(value) if inner is None else _placed(value, _sentence(inner, depth + 1))
    return _written(value)


def _placed(value: Mapping[str, Any], sentence: str) -> str:
    """A sentence of FastAPI behind the field that it is about."""
    place = [str(step) for step in _listed(value.get("loc")) if step != "body"]
    return f"{'.'.join(place)}: {sentence}" if place else sentence


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _written(value: object) -> str:
    try:
        return repr(value)
    except RecursionError:  # its writer has less room than its reader had
        return "the server's reason is nested too deeply to be shown"


def _delay_in(details: Iterable[Mapping[str, Any]]) -> float | None:
    """The delay of a ``google.rpc.RetryInfo``, written like "34.4s"."""
    for item in details:
        delay = item.get("retryDelay")
        if isinstance(delay, str) and re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?s", delay):
            return float(delay[:-1])
    return None


def _as_text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _shown_page(page: str) -> str:
    page = page.strip()
    if page.startswith("<"):
        title = _title(page[:_HEAD_OF_A_PAGE])
        named = f" with the title {title!r}" if title else ""
        return f"the server sent a web page{named}; is base_url correct?"
    return page or _NO_REASON


def _title(page: str) -> str:
    """What stands in the page's first title; found without going back and forth in it."""
    tag = _TITLE.search(page)
    begun = page.find(">", tag.end()) + 1 if tag else 0
    return page[begun:].partition("<")[0].strip() if begun else ""
