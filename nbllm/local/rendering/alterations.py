"""What can be done to a conversation so that a template renders it whole.

Each alteration says the same in a form that more templates take, at a price: the more it departs
from the conversation as it was, the higher. Which are needed is found by rendering (``fitting``).
"""

from __future__ import annotations

import hashlib
import heapq
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TypeAlias

from nbllm.local.rendering.conversation import Conversation, Turn, calls_of

__all__ = [
    "APPENDED",
    "PARTS",
    "TOOLS_AS_TEXT",
    "Variant",
    "altered",
    "applicable",
    "as_text",
    "variants",
]

Variant: TypeAlias = frozenset[str]
"""The names of the alterations to make."""

APPENDED = "appended"
"""Words to go on from stand behind the prompt of an answer, where the template drops or refuses
them. The renderer does that; there is nothing to alter."""
PARTS = "parts"
"""Contents are lists of parts: a matter of the template, not of a conversation."""
TOOLS_AS_TEXT = ("instructions", "calls as text", "results as text")

_INSTRUCTIONS = """You may call tools. They are described here as JSON schemas:
{tools}
Answer with one JSON object and nothing else. To call a tool, write \
{{"tool_call": {{"name": …, "arguments": {{…}}}}}}. Otherwise write {{"response": "…"}} with your \
whole answer."""
_ID_LENGTH = 9  # of Mistral's templates, which refuse every other


@dataclass(frozen=True, slots=True)
class Alteration:
    """``price`` is what it costs, ``applies`` whether it can change anything in a conversation."""

    price: int
    applies: Callable[[Conversation], bool]
    apply: Callable[[Conversation, Variant], Conversation]


def altered(conversation: Conversation, variant: Variant) -> Conversation:
    """The conversation after the alterations of a variant, in the order of the table."""
    for name, alteration in ALTERATIONS.items():
        if name in variant:
            conversation = alteration.apply(conversation, variant)
    return conversation


def variants(conversation: Conversation, forced: Variant) -> Iterator[Variant]:
    """Sets of alterations that can matter to a conversation, the cheapest first."""
    names = [name for name in applicable(conversation) if name not in forced]
    prices = [ALTERATIONS[name].price for name in names]
    as_text = {name for name in TOOLS_AS_TEXT if name in names}
    queue: list[tuple[int, tuple[int, ...]]] = [(0, ())]
    while queue:
        price, chosen = heapq.heappop(queue)
        variant = forced | {names[place] for place in chosen}
        fits = TOOLS_AS_TEXT[0] not in variant or as_text <= variant  # instructions fit their calls
        if fits and not any(name in variant and variant & _NEEDLESS[name] for name in _NEEDLESS):
            yield variant
        for place in range(chosen[-1] + 1 if chosen else 0, len(names)):
            heapq.heappush(queue, (price + prices[place], (*chosen, place)))


# ---------------------------------------------------------------- tools and calls


def _padded(conversation: Conversation, variant: Variant) -> Conversation:
    """Parameters with all that templates read without looking whether it is there."""
    tools = [
        {**tool, "function": _with_properties(tool["function"])} for tool in conversation.tools
    ]
    return replace(conversation, tools=tools)


def _with_properties(function: Turn) -> Turn:
    parameters = {"type": "object", "properties": {}, "required": [], **function["parameters"]}
    properties = {
        name: {"description": "", **each} if isinstance(each, dict) else each
        for name, each in parameters["properties"].items()
    }
    return {**function, "parameters": {**parameters, "properties": properties}}


def _with_calls(
    conversation: Conversation, change: Callable[[Turn], Turn], **values: object
) -> Conversation:
    """With every call changed, and with these values in the turns that have calls."""
    turns = [
        {**turn, **values, "tool_calls": [change(call) for call in calls]} if calls else turn
        for turn in conversation.turns
        for calls in [calls_of(turn)]
    ]
    return replace(conversation, turns=turns)


def _same(call: Turn) -> Turn:
    return call


def _with_short_ids(conversation: Conversation, variant: Variant) -> Conversation:
    return _renamed(conversation, {each: _short(each) for each in _ids(conversation)})


def _with_named_ids(conversation: Conversation, variant: Variant) -> Conversation:
    """Ids as Kimi K2 makes them, whose template writes them in place of the names."""
    calls = [call for turn in conversation.turns for call in calls_of(turn)]
    named = (f"functions.{call['function']['name']}:{number}" for number, call in enumerate(calls))
    return _renamed(conversation, dict(zip((call.get("id") for call in calls), named, strict=True)))


def _ids(conversation: Conversation) -> list[str | None]:
    return [call.get("id") for turn in conversation.turns for call in calls_of(turn)]


