"""``--chat``: sends the turns before, records the new one, and tells how full the context is."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from datetime import datetime, timezone

from nbllm.core.conversations.conversation import Conversation, Turn, check_name
from nbllm.core.errors import InvalidOptionError
from nbllm.core.model_interface import ModelInterface
from nbllm.core.texts import trimmed
from nbllm.core.types import GenerationResult, ModelInfo
from nbllm.notebook.asking.question import Question
from nbllm.notebook.asking.step import Step
from nbllm.notebook.chat.budget import Fitted, fitted
from nbllm.notebook.chat.chats import Chats, Place
from nbllm.notebook.running_cell import running_cell

__all__ = ["ChatStep"]


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
