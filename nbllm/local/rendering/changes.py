"""The same conversation in another form, each function by one change.

When they are made and in which order is told in ``alterations``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import replace

from nbllm.local.rendering.template_turns import Conversation, Turn, calls_of

__all__ = [
    "in_parts",
    "merged",
    "unaltered",
    "with_calls_as_text",
    "with_instructions",
    "with_json_arguments",
    "with_named_ids",
    "with_null_content",
    "with_properties",
    "with_results_as_text",
    "with_short_ids",
    "with_single_calls",
    "with_system_in_user",
    "without_empty_answers",
    "without_reasoning",
]

_INSTRUCTIONS = """You may call tools. They are described here as JSON schemas:
{tools}
Answer with one JSON object and nothing else. To call a tool, write \
{{"tool_call": {{"name": …, "arguments": {{…}}}}}}. Otherwise write {{"response": "…"}} with your \
whole answer."""
_ID_LENGTH = 9  # of Mistral's templates, which refuse every other

# ---------------------------------------------------------------- tools and calls


def with_properties(conversation: Conversation) -> Conversation:
    """Parameters with all that templates read without looking whether it is there."""
    tools = [
        {**tool, "function": _function_with_properties(tool["function"])}
        for tool in conversation.tools
    ]
    return replace(conversation, tools=tools)


def _function_with_properties(function: Turn) -> Turn:
    parameters = {"type": "object", "properties": {}, "required": [], **function["parameters"]}
    properties = parameters["properties"]
    if isinstance(properties, dict):
        properties = {
            name: {"description": "", **each} if isinstance(each, dict) else each
            for name, each in properties.items()
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


def with_short_ids(conversation: Conversation) -> Conversation:
    """Ids of nine letters and digits, which Mistral's templates demand."""
    return _renamed(conversation, {each: _short(each) for each in _ids(conversation)})


def with_named_ids(conversation: Conversation) -> Conversation:
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


def with_json_arguments(conversation: Conversation) -> Conversation:
    """Arguments as JSON text, where they were objects."""
    return _with_calls(conversation, _json_call)


def _json_call(call: Turn) -> Turn:
    function = call["function"]
    arguments = function["arguments"]
    text = arguments if isinstance(arguments, str) else _json(arguments)
    return {**call, "function": {**function, "arguments": text}}


def with_null_content(conversation: Conversation) -> Conversation:
    """None beside calls, where there are no words."""
    turns = [
        {**turn, "content": turn["content"] or None} if calls_of(turn) else turn
        for turn in conversation.turns
    ]
    return replace(conversation, turns=turns)


def without_reasoning(conversation: Conversation) -> Conversation:
    """Without the reasoning behind calls."""
    hidden = ("reasoning_content", "thinking")
    turns = [
        {key: value for key, value in turn.items() if key not in hidden}
        for turn in conversation.turns
    ]
    return replace(conversation, turns=turns)


def with_single_calls(conversation: Conversation) -> Conversation:
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


def with_instructions(conversation: Conversation) -> Conversation:
    """The tools in the system text, with the JSON that calls them."""
    turns = list(conversation.turns)
    listed = "\n".join(_json(tool["function"]) for tool in conversation.tools)
    text = _INSTRUCTIONS.format(tools=listed)
    if turns and turns[0]["role"] == "system":
        text = f"{turns.pop(0)['content']}\n\n{text}"
    return Conversation([{"role": "system", "content": text}, *turns])


def with_calls_as_text(conversation: Conversation) -> Conversation:
    """As nbllm's instructions ask for them; as JSON where the template writes the tools."""
    key = None if conversation.tools else "tool_call"
    turns = [_call_text(turn, key) if calls_of(turn) else turn for turn in conversation.turns]
    return replace(conversation, turns=turns)


def _call_text(turn: Turn, key: str | None) -> Turn:
    written = "\n".join(
        _json({key: call["function"]} if key else call["function"]) for call in calls_of(turn)
    )
    return {"role": turn["role"], "content": f"{turn['content'] or ''}{written}"}


def with_results_as_text(conversation: Conversation) -> Conversation:
    """Results of tools as a user's words."""
    turns = [
        {"role": "user", "content": f"The tool {turn['name']} gave:\n{turn['content']}"}
        if turn["role"] == "tool"
        else turn
        for turn in conversation.turns
    ]
    return replace(conversation, turns=turns)


# ---------------------------------------------------------------- roles and contents


def with_system_in_user(conversation: Conversation) -> Conversation:
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


def without_empty_answers(conversation: Conversation) -> Conversation:
    """Without the model's turns that say and call nothing."""
    return replace(conversation, turns=[t for t in conversation.turns if not _is_empty(t)])


def _is_empty(turn: Turn) -> bool:
    return turn["role"] == "assistant" and not (turn["content"] or calls_of(turn))


def merged(conversation: Conversation) -> Conversation:
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


def in_parts(conversation: Conversation) -> Conversation:
    """Contents as lists of parts."""
    turns = [
        {**turn, "content": [{"type": "text", "text": turn["content"]}]}
        if turn["content"]
        else turn
        for turn in conversation.turns
    ]
    return replace(conversation, turns=turns)


def unaltered(conversation: Conversation) -> Conversation:
    """The conversation itself."""
    return conversation


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
