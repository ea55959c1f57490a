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

_OPENING = re.compile(r"( {0,3})(`{3,}|~{3,})")
_JSON_START = re.compile(r"[\[{]")
_JSON_INSIDE = re.compile(r"[\[{\"]")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: its ``language`` in small letters, "" where none is told, and its text."""

    language: str
    text: str


def blocks_of(text: str) -> Iterator[Block]:
    """The fenced blocks in order; one that is not closed goes to the end."""
    lines = iter(text.split("\n"))
    for line in lines:
        match = _OPENING.match(line)
        info = line[match.end() :].strip() if match else ""
        if match is None or (match[2][0] == "`" and "`" in info):
            continue
        body = _body(lines, match[2], len(match[1]))
        language = info.split()[0].lower() if info else ""
        yield Block(language, "\n".join(body).rstrip("\n"))


def _body(lines: Iterator[str], fence: str, indent: int) -> Iterator[str]:
    """The lines up to the closing fence, without as much of ``indent`` as each of them has."""
    for line in lines:
        closing = line.strip()
        if closing.startswith(fence) and not closing.strip("`~") and _OPENING.match(line):
            return
        yield line[min(indent, len(line) - len(line.lstrip(" "))) :]


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
        return None, len(text), "it contains a number with too many digits"
    return value, end, None
