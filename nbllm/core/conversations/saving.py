"""A conversation in its file, which other notebooks may write too: their turns are merged in."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, replace
from pathlib import Path

from nbllm.core import saved_files
from nbllm.core.conversations.conversation import Conversation
from nbllm.core.conversations.files import to_json
from nbllm.core.conversations.merging import merged
from nbllm.core.conversations.reading import from_json
from nbllm.core.errors import ConversationError
from nbllm.core.paths import absolute_path, read_text, reason

__all__ = ["ChatFile", "read_conversation", "write_copy"]


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
