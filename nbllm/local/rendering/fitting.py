"""``Fitting``: finds what has to be altered of a conversation for a template to render it whole.

Nothing is known of a template by name. A conversation of the same form, made of words that occur
nowhere else, is rendered: what is missing was dropped, and what was refused can be altered. The
cheapest alterations under which nothing is missing are the ones to make.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

from nbllm.local.rendering.alterations import (
    PARTS,
    TOOLS_AS_TEXT,
    Variant,
    applicable,
    as_text,
    variants,
)
from nbllm.local.rendering.jinja_writer import Writer
from nbllm.local.rendering.template_turns import (
    HELLO,
    Conversation,
    Marks,
    Turn,
    calls_of,
    free_character,
)
from nbllm.local.request_refusals import TemplateRefusalError

__all__ = ["Fit", "Fitting", "Probe", "probe_of"]

_WORD = re.compile(r"quonk[a-j]+x")  # in no language, and the same in capitals but for their size


@dataclass(frozen=True, slots=True)
class Probe:
    """``wanted`` are the words that must be rendered, ``keys`` those of arguments.

    Two conversations with the same ``key`` are of the same form.
    """

    conversation: Conversation
    wanted: frozenset[str]
    keys: frozenset[str]
    key: str

    def lost(self, text: str) -> int:
        """How many of the texts a rendered prompt lacks, or holds as Python in place of JSON."""
        low = text.lower()
        missing = self.wanted.difference(_WORD.findall(low))
        return len(missing) + sum(f"'{key}':" in low for key in self.keys)


class _Words:
    def __init__(self) -> None:
        self.wanted: set[str] = set()
        self.keys: set[str] = set()
        self._count = 0
        self._names: dict[str, str] = {}

    def fresh(self, text: str) -> str:
        """A word for a text; an empty one stays empty."""
        if not text:
            return text
        self._count += 1
        digits = str(self._count).translate(_LETTERS)
        return f"quonk{digits}x"

    def want(self, text: str) -> str:
        word = self.fresh(text)
        if word:
            self.wanted.add(word)
        return word

    def named(self, name: str, where: str) -> str:
        """The word of a tool, one for its description, its calls and its results each."""
        key = f"{where} {name}"
        if key not in self._names:
            self._names[key] = self.fresh(name)
        return self._names[key]


_LETTERS = str.maketrans("0123456789", "abcdefghij")


def probe_of(conversation: Conversation) -> Probe:
    """The probe of a conversation."""
    words = _Words()
    tools = [_tool(tool, words) for tool in conversation.tools]
    turns = [_turn(turn, words) for turn in conversation.turns]
    made = Conversation(turns, tools)
    return Probe(
        made,
        frozenset(words.wanted),
        frozenset(words.keys),
        json.dumps([turns, tools], ensure_ascii=False),
    )


def _tool(tool: Turn, words: _Words) -> Turn:
    function = tool["function"]
    name, description = words.named(function["name"], "tool"), words.want(function["description"])
    words.wanted |= {name} - {""}
    return {**tool, "function": {**function, "name": name, "description": description}}


def _turn(turn: Turn, words: _Words) -> Turn:
    calls = [_call(call, words) for call in calls_of(turn)]
    # Some templates give no words beside calls, and none give all reasoning.
    take = words.fresh if calls else words.want
    made = {**turn, "content": take(turn["content"] or "")}
    for key in ("reasoning_content", "thinking"):
        if key in turn:
            made[key] = words.fresh(turn[key])
    if isinstance(turn.get("name"), str):
        made["name"] = words.named(turn["name"], "result")
    return {**made, "tool_calls": calls} if calls else made


def _call(call: Turn, words: _Words) -> Turn:
    function = call["function"]
    name = words.named(function["name"], "call")
    words.wanted |= {name} - {""}
    return {**call, "function": {"name": name, "arguments": _value(function["arguments"], words)}}


def _value(value: Any, words: _Words) -> Any:
    if isinstance(value, str):
        return words.want(value)
    if isinstance(value, dict):
        made = {_key(key, each, words): _value(each, words) for key, each in value.items()}
        words.keys |= made.keys() - {""}
        return made
    return [_value(each, words) for each in value] if isinstance(value, list) else value


def _key(key: str, value: Any, words: _Words) -> str:
    """The word of an argument's name: one without a value may be left out."""
    return words.fresh(key) if value is None else words.want(key)


