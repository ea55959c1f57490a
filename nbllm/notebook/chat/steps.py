"""``--chat``: sends the turns before, records the new one, and tells how full the context is."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from nbllm.core.conversations.conversation import Conversation, Turn, check_name
from nbllm.core.errors import InvalidOptionError
from nbllm.core.model_interface import ModelInterface
from nbllm.core.texts import trimmed
from nbllm.core.types import GenerationResult
from nbllm.notebook.chat.budget import fitted
from nbllm.notebook.chat.cells import running_cell
from nbllm.notebook.chat.chats import Place

if TYPE_CHECKING:
    from nbllm.notebook.asking.pipeline import Question
    from nbllm.notebook.session import NotebookSession

__all__ = ["AskedTurn", "deliver_chat", "fit_chat", "prepare_chat", "whole_conversation"]


@dataclass(frozen=True, slots=True)
class AskedTurn:
    """Where a question stands in which conversation; ``turn`` is there once it is asked.

    ``problem`` is why it could not be saved then, "" where it could.
    """

    name: str
    place: Place
    turn: Turn | None = None
    problem: str = ""


def prepare_chat(session: NotebookSession, question: Question) -> Question:
    """Find the conversation, and the place of this cell in it."""
    args = question.args
    if not args.chat:
        if args.overflow is not None:
            raise InvalidOptionError("overflow", "it applies to conversations; add --chat NAME")
        return question
    name = check_name(args.chat)
    session.chats.find(name)  # a file that cannot be read is told before a model is loaded
    session.chats.refresh(name)
    place = session.chats.place(name, running_cell(session.shell))
    return replace(question, chat=AskedTurn(name, place))


def whole_conversation(session: NotebookSession, question: Question) -> Conversation:
    """What stands before the question: the turns above its place, and the system prompt."""
    asked = question.chat
    if asked is None:
        raise ValueError("the prompt belongs to no conversation")
    chat = session.chats.find(asked.name) or Conversation(name=asked.name)
    fresh = _without_leftovers(chat, asked.place)
    index = fresh.index(asked.place.key)
    previous = asked.place.previous
    if index is None and previous is not None:
        before = fresh.index(previous)
        index = None if before is None else before + 1
    return replace(fresh.until(index), system=_system(question, chat))


async def fit_chat(session: NotebookSession, question: Question, model: ModelInterface) -> Question:
    """Put the turns before the question, as far as they fit, and note that it was asked."""
    asked = question.chat
    if asked is None or question.begun:  # an answer that goes on has its turn already
        return question
    message = question.messages[-1]
    before = whole_conversation(session, question)
    fit = await fitted(model, before, message, question.options, question.args.overflow or "error")
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    typed = trimmed(question.text) if question.replaced else ""
    turn = Turn(place=asked.place.key, question=message, asked_at=now, typed=typed)
    restored = session.chats.take_restored(asked.name)

    def put(chat: Conversation) -> Conversation:
        fresh = _without_leftovers(chat, asked.place)
        kept = fresh.put(turn, after=asked.place.previous)
        system = before.system if question.args.system is not None else chat.system
        summary = fit.conversation.summary or kept.summary
        return replace(kept, system=system, summary=summary)

    known = session.chats.begin(asked.name).index(turn.place) is not None
    session.chats.update(asked.name, put)
    problem = session.chats.problem(asked.name)

    def tell(result: GenerationResult) -> str:
        chat = session.chats.find(asked.name) or before
        words = [restored, _place_words(chat, turn.place, is_again=known), fit.words]
        words += [_budget_words(result, model.info.context_length), problem]
        return " · ".join(filter(None, words))

    return replace(
        question,
        messages=fit.messages,
        chat=replace(asked, turn=turn, problem=problem),
        remarks=(*question.remarks, tell),
    )


def deliver_chat(session: NotebookSession, question: Question, result: GenerationResult) -> None:
    """Record the answer, a partial one too; that it was not saved is told if it was not before."""
    asked = question.chat
    if asked is None or asked.turn is None:
        return
    session.chats.settle(asked.name, asked.turn.answered(result))
    problem = session.chats.problem(asked.name)
    if problem and (problem != asked.problem or not session.settings.show_status):
        warnings.warn(problem, stacklevel=2)


def _without_leftovers(chat: Conversation, place: Place) -> Conversation:
    return chat.without({t.place for t in chat.turns if place.is_leftover(t.place)})


def _system(question: Question, chat: Conversation) -> str | None:
    """That of the flag, else the conversation's, else the one in the settings."""
    first, *more = question.messages
    told = first.text if more and first.role == "system" else None
    return told if question.args.system is not None or chat.system is None else chat.system


def _place_words(chat: Conversation, place: str, *, is_again: bool) -> str:
    index = chat.index(place)
    if index is None:
        return f"chat {chat.name}"
    later = len(chat.turns) - index - 1
    words = f"chat {chat.name}, turn {index + 1}"
    if is_again:
        words += " re-run"
    if later:
        words += f" (the {later} after it {'was' if later == 1 else 'were'} answered before)"
    return words


def _budget_words(result: GenerationResult, limit: int | None) -> str:
    used = result.usage.total_tokens
    return f"{used:,} of {limit:,} tokens of context" if used and limit else ""
