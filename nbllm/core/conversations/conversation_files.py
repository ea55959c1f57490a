"""A conversation in its file, which other notebooks may write too: their turns are merged in.

The JSON holds all there is: images, reasoning and tool parts too. It names its format and version.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from nbllm.core import saved_files
from nbllm.core.conversations.conversation_reading import FORMAT, PARTS, VERSION, from_json
from nbllm.core.conversations.saved_conversation import Conversation, Turn, merged
from nbllm.core.errors import ConversationError
from nbllm.core.paths import absolute_path, read_text, reason
from nbllm.core.types import (
    ContentPart,
    ImagePart,
    Message,
    Usage,
)

__all__ = [
    "ChatFile",
    "read_conversation",
    "to_json",
    "write_copy",
]

_KIND_OF = {part: kind for kind, part in PARTS.items()}


# ---------------------------------------------------------------- JSON


def to_json(conversation: Conversation) -> str:
    """The whole conversation as readable JSON."""
    summary = conversation.summary
    value = {
        "format": FORMAT,
        "version": VERSION,
        "name": conversation.name,
        "system": conversation.system,
        "summary": summary and {"text": summary.text, "places": list(summary.places)},
        "turns": list(map(_turn_to_json, conversation.turns)),
    }
    return json.dumps(value, indent=1, ensure_ascii=False).encode(errors="replace").decode() + "\n"


def _turn_to_json(turn: Turn) -> dict[str, Any]:
    return {
        "place": turn.place,
        "asked_at": turn.asked_at,
        "question": _message_to_json(turn.question),
        "answer": turn.answer and _message_to_json(turn.answer),
        "model": turn.model,
        "finish_reason": turn.finish_reason and turn.finish_reason.value,
        "usage": _usage_to_json(turn.usage),
        "is_stale": turn.is_stale,
        **({"typed": turn.typed} if turn.typed else {}),  # older versions read no other keys
    }


def _usage_to_json(usage: Usage) -> dict[str, Any]:
    """Counts that a vendor told wrongly are no reason for a file that cannot be read again."""
    cost = usage.cost_usd
    counts = {name: count and max(count, 0) for name, count in asdict(usage).items()}
    return {**counts, "cost_usd": cost if cost is not None and 0 <= cost < math.inf else None}


def _message_to_json(message: Message) -> dict[str, Any]:
    content = message.content
    parts = content if isinstance(content, str) else list(map(_part_to_json, content))
    return {"role": message.role, "content": parts}


def _part_to_json(part: ContentPart) -> dict[str, Any]:
    value = asdict(part)
    if isinstance(part, ImagePart) and part.data is not None:
        value["data"] = base64.b64encode(part.data).decode()
    return {"type": _KIND_OF[type(part)], **value}


@dataclass(frozen=True, slots=True)
class ChatFile:
    """The file of a conversation, and what stood in it when this process last read or wrote it.

    ``base`` is None, and ``digest`` empty, where it did neither yet.
    """

    path: Path
    digest: str = ""
    base: Conversation | None = None

    @classmethod
    def read(cls, path: Path) -> ChatFile:
        """The file with the conversation in it. Raises ``ConversationError``."""
        text = _text_of(path)
        return cls(path, _digest(text), from_json(text, str(path)))

    def has_changed(self) -> bool:
        """Whether another process has written it since. Raises ``ConversationError``."""
        exists = os.path.exists(self.path)  # noqa: PTH110 - it knows no errors
        return exists and _digest(_text_of(self.path)) != self.digest

    def saved(self, chat: Conversation) -> tuple[ChatFile, Conversation]:
        """Write ``chat``, with what another process has put into the file since.

        Returns the file as it is now and the conversation with all turns of both. Raises
        ``ConversationError``, and leaves the file as it is, where it cannot be written or holds
        something else than this conversation.
        """
        result = chat

        def change(text: str | None) -> str:
            nonlocal result
            if text is not None and _digest(text) != self.digest:
                result = self._with_theirs(chat, from_json(text, str(self.path)))
            return to_json(result)

        try:
            text = saved_files.update(self.path, change, makes_folder=False)
        except (OSError, ValueError) as error:
            raise _unsaved(chat, f"{self.path}: {reason(error)}") from None
        except ConversationError as error:
            raise _unsaved(chat, str(error)) from None
        return ChatFile(self.path, _digest(text), result), result

    def _with_theirs(self, chat: Conversation, theirs: Conversation) -> Conversation:
        if self.base is None:
            return self._first_save(chat, theirs)
        if theirs.name not in (self.base.name, chat.name):
            raise self._other(chat, theirs)
        return merged(self.base, chat, theirs)

    def _first_save(self, chat: Conversation, theirs: Conversation) -> Conversation:
        """A file that was never read here may well be of another conversation."""
        if not chat.turns:
            return replace(theirs, name=chat.name, system=chat.system or theirs.system)
        if not set(theirs.turns) <= set(chat.turns):
            raise self._other(chat, theirs)
        return chat

    def _other(self, chat: Conversation, theirs: Conversation) -> ConversationError:
        missing = sum(turn not in chat.turns for turn in theirs.turns)
        return ConversationError(
            chat.name,
            f"{self.path} was not changed: its conversation {theirs.name!r} has turns that this "
            f"one does not have ({missing} of {len(theirs.turns)}). Save under another name: "
            f"%llm_chat save {chat.name} FILE. To get both: %llm_chat import FILE NAME",
        )


def read_conversation(file: str | Path) -> Conversation:
    """The conversation in a JSON file. Raises ``ConversationError``."""
    return from_json(_text_of(_path(file)), str(file))


def write_copy(chat: Conversation, file: str | Path, text: str) -> Path:
    """Write ``text``, a copy of it; returns the path. Raises ``ConversationError``."""
    path = _path(file)
    try:
        saved_files.write(path, text)
    except (OSError, ValueError) as error:
        problem = f"{path} could not be written: {reason(error)}"
        raise ConversationError(chat.name, problem) from None
    return path


def _path(file: str | Path) -> Path:
    try:
        return absolute_path(file)
    except ValueError as error:
        raise ConversationError(str(file), str(error)) from None


def _text_of(path: Path) -> str:
    try:
        return read_text(path, saved_files.MOST_BYTES)
    except (OSError, ValueError) as error:
        raise ConversationError(str(path), reason(error)) from None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def _unsaved(chat: Conversation, problem: str) -> ConversationError:
    return ConversationError(chat.name, f"not saved, only kept in memory. {problem}")