def _renamed(conversation: Conversation, names: dict[str | None, str]) -> Conversation:
    """With other ids, of calls and of their results."""
    called = _with_calls(conversation, lambda call: {**call, "id": names[call.get("id")]})
    turns = [
        {**turn, "tool_call_id": names.get(given, given)} if turn["role"] == "tool" else turn
        for turn in called.turns
        for given in [turn.get("tool_call_id")]
    ]
    return replace(conversation, turns=turns)


def _short(call_id: str | None) -> str:
    text = call_id or ""
    is_short = len(text) == _ID_LENGTH and text.isalnum()
    return text if is_short else hashlib.sha256(text.encode()).hexdigest()[:_ID_LENGTH]


def _with_json_arguments(conversation: Conversation, variant: Variant) -> Conversation:
    return _with_calls(conversation, _json_call)


def _json_call(call: Turn) -> Turn:
    function = call["function"]
    arguments = function["arguments"]
    text = arguments if isinstance(arguments, str) else _json(arguments)
    return {**call, "function": {**function, "arguments": text}}


def _with_null_content(conversation: Conversation, variant: Variant) -> Conversation:
    turns = [
        {**turn, "content": turn["content"] or None} if calls_of(turn) else turn
        for turn in conversation.turns
    ]
    return replace(conversation, turns=turns)


def _without_reasoning(conversation: Conversation, variant: Variant) -> Conversation:
    hidden = ("reasoning_content", "thinking")
    turns = [
        {key: value for key, value in turn.items() if key not in hidden}
        for turn in conversation.turns
    ]
    return replace(conversation, turns=turns)


def _with_single_calls(conversation: Conversation, variant: Variant) -> Conversation:
    """Calls that were made at once, one behind the other, each followed by its result."""
    turns: list[Turn] = []
    left = list(conversation.turns)
    while left:
        turn = left.pop(0)
        if len(calls_of(turn)) < 2:
            turns.append(turn)
            continue
        count = next((n for n, each in enumerate(left) if each["role"] != "tool"), len(left))
        results, left = left[:count], left[count:]
        turns += _pairs(turn, results)
    return replace(conversation, turns=turns)


def _pairs(turn: Turn, results: list[Turn]) -> Iterator[Turn]:
    for number, call in enumerate(calls_of(turn)):
        known = [each for each in results if each.get("tool_call_id") == call.get("id")]
        result = known[:1] or results[:1]
        results = [each for each in results if each not in result]
        yield {**turn, "content": turn["content"] if not number else "", "tool_calls": [call]}
        yield from result
    yield from results


# ---------------------------------------------------------------- tools as text


def _with_instructions(conversation: Conversation, variant: Variant) -> Conversation:
    turns = list(conversation.turns)
    listed = "\n".join(_json(tool["function"]) for tool in conversation.tools)
    text = _INSTRUCTIONS.format(tools=listed)
    if turns and turns[0]["role"] == "system":
        text = f"{turns.pop(0)['content']}\n\n{text}"
    return Conversation([{"role": "system", "content": text}, *turns])


def _with_calls_as_text(conversation: Conversation, variant: Variant) -> Conversation:
    """As nbllm's instructions ask for them; as JSON where the template has its own."""
    key = None if conversation.tools and TOOLS_AS_TEXT[0] not in variant else "tool_call"
    turns = [_call_text(turn, key) if calls_of(turn) else turn for turn in conversation.turns]
    return replace(conversation, turns=turns)


def _call_text(turn: Turn, key: str | None) -> Turn:
    written = "\n".join(
        _json({key: call["function"]} if key else call["function"]) for call in calls_of(turn)
    )
    return {"role": turn["role"], "content": f"{turn['content'] or ''}{written}"}


def _with_results_as_text(conversation: Conversation, variant: Variant) -> Conversation:
    turns = [
        {"role": "user", "content": f"The tool {turn['name']} gave:\n{turn['content']}"}
        if turn["role"] == "tool"
        else turn
        for turn in conversation.turns
    ]
    return replace(conversation, turns=turns)


# ---------------------------------------------------------------- roles and contents


def _with_system_in_user(conversation: Conversation, variant: Variant) -> Conversation:
    """System texts before the first user turn behind them, or a user's where there is none."""
    turns: list[Turn] = []
    waiting: list[str] = []
    users = [number for number, turn in enumerate(conversation.turns) if turn["role"] == "user"]
    for number, turn in enumerate(conversation.turns):
        if turn["role"] == "system" and users and number < users[-1]:
            waiting.append(turn["content"])
        elif turn["role"] in ("user", "system"):
            content = "\n\n".join([*waiting, turn["content"]])
            turns.append({"role": "user", "content": content})
            waiting = []
        else:
            turns.append(turn)
    return replace(conversation, turns=turns)


def _without_empty_answers(conversation: Conversation, variant: Variant) -> Conversation:
    return replace(conversation, turns=[t for t in conversation.turns if not _is_empty(t)])


def _is_empty(turn: Turn) -> bool:
    return turn["role"] == "assistant" and not (turn["content"] or calls_of(turn))


