"""The conversations as a table, and one of them for reading."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from nbllm.core.conversations.saved_conversation import Conversation
from nbllm.core.conversations.shown_conversation import to_html, to_markdown
from nbllm.notebook.chat.chats import Chats
from nbllm.notebook.tables import Table, make_table

__all__ = ["Transcript", "chats_table"]

_COLUMNS = {
    "chat": "string",
    "turns": "Int64",
    "incomplete": "Int64",
    "stale": "Int64",
    "context used (tokens)": "Int64",
    "model": "string",
    "last question": "string",
    "system": "string",
    "asked at (UTC)": "string",
    "file": "string",
}
_NOTHING_YET = "No conversations yet: %%llm --chat NAME starts one."
_CHARACTERS = 50


@dataclass(frozen=True, slots=True)
class Transcript:
    """A conversation for reading."""

    conversation: Conversation

    def __repr__(self) -> str:
        return to_markdown(self.conversation)

    def _repr_html_(self) -> str:
        return to_html(self.conversation)


def chats_table(chats: Chats, notes: Iterable[str] = ()) -> Table:
    """One row a conversation; ``notes`` are told below.

    "incomplete" counts answers that were stopped, failed, cut off or never came, "stale" those
    that were given before an earlier turn was changed.
    """
    rows = [_row(chats, chats.get(name)) for name in chats.names()]
    told = [*notes, *filter(None, map(chats.problem, chats.names()))]
    return make_table(
        rows,
        _COLUMNS,
        told if rows else [*told, _NOTHING_YET],
        where_any=("incomplete", "stale"),
        first_to_go=("asked at (UTC)", "file", "system", "context used (tokens)", "model"),
    )


def _row(chats: Chats, chat: Conversation) -> dict[str, object]:
    last = chat.turns[-1] if chat.turns else None
    file = chats.file(chat.name)
    return {
        "chat": chat.name,
        "turns": len(chat.turns),
        "incomplete": sum(not turn.is_whole for turn in chat.turns),
        "stale": sum(turn.is_stale for turn in chat.turns),
        "context used (tokens)": (last and last.usage.total_tokens) or None,
        "model": (last and last.model) or None,
        "last question": last and _shortened(last.asked),
        "system": chat.system and _shortened(chat.system),
        "asked at (UTC)": last and last.asked_at.partition("+")[0].replace("T", " "),
        "file": file and str(file),
    }


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _CHARACTERS else f"{line[: _CHARACTERS - 1]}…"
