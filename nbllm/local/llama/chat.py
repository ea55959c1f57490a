"""Conversations as one prompt text, by the chat template that the model file carries."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from nbllm.local.formats.base import CallFormat
from nbllm.local.formats.llama import GENERIC
from nbllm.local.formats.table import FORMATS, PROBE, call_format
from nbllm.local.llama.vocabulary import Vocabulary
from nbllm.local.reading.output_format import BLOCKS, OutputFormat, format_of
from nbllm.local.rendering.client import Renderer
from nbllm.local.rendering.rendered import Rendered
from nbllm.local.rendering.template_turns import Conversation, Turn, free_character
from nbllm.local.request_refusals import TemplateRefusalError

__all__ = ["ChatTemplate", "Prompt", "TemplateRefusalError"]

_REASONING = [(block.open.strip(), block.close) for block in BLOCKS]

_PROBE_ID = f"functions.{PROBE.name}:0"  # Kimi's way: some of its templates write nothing else
_PROBE_TOOL: Turn = {
    "type": "function",
    "function": {
        "name": PROBE.name,
        "description": "Answers.",
        "parameters": {
            "type": "object",
            "properties": {key: {"type": "string"} for key in json.loads(PROBE.arguments)},
        },
    },
}


@dataclass(frozen=True, slots=True)
class Prompt:
    """A conversation as text; ``add_special`` says that the token that begins texts is missing.

    ``guard`` is in what reads like a special token and is none. ``form`` tells what to look for in
    the answer.
    """

    text: str
    add_special: bool
    guard: str = ""
    form: OutputFormat = field(default_factory=OutputFormat)


class ChatTemplate:
    """A model's template, which ``renderer`` renders; see ``nbllm.local.rendering``.

    A model without one is a base model: its prompt is the text of the turns as it stands.
    """

    def __init__(self, source: str | None, vocabulary: Vocabulary, renderer: Renderer) -> None:
        self._source = source or ""
        self._vocabulary, self._renderer = vocabulary, renderer
        self._bos, self._eos = vocabulary.special_texts()
        # The marks of a large vocabulary take a while, in which nobody may ask yet.
        self._setup = threading.Thread(target=self._set_up, daemon=True)
        self._setup.start()

    def _set_up(self) -> None:
        marks = self._vocabulary.marks
        if not self._source:
            self._renderer.close()
            return
        self._renderer.set_up(
            self._source,
            bos=self._bos,
            eos=self._eos,
            marks=marks.texts,
            own=[mark for block in _REASONING for mark in block if mark in self._source],
        )

    def check(self) -> None:
        """Raise ``TemplateRefusalError`` for a template that cannot be used at all."""
        self._setup.join()
        self._renderer.check()

    @property
    def all_marks(self) -> set[str]:
        """The marks of reasoning and calls that answers may hold."""
        marks = format_of(self._source, "", None).marks
        return marks.union(*(each.all_marks for each in FORMATS if each.is_in(self._source)))

    def render(
        self, turns: Sequence[Turn], *, tools: Sequence[Turn] = (), effort: str | None = None
    ) -> Prompt:
        """The prompt of a conversation; a last turn of the model's own is gone on from.

        ``effort`` "none" turns reasoning off. Raises ``TemplateRefusalError``.
        """
        self._setup.join()
        if not self._source:
            return self._plain(turns, tools)
        calls = self._calls if tools else None
        rendered = self._renderer.render(
            turns, tools=tools, effort=effort, shows_tools=calls is not GENERIC
        )
        if tools and not rendered.shows_tools:
            calls = GENERIC
        form = format_of(self._source, _opening(rendered), calls)
        add_special = not (self._bos and rendered.text.startswith(self._bos))
        return Prompt(rendered.text, add_special, rendered.guard, form)

    @cached_property
    def _calls(self) -> CallFormat:
        """How the model writes calls: as its template writes a past one."""
        function = {"name": PROBE.name, "arguments": json.loads(PROBE.arguments)}
        call = {"id": _PROBE_ID, "type": "function", "function": function}
        turns: list[Turn] = [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "content": "Hi", "tool_call_id": _PROBE_ID, "name": PROBE.name},
        ]
        return call_format(self._source, self._renderer.written(turns, [_PROBE_TOOL]))

    def _plain(self, turns: Sequence[Turn], tools: Sequence[Turn]) -> Prompt:
        if tools:
            raise TemplateRefusalError("it is a base model, which does not support tool calls")
        whole = Conversation(turns)
        guard = free_character(whole.texts)
        shown = whole.changed(lambda text: self._vocabulary.marks.broken(text, guard))
        text = "\n\n".join(turn["content"] for turn in shown.turns)
        return Prompt(text, add_special=True, guard=guard if guard in text else "")


def _opening(rendered: Rendered) -> str:
    """The prompt, up to where the words to go on from open a reasoning and do not close it."""
    begun = rendered.begun
    for opens, closes in _REASONING:
        at = begun.rfind(opens)
        if at >= 0 and closes not in begun[at:]:
            return rendered.text.removesuffix(begun) + begun[: at + len(opens)]
    return rendered.text
