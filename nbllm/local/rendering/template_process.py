"""``Template``, which renders conversations whole or says why not, and the process that holds it.

A template is a foreign program. In a process of its own, ``python -m
nbllm.local.rendering.template_process``, it can take neither the worker's time nor its memory,
whatever it does and in whichever function of C it hangs. It reads a request a line and answers
each by a line of JSON; its input ends when the worker does.
"""

from __future__ import annotations

import faulthandler
import json
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from nbllm.local.rendering.alterations import TOOLS_AS_TEXT
from nbllm.local.rendering.fitting import Fitting
from nbllm.local.rendering.jinja_writer import Writer
from nbllm.local.rendering.rendered import MEMORY_BYTES, WALL_SECONDS, Rendered
from nbllm.local.rendering.template_turns import (
    Change,
    Conversation,
    Marks,
    Turn,
    calls_of,
    free_character,
)
from nbllm.local.request_refusals import TemplateRefusalError

__all__ = ["Template", "main"]

_TYPES = ("object", "array", "string", "number", "integer", "boolean", "null")
_KEYWORDS = ("type", "properties", "required", "items", "enum", "description", "default", "const")
_SCHEMA_WORDS = frozenset((*_TYPES, *_KEYWORDS))


class Template:
    """A chat template; ``marks`` are the special tokens of its model's vocabulary.

    ``own`` are those of reasoning, which keep their meaning in the model's own turns.
    Raises ``TemplateRefusalError`` for text that is not a template.
    """

    def __init__(
        self,
        source: str,
        *,
        bos: str,
        eos: str,
        marks: Sequence[str] = (),
        own: Sequence[str] = (),
    ) -> None:
        self._marks = Marks(marks)
        self._own = re.compile(f"({'|'.join(map(re.escape, own)) or '(?!)'})")
        self._writer = Writer(source, bos=bos, eos=eos)
        self._fitting = Fitting(self._writer, self._marks)

    def render(
        self,
        turns: Sequence[Turn],
        *,
        tools: Sequence[Turn] = (),
        effort: str | None = None,
        shows_tools: bool = True,
    ) -> Rendered:
        """The prompt of a conversation.

        ``effort`` "none" turns reasoning off; a template that knows nothing of it refuses. With
        ``shows_tools`` off, tools are instructions although the template may know them. A last
        turn of the model's own is gone on from. Raises ``TemplateRefusalError``.
        """
        values = self._writer.thinking(effort)
        whole = Conversation(_without_empty_answer(turns), tools)
        fit = self._fitting.fit(whole, values, shows_tools=shows_tools)
        said = whole.texts
        guard = free_character(self._writer.text + said)
        end = free_character(self._writer.text + said, but=guard)
        shown = whole
        if self._marks.found(said):
            shown = self._guarded(whole, lambda text: self._marks.broken(text, guard))
        text = self._writer.prompt(shown, fit.variant, values, end)
        if self._marks.found(text) != fit.marks:  # two texts together read like a mark
            shown = self._guarded(whole, lambda text: self._enclosed(text, guard))
            text = self._writer.prompt(shown, fit.variant, values, end)
        text = text.replace(json.dumps(guard)[1:-1], guard)  # where a template escapes letters
        return Rendered(
            text,
            guard=guard if guard in text else "",
            shows_tools=bool(tools) and TOOLS_AS_TEXT[0] not in fit.variant,
            begun=whole.turns[-1]["content"] if whole.is_continued else "",
        )

    def written(self, turns: Sequence[Turn], tools: Sequence[Turn]) -> str | None:
        """What the template makes of past calls in its own way; None where it loses them.

        It tells in which format its model calls tools.
        """
        whole = Conversation(turns, tools)
        try:
            fit = self._fitting.fit(whole, {}, shows_tools=True)
            is_native = fit.variant.isdisjoint(TOOLS_AS_TEXT[:2])
            return self._writer.prompt(whole, fit.variant, {}, "") if is_native else None
        except TemplateRefusalError:
            return None

    def _guarded(self, whole: Conversation, guard: Change) -> Conversation:
        """All texts guarded; the marks of reasoning in the model's own words are its own."""

        def own(text: str) -> str:
            parts = self._own.split(text)
            return "".join(part if number % 2 else guard(part) for number, part in enumerate(parts))

        return whole.changed(guard, own)

    def _enclosed(self, text: str, guard: str) -> str:
        return text if text in _SCHEMA_WORDS else self._marks.enclosed(text, guard)


def _without_empty_answer(turns: Sequence[Turn]) -> Sequence[Turn]:
    """A last turn of the model's that says nothing is the place of its answer."""
    last = turns[-1] if turns else {}
    is_empty = last.get("role") == "assistant" and not (last["content"] or calls_of(last))
    return turns[:-1] if is_empty and len(turns) > 1 else turns


_LEAST_OUTPUT, _OUTPUT_FACTOR = 2**20, 8


def main() -> None:
    """Answer requests until the input ends: ``setup`` first, then ``render`` and ``written``."""
    _limit_itself()
    template: Template | None = None
    for line in sys.stdin.buffer:
        faulthandler.dump_traceback_later(WALL_SECONDS, exit=True)
        request = json.loads(line)
        try:
            if request["op"] == "setup":
                template = Template(
                    request["source"],
                    bos=request["bos"],
                    eos=request["eos"],
                    marks=request["marks"],
                    own=request["own"],
                )
                answer: dict[str, Any] = {}
            else:
                assert template is not None  # noqa: S101 - the setup was answered
                limit = _LEAST_OUTPUT + _OUTPUT_FACTOR * len(line)
                answer = _ANSWERS[request["op"]](template, request, limit)
        except TemplateRefusalError as error:
            answer = {"problem": str(error)}
        except MemoryError:
            answer = {"problem": "its chat template exceeds the memory limit"}
        except RecursionError:
            answer = {
                "problem": "its chat template rejected the conversation: it is nested too deeply"
            }
        faulthandler.cancel_dump_traceback_later()
        sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n")
        sys.stdout.buffer.flush()


def _rendered(template: Template, request: dict[str, Any], limit: int) -> dict[str, Any]:
    rendered = template.render(
        request["turns"],
        tools=request["tools"],
        effort=request["effort"],
        shows_tools=request["shows_tools"],
    )
    if len(rendered.text) > limit:
        problem = f"its chat template wrote {len(rendered.text):,} characters (at most {limit:,})"
        raise TemplateRefusalError(problem)
    return {
        "text": rendered.text,
        "guard": rendered.guard,
        "shows_tools": rendered.shows_tools,
        "begun": rendered.begun,
    }


def _written(template: Template, request: dict[str, Any], limit: int) -> dict[str, Any]:
    text = template.written(request["turns"], request["tools"])
    return {"text": text if len(text or "") <= limit else None}


_ANSWERS = {"render": _rendered, "written": _written}


def _limit_itself() -> None:
    """Give up what rendering needs not, as far as the system has such limits."""
    with suppress(ImportError, OSError, ValueError):  # Windows has none
        import resource

        import psutil

        most = psutil.Process().memory_info().vms + MEMORY_BYTES
        limits = {
            resource.RLIMIT_AS: most,
            resource.RLIMIT_FSIZE: 0,
            resource.RLIMIT_CORE: 0,
        }
        for limit, value in limits.items():
            with suppress(OSError, ValueError):
                resource.setrlimit(limit, (value, value))


if __name__ == "__main__":
    main()
