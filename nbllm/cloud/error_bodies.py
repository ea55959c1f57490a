"""What the body of an error says, in whichever of the known shapes it comes.

``{"error": {…}}`` of the three vendors, ``{"error": "text"}``, ``{"detail": …}``,
``{"message": …}``, an array around any of them, plain text and web pages.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from nbllm.cloud.wire import MalformedError, load_json

__all__ = ["Failure", "is_failure", "read_body", "read_failure"]

_HEAD_OF_A_PAGE = 2**12
_TITLE = re.compile(r"<title\b", re.IGNORECASE)


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
    return bool(value.get("error")) or value.get("object") == "error"


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
    error = outer.get("error")
    inner = error if isinstance(error, dict) else outer
    details = list(_details(inner.get("details")))
    words = tuple(_words(inner, details))
    return Failure(
        shown=_sentence(inner, outer),
        code=_telling(words),
        words=words,
        numbers={
            key: number
            for key, number in inner.items()
            if isinstance(number, int | float) and not isinstance(number, bool)
        },
        delay_seconds=_delay_in(details),
        request_id=_as_text(outer.get("request_id")),
    )


def _details(value: object) -> Iterator[dict[str, Any]]:
    """Gemini has an array of details, Anthropic one object."""
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, dict):
            yield item


def _words(inner: Mapping[str, Any], details: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Every word for the failure, the most telling first."""
    values = [item.get(key) for item in details for key in ("error_code", "reason")]
    values += [
        violation.get("quotaId")
        for item in details
        for violation in _details(item.get("violations"))
    ]
    values += [inner.get(key) for key in ("code", "type", "status", "param")]
    yield from (value for value in values if isinstance(value, str) and value)


def _telling(words: tuple[str, ...]) -> str | None:
    return next((word for word in words if word != "error"), None)


def _sentence(inner: Mapping[str, Any], outer: Mapping[str, Any]) -> str:
    for value in (inner.get("message"), outer.get("error"), outer.get("detail"), outer.get("msg")):
        if isinstance(value, str) and value:
            return value
        if value:
            return _written(value)
    return "the server gave no reason"


def _written(value: object) -> str:
    try:
        return repr(value)
    except RecursionError:  # its writer has less room than its reader had
        return "the server's reason is nested too deeply to be shown"


def _delay_in(details: Iterable[Mapping[str, Any]]) -> float | None:
    """The delay of a ``google.rpc.RetryInfo``, written like "34.4s"."""
    for item in details:
        delay = item.get("retryDelay")
        if isinstance(delay, str) and re.fullmatch(r"[0-9]{1,9}(\.[0-9]+)?s", delay):
            return float(delay[:-1])
    return None


def _as_text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _shown_page(page: str) -> str:
    page = page.strip()
    if page.startswith("<"):
        title = _title(page[:_HEAD_OF_A_PAGE])
        named = f" with the title {title!r}" if title else ""
        return f"a web page came instead of an answer{named}; is base_url right?"
    return page or "the server gave no reason"


def _title(page: str) -> str:
    """What stands in the page's first title; found without going back and forth in it."""
    tag = _TITLE.search(page)
    begun = page.find(">", tag.end()) + 1 if tag else 0
    return page[begun:].partition("<")[0].strip() if begun else ""
