"""Conversations as one prompt text, by the chat template that the model file carries."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jinja2 import TemplateError
from llama_cpp.llama_chat_format import Jinja2ChatFormatter

from nbllm.local.reading.output_format import OutputFormat, format_of

__all__ = ["ChatTemplate", "Prompt", "TemplateRefusalError"]

Turn = Mapping[str, Any]

_TOOLS = re.compile(r"\btools\b")
_EFFORT = re.compile(r"\b(enable_thinking|thinking|reasoning_effort)\b")
_INSTRUCTIONS = """You may call tools. They are described here as JSON schemas:
{tools}
Answer with one JSON object and nothing else. To call a tool, write \
{{"tool_call": {{"name": …, "arguments": {{…}}}}}}. Otherwise write {{"response": "…"}} with your \
whole answer."""


class TemplateRefusalError(Exception):
    """The template does not take this conversation; the text says why."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A conversation as text; ``add_special`` says that the token that begins texts is missing.

    ``form`` tells what to look for in the answer.
    """

    text: str
    add_special: bool
    form: OutputFormat = field(default_factory=OutputFormat)


class ChatTemplate:
    """A model's template; rendered in Jinja's sandbox, since a file's template is untrusted.

    A model without one is a base model: its prompt is the text of the turns as it stands.
    Raises ``TemplateRefusalError`` for a template that is not valid Jinja.
    """

    def __init__(self, source: str | None, *, bos: str, eos: str) -> None:
        self._bos = bos
        self._source = source or ""
        try:
            self._formatter = source and Jinja2ChatFormatter(source, eos_token=eos, bos_token=bos)
        except TemplateError as error:
            raise TemplateRefusalError(f"its chat template is not valid: {error}") from None

    @property
    def all_marks(self) -> set[str]:
        """The marks of reasoning and calls that answers may hold."""
        return format_of(self._source, "", tools=True, knows_tools=True).marks

    def render(
        self, turns: Sequence[Turn], *, tools: Sequence[Turn] = (), effort: str | None = None
    ) -> Prompt:
        """The prompt of a conversation.

        A template that knows no system role gets the system's text before the first turn. One
        that knows no ``tools`` gets them as instructions, and calls as the JSON that those ask
        for. ``effort`` "none" turns reasoning off; a template that knows nothing of it refuses.
        """
        if not self._formatter:
            if tools:
                raise TemplateRefusalError("it is a base model, which cannot call tools")
            return Prompt("\n\n".join(turn["content"] for turn in turns), add_special=True)
        if effort is not None and not _EFFORT.search(self._source):
            raise TemplateRefusalError(
                "its chat template knows no reasoning effort; leave reasoning_effort out"
            )
        knows_tools = bool(_TOOLS.search(self._source))
        shown = list(turns) if knows_tools else _without_tools(turns, tools)
        values = _thinking(effort) | ({"tools": list(tools)} if tools and knows_tools else {})
        text = self._text(shown, values)
        form = format_of(self._source, text, tools=bool(tools), knows_tools=knows_tools)
        return Prompt(text, not (self._bos and text.startswith(self._bos)), form)

    def _text(self, turns: Sequence[Turn], values: Mapping[str, Any]) -> str:
        assert self._formatter  # noqa: S101 - for the type checker
        try:
            return self._formatter(messages=list(turns), **values).prompt  # type: ignore[arg-type]
        except (TemplateError, ValueError, TypeError) as error:
            if turns[0]["role"] == "system" and len(turns) > 1:
                return self._text(_without_system(turns), values)
            raise TemplateRefusalError(
                f"its chat template refused the conversation: {error}"
            ) from None


def _thinking(effort: str | None) -> dict[str, Any]:
    """What templates call it: Qwen and many others, DeepSeek and Granite, gpt-oss."""
    if effort is None:
        return {}
    thinks = effort != "none"
    named = {"reasoning_effort": effort} if thinks else {}
    return {"enable_thinking": thinks, "thinking": thinks, **named}


def _without_system(turns: Sequence[Turn]) -> list[Turn]:
    system, first, *rest = turns
    joined = f"{system['content']}\n\n{first['content']}"
    return [{**first, "content": joined}, *rest]


def _without_tools(turns: Sequence[Turn], tools: Sequence[Turn]) -> list[Turn]:
    """The conversation for a template that knows no tools: all of it in texts."""
    shown = [_as_text(turn) for turn in turns]
    if not tools:
        return shown
    listed = "\n".join(json.dumps(tool["function"], ensure_ascii=False) for tool in tools)
    instructions = _INSTRUCTIONS.format(tools=listed)
    if shown[0]["role"] == "system":
        instructions = f"{shown.pop(0)['content']}\n\n{instructions}"
    return [{"role": "system", "content": instructions}, *shown]


def _as_text(turn: Turn) -> Turn:
    if turn["role"] == "tool":
        return {"role": "user", "content": f"The tool {turn['name']} gave:\n{turn['content']}"}
    calls = [{"tool_call": call["function"]} for call in turn.get("tool_calls", ())]
    if not calls:
        return turn
    written = "\n".join(json.dumps(call, ensure_ascii=False) for call in calls)
    return {"role": turn["role"], "content": f"{turn['content'] or ''}{written}"}
