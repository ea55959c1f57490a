"""The conversations of one session, by name, and their files where they are saved."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from nbllm.core.conversations.conversation_files import ChatFile, to_json, write_copy
from nbllm.core.conversations.saved_conversation import (
    Conversation,
    Turn,
    check_name,
    is_name,
    merged,
)
from nbllm.core.conversations.shown_conversation import to_markdown
from nbllm.core.errors import ConversationError
from nbllm.core.forks import ChildSafeLock
from nbllm.core.paths import absolute_path, current_folder, reason
from nbllm.core.suggest import did_you_mean
from nbllm.core.words import counted
from nbllm.notebook.running_cell import cell_request, cell_source

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

__all__ = ["Cell", "Chats", "Place", "running_cell"]

SUFFIX = ".chat.json"


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell by its ``id``, in one run of it: the ``execution`` has a name of its own."""

    id: str
    execution: str


def running_cell(shell: InteractiveShell) -> Cell:
    """The cell that runs now.

    JupyterLab, Notebook, VS Code and Colab tell its id. Where a kernel's front end tells none
    (nbclient, papermill, consoles) cells with the same source are the same. In a terminal nothing
    is ever run again, so that each input is a cell of its own.
    """
    request = cell_request(shell)
    header = request.get("header") or {}
    execution = str(header.get("msg_id") or uuid.uuid4().hex)
    metadata = request.get("metadata") or {}
    colab = metadata.get("colab")
    told = metadata.get("cellId") or (colab.get("cell_id") if isinstance(colab, dict) else None)
    if told:
        return Cell(str(told), execution)
    source = cell_source(shell)
    digest = hashlib.sha256(source.encode(errors="replace")).hexdigest()[:16]
    return Cell(f"source-{digest}" if source else execution, execution)


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

    One that was saved is written to its file after every change, all or nothing; what another
    notebook put into that file meanwhile comes along. A file that cannot be written stops nothing:
    ``problem`` tells. One that is not known here and has a file ``NAME.chat.json`` in the current
    folder is restored from it.
    """

    def __init__(self) -> None:
        self._known: dict[str, Conversation] = {}
        self._files: dict[str, ChatFile] = {}
        self._problems: dict[str, str] = {}
        self._restored: dict[str, str] = {}
        self._runs: dict[tuple[str, str], tuple[str, int]] = {}
        self._lock, self._writing = ChildSafeLock(), ChildSafeLock()

    def names(self) -> list[str]:
        """All names, in the order in which the conversations began."""
        return list(self._known)

    def file(self, name: str) -> Path | None:
        """The file that the conversation is saved to."""
        file = self._files.get(name)
        return None if file is None else file.path

    def problem(self, name: str) -> str:
        """Why the last change is not in the file, "" where it is or none is wanted."""
        return self._problems.get(name, "")

    def get(self, name: str) -> Conversation:
        """The conversation. Raises ``ConversationError``, which suggests the closest name."""
        found = self.find(name)
        if found is None:
            listed = ", ".join(self._known)
            known = (
                f"Conversations: {listed}" if listed else "%%llm --chat NAME starts a conversation"
            )
            raise ConversationError(name, f"not found.{did_you_mean(name, self._known)} {known}")
        return found

    def find(self, name: str) -> Conversation | None:
        """The conversation, restored from its file if need be; None where there is none."""
        return self._known.get(name) or (self._known[name] if self._restore(name) else None)

    def take_restored(self, name: str) -> str:
        """That the conversation was found in a file, for the first question after that; else ""."""
        return self._restored.pop(name, "")

    def begin(self, name: str) -> Conversation:
        """The conversation, a new one where there is none."""
        if self.find(name) is None:
            self.add(Conversation(name=name))
        return self._known[name]

    def add(self, conversation: Conversation) -> None:
        """Keep a conversation under its name, which must be free."""
        check_name(conversation.name)
        with self._lock:
            self._check_free(conversation.name)
            self._known[conversation.name] = conversation

    def update(self, name: str, change: Callable[[Conversation], Conversation]) -> Conversation:
        """Put what ``change`` makes of the conversation in its place, and save it if asked for.

        What is returned has the turns of other notebooks too, where there are any.
        """
        with self._lock:
            if name not in self._known:
                raise ConversationError(name, "it has been deleted in the meantime")
            changed = self._known[name] = change(self._known[name])
        self._save_again(name)
        return self._known.get(name, changed)

    def settle(self, name: str, turn: Turn) -> None:
        """Record an answer, unless the conversation or its turn was removed meanwhile."""
        if name in self._known:
            self.update(name, lambda chat: chat.settled(turn))

    def refresh(self, name: str) -> None:
        """Take in what another notebook put into the file of the conversation, if it has one."""
        file = self._files.get(name)
        try:
            if file is not None and file.has_changed():
                self._write(name, file)
        except ConversationError as error:
            self._problems[name] = str(error)

    def place(self, name: str, cell: Cell) -> Place:
        """Where the cell asks now; every call in one run of it is one further place."""
        execution, count = self._runs.get((name, cell.id), ("", 0))
        count = count + 1 if execution == cell.execution else 0
        self._runs[name, cell.id] = cell.execution, count
        return Place(cell.id, count)

    def rename(self, name: str, new: str) -> None:
        """Call a conversation otherwise; its file is renamed with it if nbllm named it."""
        self.get(name)
        check_name(new)
        self._check_free(new)
        old = self._files.get(name)
        if old is not None and old.has_changed():
            self._write(name, old)
        renamed = replace(self.get(name), name=new)
        if old is not None:
            is_ours = old.path.name == f"{name}{SUFFIX}"
            file = ChatFile(old.path.with_name(f"{new}{SUFFIX}")) if is_ours else old
            self._files[new], renamed = file.saved(renamed)
            if is_ours:
                _remove(name, old.path)
        self._forget(name)
        self.add(renamed)

    def delete(self, name: str) -> Path | None:
        """Forget a conversation and remove its file, which is returned.

        Raises ``ConversationError``, once, where another notebook added to it.
        """
        self.get(name)
        file = self._files.get(name)
        if file is not None and file.has_changed():
            self._write(name, file)
            raise ConversationError(
                name,
                "another notebook has changed it (see %llm_chat show); repeat the command to "
                "delete it anyway",
            )
        self._forget(name)
        if file is None:
            return None
        _remove(name, file.path)
        return file.path

    def save(self, name: str, path: str | Path | None = None) -> Path:
        """Write the conversation now and after every change; the file is ``NAME.chat.json``.

        Raises ``ConversationError`` where it cannot be written; it is then saved where it was
        before, if anywhere.
        """
        self.get(name)
        file = self._files.get(name)
        if path is not None or file is None:
            chosen = _absolute(name, path or f"{name}{SUFFIX}")
            file = file if file is not None and file.path == chosen else ChatFile(chosen)
        self._write(name, file)
        return file.path

    def export(self, name: str, file: str | Path) -> Path:
        """Write a copy, as Markdown or as JSON by the ending of the file's name."""
        conversation = self.get(name)
        makers = {".md": to_markdown, ".json": to_json}
        make = makers.get(Path(file).suffix.lower())
        if make is None:
            raise ConversationError(name, f"{file}: the name must end in .md or .json")
        return write_copy(conversation, file, make(conversation))

    def _check_free(self, name: str) -> None:
        if name in self._known:
            raise ConversationError(name, "it already exists; choose another name, or delete it")

    def _forget(self, name: str) -> None:
        with self._lock:
            self._known.pop(name, None)
            self._files.pop(name, None)
            self._problems.pop(name, None)

    def _restore(self, name: str) -> bool:
        folder = current_folder()
        path = None if folder is None or not is_name(name) else folder / f"{name}{SUFFIX}"
        if path is None or not os.path.isfile(path):  # noqa: PTH113 - it knows no errors
            return False
        file = ChatFile.read(path)
        if file.base is not None:
            self.add(replace(file.base, name=name))
            self._files[name] = file
            count = len(file.base.turns)
            turns = counted(count, "turn")
            self._restored[name] = f"goes on from {path.name}, {turns}"
        return file.base is not None

    def _save_again(self, name: str) -> None:
        file = self._files.get(name)
        try:
            if file is not None:
                self._write(name, file)
        except ConversationError as error:
            self._problems[name] = str(error)

    def _write(self, name: str, file: ChatFile) -> None:
        """Bring a file up to date; writers wait for one another, so that the newest is last."""
        with self._writing:
            known, conversation = self._files.get(name), self._known.get(name)
            if conversation is None:  # it has been deleted in the meantime
                return
            file = known if known is not None and known.path == file.path else file
            written, saved = file.saved(conversation)
            self._problems.pop(name, None)
            with self._lock:
                current = self._known.get(name)
                if current is not None:
                    self._files[name] = written
                    is_newer = current is not conversation
                    self._known[name] = merged(conversation, current, saved) if is_newer else saved


def _absolute(name: str, path: str | Path) -> Path:
    try:
        return absolute_path(path)
    except ValueError as error:
        raise ConversationError(name, str(error)) from None


def _remove(name: str, file: Path) -> None:
    try:
        file.unlink(missing_ok=True)
    except OSError as error:
        problem = f"{file} cannot be removed: {reason(error)}"
        raise ConversationError(name, problem) from None
