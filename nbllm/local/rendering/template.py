"""``Template``: a chat template that renders conversations whole, or says why not.

Nothing is known of a template by name. A conversation of the same form, made of words that occur
nowhere else, is rendered first: what is missing was dropped, and what was refused can be altered
(``alterations``). The cheapest alteration under which nothing is missing is the one that is used.
"""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import chain, islice
from typing import Any

from nbllm.local.rendering.alterations import (
    APPENDED,
    PARTS,
    TOOLS_AS_TEXT,
    Variant,
    altered,
    applicable,
    as_text,
    variants,
)
from nbllm.local.rendering.conversation import Change, Conversation, Turn, calls_of
from nbllm.local.rendering.environment import Source
from nbllm.local.rendering.marks import Marks, free_character
from nbllm.local.rendering.probe import Probe, probe_of
from nbllm.local.rendering.refusal import TemplateRefusalError

__all__ = ["Rendered", "Template"]

_EFFORTS = ("enable_thinking", "thinking", "reasoning_effort")
_TOOLS = ("tools", "xml_tools", "functions")  # transformers', SmolLM 3's, Functionary's
_TRIALS = 300
_KEPT_FITS = 64
_TYPES = ("object", "array", "string", "number", "integer", "boolean", "null")
_KEYWORDS = ("type", "properties", "required", "items", "enum", "description", "default", "const")
_SCHEMA_WORDS = frozenset((*_TYPES, *_KEYWORDS))
_NOTHING: tuple[Callable[[str], dict[str, Any]], ...] = (
    lambda name: {},
    lambda name: {name: None},
    lambda name: {name: ""},
)
"""Ways to say that there are no tools."""
_HELLO: Turn = {"role": "user", "content": "Hello"}
_SYSTEM: Turn = {"role": "system", "content": "Be brief."}
_TOOL: Turn = {
    "type": "function",
    "function": {
        "name": "look",
        "description": "Looks.",
        "parameters": {
            "type": "object",
            "properties": {"at": {"type": "string", "description": "What at."}},
            "required": ["at"],
        },
    },
}


@dataclass(frozen=True, slots=True)
class Rendered:
    """A prompt. ``guard`` is in the marks that are not the template's (see ``marks``), "" if none.

    ``shows_tools`` says that the template wrote the tools, in its own way. ``begun`` are the words
    of the answer that stand at the prompt's end.
    """

    text: str
    guard: str = ""
    shows_tools: bool = False
    begun: str = ""


