"""The first words of a prompt, for lists of requests."""

from __future__ import annotations

from collections.abc import Sequence

from nbllm.core.messages import ContentPart, ImagePart, Message, TextPart

__all__ = ["LONGEST_BEGINNING", "beginning_of"]

LONGEST_BEGINNING = 200
"""In characters."""
_MOST_PARTS = 20
_MOST_BLANK, _HEAD = 4_000, 2 * LONGEST_BEGINNING
_JOINERS = "\u200c\u200d"
"""Without them Persian words and emoji fall apart."""


def beginning_of(messages: Sequence[Message]) -> str:
    """The first words of the newest message of the user, else of the last message, in one line.

    Characters that cannot be seen, or that turn the direction of writing, are left out. An image
    stands there as a word. The time does not depend on the length of the prompt.
    """
    asked = [message for message in messages if message.role == "user"] or messages
    parts = asked[-1].parts if asked else ()
    heads = " ".join(map(_head_of, parts[:_MOST_PARTS]))
    seen = "".join(filter(_can_be_seen, heads))
    line = " ".join(seen.split())
    is_cut = len(line) > LONGEST_BEGINNING
    return f"{line[: LONGEST_BEGINNING - 1].rstrip()}…" if is_cut else line


def _can_be_seen(character: str) -> bool:
    return character.isprintable() or character.isspace() or character in _JOINERS


def _head_of(part: ContentPart) -> str:
    """A little more of a part than is kept of all, as blank space is left out of it."""
    if isinstance(part, TextPart):
        return part.text[:_MOST_BLANK].lstrip()[:_HEAD]
    return "(image)" if isinstance(part, ImagePart) else ""
