"""Keys kept out of everything that a person may see, save or send: texts, errors and logs."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from typing import NoReturn, TypeVar

from nbllm.core.errors import ModelError

__all__ = ["Secret", "hide_in_logs", "scrub", "scrub_cut", "scrub_error"]

HIDDEN = "[key]"
_RUN = 6
"""So many characters of a key in a row are taken for a part of it."""
_WORD = re.compile(r"[\w-]*")
_MASK = re.compile(r"\*+|\.{2,}|…|•+")
"""What stands for the hidden middle of a key."""
_LOGGERS = (
    "httpx",
    *(f"httpcore.{part}" for part in ("connection", "http11", "http2", "proxy", "socks")),
)
_Error = TypeVar("_Error", bound=ModelError)


class Secret:
    """A key that shows itself to nobody who does not ask for it by name."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The key itself, for a request's headers and for ``scrub``; keep it in no variable."""
        return self._value

    def __repr__(self) -> str:
        return f"Secret({HIDDEN})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("API keys cannot be pickled or copied")


def scrub(text: str, secret: Secret | None) -> str:
    """``text`` without the key, any six characters of it in a row, or its masked forms.

    Servers answer a wrong key with a text that quotes it, whole or as "sk-ab…wxyz". The time is
    linear in the text's length, whatever stands in it: it comes from somebody else.
    """
    if secret is None or not text:
        return text
    key = secret.reveal()
    text = _without_masked(text, key)
    text = _without_word(text, key[-4:])
    return _without_runs(text, key) if len(key) > _RUN else _without_word(text, key)


def scrub_cut(text: str, secret: Secret | None) -> str:
    """``scrub`` for a text that was cut off at its end, maybe in the middle of the key."""
    if secret is not None:
        key = secret.reveal()
        for length in range(min(len(key), len(text)), 2, -1):
            if text.endswith(key[:length]):
                return scrub(text[:-length], secret) + HIDDEN
    return scrub(text, secret)


def _without_word(text: str, word: str) -> str:
    if word not in text:
        return text
    return re.sub(rf"(?<!\w){re.escape(word)}(?!\w)", HIDDEN, text)


def _without_masked(text: str, key: str) -> str:
    """``text`` without the forms of the key whose middle is masked."""
    pieces: list[str] = []
    shown_from = 0
    for start, end in _masked_forms(text, key):
        if start >= shown_from:
            pieces += [text[shown_from:start], HIDDEN]
        shown_from = end
    return "".join([*pieces, text[shown_from:]])


def _masked_forms(text: str, key: str) -> Iterator[tuple[int, int]]:
    """Where they begin and end. A mask is looked at for a key's length to either side."""
    reach = len(key) + 1
    for mask in _MASK.finditer(text):
        before = text[max(0, mask.start() - reach) : mask.start()]
        head = _word_at(before[::-1])[::-1]
        tail = _word_at(text[mask.end() : mask.end() + reach])
        if _quotes(key, head, tail):
            yield mask.start() - len(head), mask.end() + len(tail)


def _word_at(text: str) -> str:
    """The word that the text begins with, "" where it begins with none."""
    word = _WORD.match(text)
    return word.group() if word else ""


def _quotes(key: str, head: str, tail: str) -> bool:
    return len(head) + len(tail) > 2 and key.startswith(head) and key.endswith(tail)


def _without_runs(text: str, key: str) -> str:
    """``text`` with every longest stretch hidden in which each six characters are the key's."""
    runs = {key[start : start + _RUN] for start in range(len(key) - _RUN + 1)}
    pieces: list[str] = []
    shown_from = hidden_to = 0
    for start in _starts(text, runs):
        if start > hidden_to or not pieces:
            pieces += [text[shown_from:start], HIDDEN]
        hidden_to = shown_from = start + _RUN
    return "".join([*pieces, text[shown_from:]])


def _starts(text: str, runs: set[str]) -> Iterator[int]:
    if any(run in text for run in runs):
        for start in range(len(text) - _RUN + 1):
            if text[start : start + _RUN] in runs:
                yield start


def scrub_error(error: _Error, secret: Secret | None) -> _Error:
    """The same error, fit to be shown: no key in its texts, no other error and no frame behind it.

    What is behind an error of a request can hold the request, and with it the key.
    """
    error.args = tuple(scrub(arg, secret) if isinstance(arg, str) else arg for arg in error.args)
    for name, value in vars(error).items():
        if isinstance(value, str):
            setattr(error, name, scrub(value, secret))
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)


class _KeyFilter(logging.Filter):
    def __init__(self, secret: Callable[[], Secret | None]) -> None:
        super().__init__()
        self._secret = secret

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        record.msg, record.args = scrub(message, self._secret()), None
        return True


def hide_in_logs(secret: Callable[[], Secret | None]) -> Callable[[], None]:
    """Keep the key out of what the HTTP libraries log, response headers included.

    ``secret`` gives the key that is in use. Call what comes back when it is used no more.
    """
    hide = _KeyFilter(secret)
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    for logger in loggers:
        logger.addFilter(hide)

    def stop() -> None:
        for logger in loggers:
            logger.removeFilter(hide)

    return stop
