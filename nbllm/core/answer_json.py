"""The JSON of an answer, and its fenced blocks: models wrap what is wanted in prose and fences."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from nbllm.core.errors import AnswerFormError
from nbllm.core.json_repair import loads_tolerantly

__all__ = ["Block", "blocks_of", "json_of"]

_FENCE = re.compile(
    r"^(?P<indent> {0,3})(?P<fence>`{3,}|~{3,})[ \t]*(?P<language>[^\s`]*)[^\n`]*\n"
    r"(?P<body>.*?)(?:^ {0,3}(?P=fence)[`~]*[ \t]*$|\Z)",
    re.DOTALL | re.MULTILINE,
)
_JSON_START = re.compile(r"[\[{]")
_JSON_INSIDE = re.compile(r"[\[{\"]")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: its ``language`` in small letters, "" where none is told, and its text."""

    language: str
    text: str


def blocks_of(text: str) -> Iterator[Block]:
    """The fenced blocks in order; one that is not closed goes to the end."""
    for match in _FENCE.finditer(text):
        body = match["body"]
        if match["indent"]:
            body = re.sub(rf"^ {{0,{len(match['indent'])}}}", "", body, flags=re.MULTILINE)
        yield Block(match["language"].lower(), body.rstrip("\n"))


def json_of(text: str) -> Any:
    """The JSON value of an answer: all of it, a fenced block, or what stands in its prose.

    Python's way to write one counts too.
    """
    candidates = [text, *(block.text for block in blocks_of(text))]
    for load in (json.loads, loads_tolerantly):
        for candidate in candidates:
            with suppress(ValueError, RecursionError):
                return load(candidate)
    return _json_in_prose(text)


def _json_in_prose(text: str) -> Any:
    """The longest object or array of the text; none is taken out of one that is broken."""
    found: list[tuple[int, Any]] = []
    position = 0
    while (match := _JSON_START.search(text, position)) is not None:
        value, position, problem = _decoded(text, match.start())
        if problem is None:
            found.append((position - match.start(), value))
        elif _JSON_INSIDE.search(text, match.end(), position):
            raise AnswerFormError("JSON", problem, text=text)
    if not found:
        raise AnswerFormError("JSON", "it has no object or array", text=text)
    return max(found, key=lambda sized: sized[0])[1]


def _decoded(text: str, start: int) -> tuple[Any, int, str | None]:
    """The value that begins here, where it ends or breaks off, and why it does."""
    try:
        value, end = json.JSONDecoder().raw_decode(text, start)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        return None, max(error.pos, start + 1), f"broken JSON at {where}: {error.msg}"
    except RecursionError:
        return None, len(text), "it is nested too deeply"
    except ValueError:  # Python reads no number of more than 4,300 digits
        return None, len(text), "it holds a number that is too long"
    return value, end, None