@dataclass(frozen=True, slots=True)
class _Fit:
    """The variant for conversations of one form, and the marks that the template writes then."""

    variant: Variant
    marks: list[str]
    lost: int


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
        self._source = Source(source)
        self._text = source
        self._marks = Marks(marks)
        self._own = re.compile(f"({'|'.join(map(re.escape, own)) or '(?!)'})")
        now = datetime.now().strftime("%b %d %Y")
        self._constants: dict[str, Any] = {"bos_token": bos, "eos_token": eos, "datetime": now}
        self._tools = next((name for name in _TOOLS if name in self._source.names), "tools")
        self._fits: OrderedDict[str, _Fit] = OrderedDict()
        self._needed: dict[tuple[object, ...], Variant] = {}
        self._knows_tools: bool | None = None
        self._form: Callable[[Sequence[Turn]], object] = list
        self._leave_out_tools()
        self._always: Variant = frozenset([PARTS]) if self._reads_parts() else frozenset()

    def _leave_out_tools(self) -> None:
        """Where there are no tools, the name is undefined, or what makes less of it.

        ``tools|length`` takes no None, ``tools is not none`` is true of what is undefined, and
        ``"…" + functions`` takes a text only.
        """
        lengths = {}
        for number, nothing in enumerate(_NOTHING):
            with suppress(TemplateRefusalError):
                lengths[number] = len(self._written(Conversation([_HELLO]), nothing(self._tools)))
        best = min(lengths, key=lambda number: (lengths[number], number), default=0)
        self._constants |= _NOTHING[best](self._tools)

    def _reads_parts(self) -> bool:
        """Whether it drops a content that is a text, and takes one that is a list of parts."""
        probe = probe_of(Conversation([_HELLO]))
        with suppress(TemplateRefusalError):
            if not self._trial(probe, frozenset(), {}).lost:
                return False
        with suppress(TemplateRefusalError):
            return not self._trial(probe, frozenset([PARTS]), {}).lost
        return False

    # ------------------------------------------------------------ rendering

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
        values = self._thinking(effort)
        whole = Conversation(_without_empty_answer(turns), tools)
        fit = self._fit(whole, values, shows_tools=shows_tools)
        said = whole.texts
        guard = free_character(self._text + said)
        end = free_character(self._text + said, but=guard)
        shown = whole
        if self._marks.found(said):
            shown = self._guarded(whole, lambda text: self._marks.broken(text, guard))
        text = self._prompt(shown, fit.variant, values, end)
        if self._marks.found(text) != fit.marks:  # two texts together read like a mark
            shown = self._guarded(whole, lambda text: self._enclosed(text, guard))
            text = self._prompt(shown, fit.variant, values, end)
        return Rendered(
            text,
            guard=guard if guard in text else "",
            shows_tools=bool(tools) and TOOLS_AS_TEXT[0] not in fit.variant,
            begun=whole.turns[-1]["content"] if whole.is_continued else "",
        )

    def _guarded(self, whole: Conversation, guard: Change) -> Conversation:
        """All texts guarded; the marks of reasoning in the model's own words are its own."""

        def own(text: str) -> str:
            parts = self._own.split(text)
            return "".join(part if number % 2 else guard(part) for number, part in enumerate(parts))

        return whole.changed(guard, own)

    def _enclosed(self, text: str, guard: str) -> str:
        return text if text in _SCHEMA_WORDS else self._marks.enclosed(text, guard)

    def _thinking(self, effort: str | None) -> dict[str, Any]:
        """What templates call it: Qwen and many others, DeepSeek and Granite, gpt-oss."""
        if effort is None:
            return {}
        if self._source.names.isdisjoint(_EFFORTS):
            raise TemplateRefusalError(
                "its chat template knows no reasoning effort; leave reasoning_effort out"
            )
        thinks = effort != "none"
        named = {"reasoning_effort": effort} if thinks else {}
        return {"enable_thinking": thinks, "thinking": thinks, **named}

    def _prompt(
        self, whole: Conversation, variant: Variant, values: Mapping[str, Any], end: str
    ) -> str:
        """The text, cut behind the words to go on from; ``end`` marks their end."""
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

    # ------------------------------------------------------------ fitting

    def _fit(self, whole: Conversation, values: Mapping[str, Any], *, shows_tools: bool) -> _Fit:
        probe = probe_of(whole)
        key = f"{shows_tools}{sorted(values.items())}{probe.key}"
        if key not in self._fits:
            self._fits[key] = self._found(
                probe, values, self._forced(whole, shows_tools=shows_tools)
            )
            if len(self._fits) > _KEPT_FITS:
                self._fits.popitem(last=False)
        self._fits.move_to_end(key)
        return self._fits[key]

    def _forced(self, whole: Conversation, *, shows_tools: bool) -> Variant:
        """Tools, calls and results are all text where a template does not know tools."""
        has_tools = whole.tools or any(t["role"] == "tool" or calls_of(t) for t in whole.turns)
        is_text = has_tools and not (shows_tools and self.knows_tools)
        return self._always | (as_text(whole) if is_text else frozenset())

    @property
    def knows_tools(self) -> bool:
        """Whether it writes the tools that a model may call."""
        if self._knows_tools is None:
            self._knows_tools = self._takes_tools(list) or self._takes_tools(_json_text)
        return self._knows_tools

    def _takes_tools(self, form: Callable[[Sequence[Turn]], object]) -> bool:
        self._form = form
        return any(map(self._shows_tools, ([], [_SYSTEM])))

    def _shows_tools(self, before: Sequence[Turn]) -> bool:
        probe = probe_of(Conversation([*before, _HELLO], [_TOOL]))
        try:
            fit = self._found(probe, {}, self._always)
        except TemplateRefusalError:
            return False
        return TOOLS_AS_TEXT[0] not in fit.variant

    def _found(self, probe: Probe, values: Mapping[str, Any], forced: Variant) -> _Fit:
        """The cheapest variant that loses nothing, else the one that loses the least.

        What the last conversation with the same features needed is tried first: as a conversation
        grows, its beginning stays as it was rendered before.
        """
        features = (forced, *applicable(probe.conversation))
        known = [self._needed[features]] if features in self._needed else []
        best: _Fit | None = None
        refusal: TemplateRefusalError | None = None
        cheap = islice(variants(probe.conversation, forced), _TRIALS)
        all_text = variants(probe.conversation, forced | as_text(probe.conversation))
        for variant in chain(known, cheap, islice(all_text, _TRIALS)):
            try:
                fit = self._trial(probe, variant, values)
            except TemplateRefusalError as error:
                refusal = refusal or error
                continue
            if best is None or fit.lost < best.lost:
                best = fit
            if not fit.lost:
                break
        if best is None:
            raise refusal or TemplateRefusalError("its chat template renders nothing")
        self._needed[features] = best.variant
        return best

    def _trial(self, probe: Probe, variant: Variant, values: Mapping[str, Any]) -> _Fit:
        end = free_character(self._text)
        text = self._prompt(probe.conversation, variant, values, end)
        return _Fit(variant, self._marks.found(text), probe.lost(text))


def _json_text(tools: Sequence[Turn]) -> str:
    return json.dumps([tool["function"] for tool in tools], ensure_ascii=False)


def _without_empty_answer(turns: Sequence[Turn]) -> Sequence[Turn]:
    """A last turn of the model's that says nothing is the place of its answer."""
    last = turns[-1] if turns else {}
    is_empty = last.get("role") == "assistant" and not (last["content"] or calls_of(last))
    return turns[:-1] if is_empty and len(turns) > 1 else turns
