"""Whether a conversation fits into a model's context, and what becomes of it where it does not."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from nbllm.core.conversations.conversation import Conversation, Summary, Turn
from nbllm.core.errors import ContextLengthError
from nbllm.core.kinds import kind_of
from nbllm.core.model_interface import ModelInterface
from nbllm.core.types import GenerationOptions, Message

__all__ = ["OVERFLOWS", "Fitted", "fitted"]

OVERFLOWS = ("error", "drop-oldest", "summarise")
ANSWER_TOKENS, SUMMARY_TOKENS = 256, 200
"""What is kept free for an answer and a summary; in a short context a part of it."""
SUMMARY_FRAME_TOKENS = 16
"""What stands around a summary when it is sent."""
_ASK_SUMMARY = (
    "Summarise this conversation in at most 120 words. Keep names, numbers, decisions and open "
    "questions. Write the summary only.\n\n"
)


@dataclass(frozen=True, slots=True)
class Fitted:
    """What is sent of a conversation; ``words`` tell what was left out, "" where nothing was."""

    conversation: Conversation
    messages: tuple[Message, ...]
    words: str = ""


async def fitted(
    model: ModelInterface,
    conversation: Conversation,
    question: Message,
    options: GenerationOptions,
    overflow: str,
) -> Fitted:
    """What to send for ``question`` behind ``conversation``.

    Tokens are counted where the model is here or something is to be done about too many; a vendor
    is not asked for a count that its answer tells anyway. Raises ``ContextLengthError``.
    """
    whole = Fitted(conversation, conversation.messages(question))
    limit = model.info.context_length
    if limit is None or not (kind_of(model.info).counts_freely or overflow != "error"):
        return whole
    room = limit - _reserved(model, options, limit)
    if await _tokens(model, whole.messages) <= room:
        return whole
    if overflow == "error":
        raise await _too_long(model, whole, limit, room)
    length = min(SUMMARY_TOKENS, limit // 8)
    spare = length + SUMMARY_FRAME_TOKENS if overflow == "summarise" else 0

    async def fits(drop: int) -> bool:
        messages = _without(conversation, drop).messages(question)
        return await _tokens(model, messages) <= room - spare

    drop = await _fewest(len(conversation.unsummarised), fits)
    if drop is None:
        raise await _too_long(model, whole, limit, room, is_question=True)
    if overflow == "drop-oldest":
        shorter = _without(conversation, drop).messages(question)
        return Fitted(conversation, shorter, f"{_oldest(drop)} left out")
    summarised = await _summarised(model, conversation, drop, room, length)
    return Fitted(summarised, summarised.messages(question), f"{_oldest(drop)} summarised")


def _reserved(model: ModelInterface, options: GenerationOptions, limit: int) -> int:
    """Tokens to keep free for the answer."""
    wanted = options.max_tokens or model.info.options.max_tokens or ANSWER_TOKENS
    return min(wanted, limit // 4)


async def _tokens(model: ModelInterface, messages: tuple[Message, ...]) -> int:
    return (await model.count_tokens(messages)).tokens


def _without(conversation: Conversation, drop: int) -> Conversation:
    """To be sent without its ``drop`` oldest turns; a summary of older ones goes with them."""
    if not drop:
        return conversation
    return replace(conversation, turns=conversation.unsummarised[drop:], summary=None)


async def _fewest(count: int, fits: Callable[[int], Awaitable[bool]]) -> int | None:
    """The smallest number from 1 to ``count`` that ``fits``; None if not even ``count`` does.

    Dropping more never fits worse, so that halving finds it.
    """
    if count < 1 or not await fits(count):
        return None
    low, high = 1, count
    while low < high:
        middle = (low + high) // 2
        if await fits(middle):
            high = middle
        else:
            low = middle + 1
    return low


async def _too_long(
    model: ModelInterface, whole: Fitted, limit: int, room: int, *, is_question: bool = False
) -> ContextLengthError:
    tokens, turns = await _tokens(model, whole.messages), len(whole.conversation.turns)
    if is_question or not turns:
        problem = "the prompt alone exceeds the context; shorten it"
    else:
        problem = (
            f"the conversation {whole.conversation.name!r} ({turns} turn{'s' * (turns != 1)}) has "
            f"{tokens:,} tokens, but the context of {limit:,} tokens holds {room:,} besides an "
            f"answer of {limit - room:,}; add --overflow drop-oldest or --overflow summarise"
        )
    has_room = kind_of(model.info).takes_memory
    larger = ", or load the model with a larger --ctx" if has_room else ""
    return ContextLengthError(
        model.name, f"{problem}{larger}", prompt_tokens=tokens, context_length=limit
    )


def _oldest(count: int) -> str:
    return f"the {count} oldest turns were" if count > 1 else "the oldest turn was"


async def _summarised(
    model: ModelInterface, conversation: Conversation, count: int, room: int, length: int
) -> Conversation:
    """With a summary of ``length`` tokens by the model in the place of the ``count`` oldest turns.

    ``room`` is how many tokens the model can read for it.
    """
    turns = conversation.unsummarised[:count]
    earlier = conversation.summary
    prompt = _transcript(turns, earlier)
    tokens = await _tokens(model, (Message("user", _ASK_SUMMARY + prompt),))
    if tokens > room:
        prompt = _transcript(turns, earlier, share=0.9 * room / tokens)
    result = await model.generate(_ASK_SUMMARY + prompt, max_tokens=length, temperature=0)
    covered = (*(earlier.places if earlier else ()), *(turn.place for turn in turns))
    return replace(conversation, summary=Summary(result.text.strip(), covered))


def _transcript(turns: tuple[Turn, ...], earlier: Summary | None, *, share: float = 1) -> str:
    """The turns to be summarised, each text cut to its ``share``."""
    head = [f"Before: {earlier.text}"] if earlier else []
    said = (message for turn in turns for message in turn.messages)
    lines = (
        f"{message.role}: {message.text[: int(len(message.text) * share)]}" for message in said
    )
    return "\n\n".join([*head, *lines])
