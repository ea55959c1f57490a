"""``--chat``: sends the turns before, records the new one, and tells how full the context is."""

from __future__ import annotations

import warnings
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime, timezone

from nbllm.core.conversations.saved_conversation import Conversation, Summary, Turn, check_name
from nbllm.core.errors import ContextLengthError, InvalidOptionError
from nbllm.core.kinds import kind_of
from nbllm.core.model_interface import ModelInterface
from nbllm.core.texts import trimmed
from nbllm.core.types import GenerationOptions, GenerationResult, Message, ModelInfo
from nbllm.core.words import counted
from nbllm.notebook.asking.question import Question, Step
from nbllm.notebook.chat.chats import Chats, Place, running_cell

__all__ = ["OVERFLOWS", "ChatStep", "fitted"]

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
            f"the conversation {whole.conversation.name!r} ({counted(turns, 'turn')}) has "
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


@dataclass(frozen=True, slots=True)
class _Chat:
    """The conversation that a question belongs to, and where in it."""

    name: str
    place: Place


@dataclass(frozen=True, slots=True)
class _Sent:
    """A question that was sent as a turn: what to record of its answer, and to tell about it.

    ``before`` is the conversation in front of it. ``restored`` tells that it was read from a file,
    ``left_out`` what did not fit, ``problem`` why it could not be saved; "" where nothing is to be
    told.
    """

    turn: Turn
    before: Conversation
    restored: str
    left_out: str
    is_again: bool
    context_length: int | None
    problem: str


class ChatStep(Step):
    """A question's place in a conversation, which is named by ``--chat``."""

    flags = ("chat", "overflow")
    _chat: _Chat | None = None
    _sent: _Sent | None = None

    def prepare(self, question: Question) -> Question:
        """Find the conversation, and the place of this cell in it."""
        flags = question.flags
        if not flags.chat:
            if flags.overflow is not None:
                raise InvalidOptionError("overflow", "it applies to conversations; add --chat NAME")
            return question
        name = check_name(flags.chat)
        self._chats.find(name)  # a file that cannot be read is told before a model is loaded
        self._chats.refresh(name)
        self._chat = _Chat(name, self._chats.place(name, running_cell(self.session.shell)))
        return question

    def preview(self, question: Question, info: ModelInfo | None) -> Question:
        """Put all turns before the question."""
        if self._chat is None:
            return question
        before = self._before(self._chat, question)
        return replace(question, messages=before.messages(question.messages[-1]))

    async def fit(self, question: Question, model: ModelInterface) -> Question:
        """Put the turns before the question, as far as they fit, and note that it was asked."""
        if self._chat is None or question.begun:  # an answer that goes on has its turn already
            return question
        before = self._before(self._chat, question)
        overflow = question.flags.overflow or "error"
        fit = await fitted(model, before, question.messages[-1], question.options, overflow)
        self._sent = self._record(self._chat, question, fit, before, model.info.context_length)
        return replace(question, messages=fit.messages)

    def remark(self, question: Question, result: GenerationResult) -> str:
        """Where in the conversation the answer stands, what was left out, what was not saved."""
        sent = self._sent
        if self._chat is None or sent is None or question.begun:
            return ""
        chat = self._chats.find(self._chat.name) or sent.before
        place = _place_message(chat, sent.turn.place, is_again=sent.is_again)
        context = _context_message(result, sent.context_length)
        parts = (sent.restored, place, sent.left_out, context, sent.problem)
        return " · ".join(filter(None, parts))

    def deliver(self, question: Question, result: GenerationResult) -> None:
        """Record the answer, a partial one too; a failure to save is told unless it was before."""
        if self._chat is None or self._sent is None:
            return
        name, before = self._chat.name, self._sent.problem
        self._chats.settle(name, self._sent.turn.answered(result))
        problem = self._chats.problem(name)
        if problem and (problem != before or not self.session.settings.show_status):
            warnings.warn(problem, stacklevel=2)

    @property
    def _chats(self) -> Chats:
        return self.session.chats

    def _before(self, chat: _Chat, question: Question) -> Conversation:
        """What stands before the question: the turns above its place, and the system prompt."""
        conversation = self._chats.find(chat.name) or Conversation(name=chat.name)
        fresh = _without_leftovers(conversation, chat.place)
        index = fresh.index(chat.place.key)
        previous = chat.place.previous
        if index is None and previous is not None:
            before = fresh.index(previous)
            index = None if before is None else before + 1
        return replace(fresh.until(index), system=_system(question, conversation))

    def _record(
        self, chat: _Chat, question: Question, fit: Fitted, before: Conversation, limit: int | None
    ) -> _Sent:
        """Put the question into the conversation as a turn that waits for its answer."""
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        typed = trimmed(question.text) if question.replaced else ""
        turn = Turn(place=chat.place.key, question=question.messages[-1], asked_at=now, typed=typed)
        restored = self._chats.take_restored(chat.name)

        def put(conversation: Conversation) -> Conversation:
            fresh = _without_leftovers(conversation, chat.place)
            kept = fresh.put(turn, after=chat.place.previous)
            is_given = question.flags.system is not None
            system = before.system if is_given else conversation.system
            return replace(kept, system=system, summary=fit.conversation.summary or kept.summary)

        is_again = self._chats.begin(chat.name).index(turn.place) is not None
        self._chats.update(chat.name, put)
        problem = self._chats.problem(chat.name)
        return _Sent(turn, before, restored, fit.words, is_again, limit, problem)


def _without_leftovers(chat: Conversation, place: Place) -> Conversation:
    return chat.without({t.place for t in chat.turns if place.is_leftover(t.place)})


def _system(question: Question, chat: Conversation) -> str | None:
    """That of the flag, else the conversation's, else the one in the settings."""
    first, *more = question.messages
    given = first.text if more and first.role == "system" else None
    return given if question.flags.system is not None or chat.system is None else chat.system


def _place_message(chat: Conversation, place: str, *, is_again: bool) -> str:
    index = chat.index(place)
    if index is None:
        return f"chat {chat.name}"
    later = len(chat.turns) - index - 1
    message = f"chat {chat.name}, turn {index + 1}"
    if is_again:
        message += " re-run"
    if later:
        message += f" (the {later} after it {'was' if later == 1 else 'were'} answered before)"
    return message


def _context_message(result: GenerationResult, limit: int | None) -> str:
    used = result.usage.total_tokens
    return f"{used:,} of {limit:,} tokens of context" if used and limit else ""
