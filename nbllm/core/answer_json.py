"""The JSON of an answer, and its fenced blocks: models wrap what is wanted in prose and fences."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from nbllm.core.errors import AnswerFormError
from nbllm.core.tolerant_json import Reader

__all__ = ["Block", "blocks_of", "json_of"]

_OPENING = re.compile(r"( {0,3})(`{3,}|~{3,})")
_JSON_LANGUAGES = ("", "json", "json5", "jsonc", "jsonl", "ndjson")
_JSON_START = re.compile(r"[\[{]")


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

    Objects on lines of their own are a list. What is nearly JSON is read as far as it has one
    meaning (see ``Reader``). Raises ``AnswerFormError`` with the place where it is broken.

    >>> json_of("Here you are: {'name': 'Ann', 'age': 34,} // from the text")
    {'name': 'Ann', 'age': 34}
    """
    blocks = [block.text for block in blocks_of(text) if block.language in _JSON_LANGUAGES]
    for load in (json.loads, _json_lines):
        for candidate in (text, *blocks):
            with suppress(ValueError, RecursionError):
                return load(candidate)
    for block in blocks:
        with suppress(AnswerFormError):
            return _json_in_prose(block)
    return _json_in_prose(text)


def _json_lines(text: str) -> list[Any]:
    """The objects of "JSON Lines" (https://jsonlines.org). Raises ``ValueError``."""
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) < 2 or not all(line.lstrip().startswith("{") for line in lines):
        raise ValueError("these are not objects on lines of their own")
    return [json.loads(line) for line in lines]


def _json_in_prose(text: str) -> Any:
    """The longest object or array of the text; none is taken out of one that is broken."""
    found: list[tuple[int, Any]] = []
    position, first_problem = 0, ""
    reader = Reader(text)
    while (match := _JSON_START.search(text, position)) is not None:
        start = match.start()
        try:
            value, position = reader.read(start)
            found.append((position - start, value))
        except json.JSONDecodeError as error:
            problem = f"broken JSON at line {error.lineno}, column {error.colno}: {error.msg}"
            if reader.has_read:
                raise AnswerFormError("JSON", problem, text=text) from None
            first_problem = first_problem or problem
            position = max(error.pos, start + 1)
        except RecursionError:
            raise AnswerFormError("JSON", "it is nested too deeply", text=text) from None
    if not found:
        problem = first_problem or "it has no object or array"
        raise AnswerFormError("JSON", problem, text=text)
    return max(found, key=lambda sized: sized[0])[1]
