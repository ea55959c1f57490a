"""What can be done to a conversation so that a template renders it whole.

Each alteration says the same in a form that more templates take, at a price: the more it departs
from the conversation as it was, the higher. Which are needed is found by rendering (``fitting``).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

from nbllm.local.rendering.changes import (
    in_parts,
    merged,
    unaltered,
    with_calls_as_text,
    with_instructions,
    with_json_arguments,
    with_named_ids,
    with_null_content,
    with_properties,
    with_results_as_text,
    with_short_ids,
    with_single_calls,
    with_system_in_user,
    without_empty_answers,
    without_reasoning,
)
from nbllm.local.rendering.template_turns import Conversation, calls_of

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


@dataclass(frozen=True, slots=True)
class Alteration:
    """``price`` is what it costs, ``applies`` whether it can change anything in a conversation."""

    price: int
    applies: Callable[[Conversation], bool]
    apply: Callable[[Conversation], Conversation]


def altered(conversation: Conversation, variant: Variant) -> Conversation:
    """The conversation after the alterations of a variant, in the order of the table."""
    for name, alteration in ALTERATIONS.items():
        if name in variant:
            conversation = alteration.apply(conversation)
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


def _has_calls(conversation: Conversation) -> bool:
    return any(map(calls_of, conversation.turns))


def _has_many_calls(conversation: Conversation) -> bool:
    return any(len(calls_of(turn)) > 1 for turn in conversation.turns)


def _has_long_ids(conversation: Conversation) -> bool:
    return with_short_ids(conversation) != conversation


def _has_empty_content(conversation: Conversation) -> bool:
    return any(calls_of(turn) and turn["content"] == "" for turn in conversation.turns)


def _has_bare_tools(conversation: Conversation) -> bool:
    return with_properties(conversation).tools != conversation.tools


def _has_reasoning(conversation: Conversation) -> bool:
    return any("reasoning_content" in turn for turn in conversation.turns)


def _has_role(role: str) -> Callable[[Conversation], bool]:
    return lambda conversation: any(turn["role"] == role for turn in conversation.turns)


def _has_system(conversation: Conversation) -> bool:
    return bool(conversation.tools) or _has_role("system")(conversation)


def _has_empty_answers(conversation: Conversation) -> bool:
    return len(without_empty_answers(conversation).turns) < len(conversation.turns)


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
    "properties": Alteration(1, _has_bare_tools, with_properties),
    "short ids": Alteration(1, _has_long_ids, with_short_ids),
    "named ids": Alteration(2, _has_calls, with_named_ids),
    "null content": Alteration(1, _has_empty_content, with_null_content),
    "JSON arguments": Alteration(2, _has_calls, with_json_arguments),
    "no reasoning": Alteration(3, _has_reasoning, without_reasoning),
    "single calls": Alteration(4, _has_many_calls, with_single_calls),
    TOOLS_AS_TEXT[0]: Alteration(18, _has_tools, with_instructions),
    TOOLS_AS_TEXT[1]: Alteration(9, _has_calls, with_calls_as_text),
    TOOLS_AS_TEXT[2]: Alteration(9, _has_role("tool"), with_results_as_text),
    "no empty answers": Alteration(3, _has_empty_answers, without_empty_answers),
    "system in user": Alteration(7, _has_system, with_system_in_user),
    "merged": Alteration(5, _may_repeat_roles, merged),
    APPENDED: Alteration(6, _is_continued, unaltered),
    PARTS: Alteration(2, _never, in_parts),
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
