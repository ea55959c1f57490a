"""The conversations of one session, by name, and their files where they are saved."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from nbllm.core.configs.file import replace_text
from nbllm.core.conversations.conversation import Conversation, Turn, check_name
from nbllm.core.conversations.files import from_json, to_json
from nbllm.core.conversations.reading import to_markdown
from nbllm.core.errors import ConfigError, ConversationError
from nbllm.core.suggest import did_you_mean
from nbllm.notebook.chat.cells import Cell

__all__ = ["Chats", "Place", "read_conversation"]

SUFFIX = ".chat.json"
MAX_BYTES = 256 * 2**20


@dataclass(frozen=True, slots=True)
class Place:
    """Where a turn is asked: the cell, and how many it asked before in the same run of it."""

    cell: str
    count: int

    @property
    def key(self) -> str:
        """The ``place`` of its turn."""
        return self._numbered(self.count)

    @property
    def previous(self) -> str | None:
        """The place of the turn that the same run of the cell asked before."""
        return self._numbered(self.count - 1) if self.count else None

    def is_leftover(self, key: str) -> bool:
        """Whether a turn is of an earlier run of the cell, which starts anew here."""
        return not self.count and key.startswith(f"{self.cell}#")

    def _numbered(self, count: int) -> str:
        return f"{self.cell}#{count}" if count else self.cell


class Chats:
    """Conversations by name. It may be used from several threads at once.

    One that was saved is written to its file after every change, all or nothing. One that is not
    known here and has a file ``NAME.chat.json`` in the current folder is restored from it.
    """

    def __init__(self) -> None:
        self._known: dict[str, Conversation] = {}
        self._files: dict[str, Path] = {}
        self._runs: dict[tuple[str, str], tuple[str, int]] = {}
        self._lock, self._writing = threading.Lock(), threading.Lock()

    def names(self) -> list[str]:
        """All names, in the order in which the conversations began."""
        return list(self._known)

    def file(self, name: str) -> Path | None:
        """The file that the conversation is saved to."""
        return self._files.get(name)

    def get(self, name: str) -> Conversation:
        """The conversation. Raises ``ConversationError``, which suggests the closest name."""
        found = self.find(name)
        if found is None:
            listed = ", ".join(self._known)
            known = (
                f"There are {listed}" if listed else "There is none; %%llm --chat NAME begins one"
            )
            raise ConversationError(name, f"not found.{did_you_mean(name, self._known)} {known}")
        return found

    def find(self, name: str) -> Conversation | None:
        """The conversation, restored from its file if need be; None where there is none."""
        return self._known.get(name) or (self._known[name] if self._restore(name) else None)

    def begin(self, name: str) -> Conversation:
        """The conversation, a new one where there is none."""
        if self.find(name) is None:
            self.add(Conversation(name=name))
        return self._known[name]

    def add(self, conversation: Conversation) -> None:
        """Keep a conversation under its name, which must be free."""
        check_name(conversation.name)
        with self._lock:
            if conversation.name in self._known:
                raise ConversationError(
                    conversation.name, "there is one already; choose another name, or delete it"
                )
            self._known[conversation.name] = conversation

    def update(self, name: str, change: Callable[[Conversation], Conversation]) -> Conversation:
        """Put what ``change`` makes of the conversation in its place, and save it if asked for."""
        with self._lock:
            if name not in self._known:
                raise ConversationError(name, "it was deleted meanwhile")
            changed = self._known[name] = change(self._known[name])
        self._write(name)
        return changed

    def settle(self, name: str, turn: Turn) -> None:
        """Record an answer, unless the conversation or its turn was removed meanwhile."""
        if name in self._known:
            self.update(name, lambda chat: chat.settled(turn))

    def place(self, name: str, cell: Cell) -> Place:
        """Where the cell asks now; every call in one run of it is one further place."""
        execution, count = self._runs.get((name, cell.id), ("", 0))
        count = count + 1 if execution == cell.execution else 0
        self._runs[name, cell.id] = cell.execution, count
        return Place(cell.id, count)

    def rename(self, name: str, new: str) -> None:
        """Call a conversation otherwise; its file is renamed with it if nbllm named it."""
        check_name(new)
        self.add(replace(self.get(name), name=new))
        file = self._files.pop(name, None)
        del self._known[name]
        if file is not None:
            named = file.with_name(f"{new}{SUFFIX}") if file.name == f"{name}{SUFFIX}" else file
            self.save(new, named)
            if named != file:
                file.unlink(missing_ok=True)

    def delete(self, name: str) -> Path | None:
        """Forget a conversation and remove its file, which is returned."""
        self.get(name)
        with self._lock:
            del self._known[name]
            file = self._files.pop(name, None)
        if file is not None:
            file.unlink(missing_ok=True)
        return file

    def save(self, name: str, file: Path | None = None) -> Path:
        """Write the conversation now and after every change; the file is ``NAME.chat.json``."""
        self.get(name)
        chosen = file or self._files.get(name) or Path(f"{name}{SUFFIX}")
        self._files[name] = chosen.expanduser().absolute()
        self._write(name)
        return self._files[name]

    def export(self, name: str, file: Path) -> Path:
        """Write a copy, as Markdown or as JSON by the ending of the file's name."""
        conversation, target = self.get(name), file.expanduser()
        makers = {".md": to_markdown, ".json": to_json}
        make = makers.get(target.suffix.lower())
        if make is None:
            raise ConversationError(name, f"{file}: the name must end in .md or .json")
        _replace(name, target, make(conversation))
        return target

    def _restore(self, name: str) -> bool:
        file = Path(f"{name}{SUFFIX}")
        if not file.is_file():
            return False
        self.add(replace(read_conversation(file), name=name))
        self._files[name] = file.absolute()
        return True

    def _write(self, name: str) -> None:
        """Bring the file up to date; writers wait for one another, so that the newest is last."""
        with self._writing:
            file, conversation = self._files.get(name), self._known.get(name)
            if file is not None and conversation is not None:
                _replace(name, file, to_json(conversation))


def read_conversation(file: Path) -> Conversation:
    """The conversation in a JSON file. Raises ``ConversationError``."""
    try:
        if file.stat().st_size > MAX_BYTES:
            raise ConversationError(str(file), f"the file has more than {MAX_BYTES >> 20} MiB")
        text = file.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        problem = getattr(error, "strerror", None) or "this is no text in UTF-8"
        raise ConversationError(str(file), problem) from None
    return from_json(text, str(file))


def _replace(name: str, file: Path, text: str) -> None:
    try:
        replace_text(file, text)
    except ConfigError as error:
        raise ConversationError(name, f"it is kept here and was not saved. {error}") from error