_TRIALS = 300
_KEPT = 64
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
class Fit:
    """What to alter in conversations of one form, and what then comes of them.

    ``marks`` are those that the template writes, ``lost`` counts the texts that it drops.
    """

    variant: Variant
    marks: Sequence[str]
    lost: int


class Fitting:
    """Fits conversations to the template of a writer; remembers those of the last ones."""

    def __init__(self, writer: Writer, marks: Marks) -> None:
        self._writer, self._marks = writer, marks
        self._fits: dict[str, Fit] = {}
        self._needed: dict[tuple[object, ...], Variant] = {}
        self._knows_tools: bool | None = None
        self._always: Variant = frozenset([PARTS]) if self._reads_parts() else frozenset()

    def fit(self, whole: Conversation, values: Mapping[str, Any], *, shows_tools: bool) -> Fit:
        """The fit of a conversation; without ``shows_tools``, of one whose tools are text.

        Raises ``TemplateRefusalError`` where the template refuses it whatever is altered.
        """
        forced = self._forced(whole, shows_tools=shows_tools)
        probe = probe_of(whole)
        key = f"{sorted(forced)}{sorted(values.items())}{probe.key}"
        if key not in self._fits:
            _keep(self._fits, key, self._found(probe, values, forced))
        return self._fits[key]

    @property
    def knows_tools(self) -> bool:
        """Whether the template writes the tools that a model may call."""
        if self._knows_tools is None:
            self._knows_tools = self._takes_tools(as_json=False) or self._takes_tools(as_json=True)
        return self._knows_tools

    def _takes_tools(self, *, as_json: bool) -> bool:
        self._writer.json_tools = as_json
        return any(map(self._shows_tools, ([], [_SYSTEM])))

    def _shows_tools(self, before: Sequence[Turn]) -> bool:
        probe = probe_of(Conversation([*before, HELLO], [_TOOL]))
        try:
            fit = self._found(probe, {}, self._always)
        except TemplateRefusalError:
            return False
        return TOOLS_AS_TEXT[0] not in fit.variant

    def _reads_parts(self) -> bool:
        """Whether it drops a content that is a text, and takes one that is a list of parts."""
        probe = probe_of(Conversation([HELLO]))
        with suppress(TemplateRefusalError):
            if not self._trial(probe, frozenset(), {}).lost:
                return False
        with suppress(TemplateRefusalError):
            return not self._trial(probe, frozenset([PARTS]), {}).lost
        return False

    def _forced(self, whole: Conversation, *, shows_tools: bool) -> Variant:
        """Tools, calls and results are all text where a template does not know tools."""
        has_tools = whole.tools or any(t["role"] == "tool" or calls_of(t) for t in whole.turns)
        is_text = has_tools and not (shows_tools and self.knows_tools)
        return self._always | (as_text(whole) if is_text else frozenset())

    def _found(self, probe: Probe, values: Mapping[str, Any], forced: Variant) -> Fit:
        """The cheapest variant that loses nothing, else the one that loses the least."""
        tools = json.dumps(probe.conversation.tools, ensure_ascii=False)
        features = (self._writer.json_tools, tools, forced, *applicable(probe.conversation))
        best: Fit | None = None
        refusal: TemplateRefusalError | None = None
        for variant in self._candidates(probe.conversation, forced, features):
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
        _keep(self._needed, features, best.variant)
        return best

    def _candidates(
        self, whole: Conversation, forced: Variant, features: tuple[object, ...]
    ) -> Iterator[Variant]:
        """First what the last conversation with the same features and tools needed.

        So the beginning of a conversation that grows stays as it was rendered before.
        """
        known = [self._needed[features]] if features in self._needed else []
        cheap = islice(variants(whole, forced), _TRIALS)
        all_text = islice(variants(whole, forced | as_text(whole)), _TRIALS)
        return chain(known, cheap, all_text)

    def _trial(self, probe: Probe, variant: Variant, values: Mapping[str, Any]) -> Fit:
        end = free_character(self._writer.text)
        text = self._writer.prompt(probe.conversation, variant, values, end)
        return Fit(variant, self._marks.found(text), probe.lost(text))


def _keep(kept: dict[Any, Any], key: object, value: object) -> None:
    """Keep a value, and no more than the newest of them."""
    kept[key] = value
    if len(kept) > _KEPT:
        del kept[next(iter(kept))]
