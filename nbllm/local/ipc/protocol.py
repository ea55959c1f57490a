"""How the notebook's process and its processes talk: structs, each one line of JSON.

The parent writes *operations* to the process's standard input, the process writes *events* to a
pipe that was its standard output. An operation that has an ``id`` is answered by events with that
id, of which the last, and no other, is a ``LastEvent``.

Whoever reads decodes into the union of the messages that it knows, so that nothing else gets in: a
process that sends anything else is ended, and a request that cannot be read fails alone. A worker's
messages are in ``operations.py`` and ``events.py``; those of a process with one task are beside the
function that starts it.
"""

from __future__ import annotations

import sys
from typing import Any, NoReturn, TypeVar

import msgspec

from nbllm.core.texts import well_formed

__all__ = [
    "Beat",
    "Cancel",
    "Close",
    "Event",
    "Failed",
    "Fraction",
    "LastEvent",
    "Message",
    "NumberedEvent",
    "Request",
    "UnsendableError",
    "assert_never",
    "decode",
    "encode",
]

if sys.version_info >= (3, 11):
    from typing import assert_never as assert_never
else:

    def assert_never(value: NoReturn, /) -> NoReturn:
        """Where a match comes to that has every case."""
        raise AssertionError(f"unexpected {value!r}")


T = TypeVar("T")
_ENCODER = msgspec.json.Encoder()


class Message(msgspec.Struct, tag_field="op"):
    """Base of all messages; unknown fields are ignored, wrong types are not."""


class Request(Message):
    """Base of operations that are answered, each under a number of its own."""

    id: int


class Cancel(Request, tag="cancel"):
    """Stop the request of this id, which is not answered any more."""


class Close(Message, tag="close"):
    """Leave, at once unless there is something to save."""


class Event(Message):
    """Base of what a process tells."""


class NumberedEvent(Event):
    """Something about the operation ``id``."""

    id: int


class LastEvent(NumberedEvent):
    """After this one nothing comes of its operation."""


class Beat(Event, tag="beat"):
    """A sign of life, once a second whatever else the process does.

    ``overdue``: for how many seconds longer than allowed it has been at the same thing, by stage
    (``liveness.py``).
    """

    overdue: dict[str, float]


class Failed(LastEvent, tag="failed"):
    """The operation failed alone."""

    problem: str


class Fraction(NumberedEvent, tag="fraction"):
    """How much of the operation is done, 0 to 1."""

    fraction: float


class UnsendableError(ValueError):
    """A message that JSON cannot hold; the text says why."""


def encode(message: Message) -> bytes:
    """A message as one line; lone surrogates become U+FFFD. Raises ``UnsendableError``."""
    try:
        try:
            return _ENCODER.encode(message) + b"\n"
        except UnicodeEncodeError:
            return _ENCODER.encode(_mended(msgspec.to_builtins(message))) + b"\n"
    except (msgspec.MsgspecError, TypeError, ValueError, RecursionError) as error:
        raise UnsendableError(str(error)) from None


def _mended(value: Any) -> Any:
    if isinstance(value, str):
        return well_formed(value)
    if isinstance(value, dict):
        return {_mended(key): _mended(each) for key, each in value.items()}
    return [_mended(each) for each in value] if isinstance(value, list | tuple) else value


def decode(line: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    """A line as one of the messages of ``decoder``. Raises ``ValueError`` for what is none."""
    try:
        return decoder.decode(line)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ValueError(f"not a message ({error}): {line[:80]!r}") from None
