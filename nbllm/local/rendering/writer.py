"""``Writer``: a chat template with the values that it reads besides the conversation."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

from nbllm.local.refusals import TemplateRefusalError
from nbllm.local.rendering.alterations import APPENDED, Variant, altered
from nbllm.local.rendering.conversation import HELLO, Conversation, Turn
from nbllm.local.rendering.environment import Source

__all__ = ["Writer"]

_EFFORTS = ("enable_thinking", "thinking", "reasoning_effort")
_TOOLS = ("tools", "xml_tools", "functions")  # transformers', SmolLM 3's, Functionary's
_NOTHING: tuple[Callable[[str], dict[str, Any]], ...] = (
    lambda name: {},
    lambda name: {name: None},
    lambda name: {name: ""},
)
"""Ways to say that there are no tools."""


class Writer:
    """Writes conversations by a template, once altered. ``text`` is the template's.

    ``json_tools`` gives it the tools as a JSON text, which Firefunction wants, and not as a list.
    Raises ``TemplateRefusalError`` for text that is not a template.
    """

    def __init__(self, text: str, *, bos: str, eos: str) -> None:
        self.text, self.json_tools = text, False
        self._source = Source(text)
        now = datetime.now().strftime("%b %d %Y")
        self._constants: dict[str, Any] = {"bos_token": bos, "eos_token": eos, "datetime": now}
        self._tools = next((name for name in _TOOLS if name in self._source.names), "tools")
        self._leave_out_tools()

    def _leave_out_tools(self) -> None:
        """Where there are no tools, the name is undefined, or what makes less of it.

        ``tools|length`` takes no None, ``tools is not none`` is true of what is undefined, and
        ``"…" + functions`` takes a text only.
        """
        lengths = {}
        for number, nothing in enumerate(_NOTHING):
            with suppress(TemplateRefusalError):
                lengths[number] = len(self._written(Conversation([HELLO]), nothing(self._tools)))
        best = min(lengths, key=lambda number: (lengths[number], number), default=0)
        self._constants |= _NOTHING[best](self._tools)

    def thinking(self, effort: str | None) -> dict[str, Any]:
        """What templates call it: Qwen and many others, DeepSeek and Granite, gpt-oss.

        Raises ``TemplateRefusalError`` where this one knows nothing of it.
        """
        if effort is None:
            return {}
        if self._source.names.isdisjoint(_EFFORTS):
            raise TemplateRefusalError(
                "its chat template does not support reasoning_effort; leave it unset"
            )
        thinks = effort != "none"
        named = {"reasoning_effort": effort} if thinks else {}
        return {"enable_thinking": thinks, "thinking": thinks, **named}

    def prompt(
        self, whole: Conversation, variant: Variant, values: Mapping[str, Any], end: str
    ) -> str:
        """The text, cut behind the words to go on from; ``end`` marks their end meanwhile."""
        if not whole.is_continued:
            return self._written(altered(whole, variant), values)
        if APPENDED in variant:
            before = Conversation(whole.turns[:-1], whole.tools)
            begun: str = whole.turns[-1]["content"]
            return self._written(altered(before, variant), values) + begun
        text = self._written(altered(whole.ended(end), variant), values, answers=False)
        if end not in text:
            raise TemplateRefusalError("its chat template drops the beginning of the answer")
        return text[: text.rindex(end)].replace(end, "")

    def _written(
        self, shown: Conversation, values: Mapping[str, Any], *, answers: bool = True
    ) -> str:
        tools = {self._tools: self._form(shown.tools)} if shown.tools else {}
        return self._source.render(
            {
                **self._constants,
                "messages": list(shown.turns),
                "add_generation_prompt": answers,
                **values,
                **tools,
            }
        )

    def _form(self, tools: Sequence[Turn]) -> str | list[Turn]:
        if not self.json_tools:
            return list(tools)
        return json.dumps([tool["function"] for tool in tools], ensure_ascii=False)