def _merged(conversation: Conversation, variant: Variant) -> Conversation:
    """Neighbours of the same role as one turn."""
    turns: list[Turn] = []
    for turn in conversation.turns:
        if turns and _joins(turns[-1], turn):
            both = [each["content"] for each in (turns[-1], turn) if each["content"]]
            turns[-1] = {**turns[-1], **turn, "content": "\n\n".join(both)}
        else:
            turns.append(turn)
    return replace(conversation, turns=turns)


def _joins(first: Turn, second: Turn) -> bool:
    is_same = first["role"] == second["role"] != "tool"
    return is_same and not (calls_of(first) or calls_of(second))


def _in_parts(conversation: Conversation, variant: Variant) -> Conversation:
    turns = [
        {**turn, "content": [{"type": "text", "text": turn["content"]}]}
        if turn["content"]
        else turn
        for turn in conversation.turns
    ]
    return replace(conversation, turns=turns)


def _unaltered(conversation: Conversation, variant: Variant) -> Conversation:
    return conversation


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


# ---------------------------------------------------------------- where they apply


def _has_calls(conversation: Conversation) -> bool:
    return any(map(calls_of, conversation.turns))


def _has_many_calls(conversation: Conversation) -> bool:
    return any(len(calls_of(turn)) > 1 for turn in conversation.turns)


def _has_long_ids(conversation: Conversation) -> bool:
    return any(_short(each) != each for each in _ids(conversation))


def _has_empty_content(conversation: Conversation) -> bool:
    return any(calls_of(turn) and turn["content"] == "" for turn in conversation.turns)


def _has_bare_tools(conversation: Conversation) -> bool:
    functions = [tool["function"] for tool in conversation.tools]
    return any(_with_properties(function) != function for function in functions)


def _has_reasoning(conversation: Conversation) -> bool:
    return any("reasoning_content" in turn for turn in conversation.turns)


def _has_role(role: str) -> Callable[[Conversation], bool]:
    return lambda conversation: any(turn["role"] == role for turn in conversation.turns)


def _has_system(conversation: Conversation) -> bool:
    return bool(conversation.tools) or _has_role("system")(conversation)


def _has_empty_answers(conversation: Conversation) -> bool:
    return any(map(_is_empty, conversation.turns))


def _may_repeat_roles(conversation: Conversation) -> bool:
    roles = [turn["role"] for turn in conversation.turns]
    repeats = any(a == b for a, b in pairwise(roles))
    return repeats or "tool" in roles or "system" in roles[1:] or _has_empty_answers(conversation)


def _has_tools(conversation: Conversation) -> bool:
    return bool(conversation.tools)


def _is_continued(conversation: Conversation) -> bool:
    return conversation.is_continued


def _never(conversation: Conversation) -> bool:
    return False


ALTERATIONS: dict[str, Alteration] = {
    "properties": Alteration(1, _has_bare_tools, _padded),
    "short ids": Alteration(1, _has_long_ids, _with_short_ids),
    "named ids": Alteration(2, _has_calls, _with_named_ids),
    "null content": Alteration(1, _has_empty_content, _with_null_content),
    "JSON arguments": Alteration(2, _has_calls, _with_json_arguments),
    "no reasoning": Alteration(3, _has_reasoning, _without_reasoning),
    "single calls": Alteration(4, _has_many_calls, _with_single_calls),
    TOOLS_AS_TEXT[1]: Alteration(9, _has_calls, _with_calls_as_text),
    TOOLS_AS_TEXT[2]: Alteration(9, _has_role("tool"), _with_results_as_text),
    TOOLS_AS_TEXT[0]: Alteration(18, _has_tools, _with_instructions),
    "no empty answers": Alteration(3, _has_empty_answers, _without_empty_answers),
    "system in user": Alteration(7, _has_system, _with_system_in_user),
    "merged": Alteration(5, _may_repeat_roles, _merged),
    APPENDED: Alteration(6, _is_continued, _unaltered),
    PARTS: Alteration(2, _never, _in_parts),
}
"""By name, in the order in which they are made."""

_OF_CALLS = frozenset({"null content", "JSON arguments", "no reasoning", "single calls"})
_NEEDLESS: dict[str, Variant] = {
    TOOLS_AS_TEXT[0]: frozenset({"properties"}),
    TOOLS_AS_TEXT[1]: _OF_CALLS | {"named ids"},
    TOOLS_AS_TEXT[2]: frozenset({"short ids", "named ids"}),
}
"""What changes nothing any more once these are made."""


def applicable(conversation: Conversation) -> list[str]:
    """The alterations that can matter to a conversation."""
    return [name for name, each in ALTERATIONS.items() if each.applies(conversation)]


def as_text(conversation: Conversation) -> Variant:
    """The alterations that write tools as text, as far as they apply."""
    return frozenset(name for name in TOOLS_AS_TEXT if ALTERATIONS[name].applies(conversation))
