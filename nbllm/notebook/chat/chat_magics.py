"""``%llm_chat``: the conversations that ``%%llm --chat NAME`` leads."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from IPython.core.error import UsageError
from IPython.core.magic import line_magic, magics_class, no_var_expand

from nbllm.core.words import counted
from nbllm.notebook.flags import Help, flag, parser_of, with_help
from nbllm.notebook.magic_line import Flags, parse
from nbllm.notebook.running_cell import brief_errors
from nbllm.notebook.session import NotebookSession, SessionMagics

if TYPE_CHECKING:
    from nbllm.core.conversations.saved_conversation import Conversation
    from nbllm.notebook.chat.chats import Chats
    from nbllm.notebook.tables import Table

__all__ = ["ChatMagics", "Transcript", "chats_table"]

_WORDS = {
    "list": (0, 0, ""),
    "show": (1, 1, "NAME"),
    "branch": (2, 2, "OLD NEW"),
    "rename": (2, 2, "OLD NEW"),
    "system": (1, 10_000, "NAME [TEXT]"),
    "reset": (1, 1, "NAME"),
    "delete": (1, 1, "NAME"),
    "save": (1, 2, "NAME [FILE]"),
    "export": (2, 2, "NAME FILE"),
    "import": (1, 2, "FILE [NAME]"),
}
"""For each action how many words it takes at least and at most, and what they are."""

CHAT = Help(
    """
    %%llm --chat trip                     starts or continues a conversation
    Where should we go in May?

    %llm_chat                             all conversations, as a DataFrame
    %llm_chat show trip
    %llm_chat branch trip other --at 2    a new one, with the first two turns
    %llm_chat rename other plan-b
    %llm_chat system trip "Answer as a travel agent."
    %llm_chat save trip                   to trip.chat.json, now and after every change
    %llm_chat export trip trip.md         or .json, which holds everything
    %llm_chat import trip.json again
    %llm_chat reset trip                  removes all turns
    %llm_chat delete trip                 and its file
""",
    (
        flag(
            "action",
            nargs="?",
            choices=tuple(_WORDS),
            default="list",
            help="What to do (default: list).",
        ),
        flag("words", nargs="*", help="The conversation's name, and the action's other arguments."),
        flag(
            "--at",
            metavar="N",
            type=int,
            help="For branch: the number of turns to keep (default: all).",
        ),
    ),
)

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


class ChatFlags(Flags):
    """What ``CHAT`` explains."""

    action: str
    words: list[str]
    at: int | None


@magics_class
class ChatMagics(SessionMagics):
    """The magic for conversations."""

    def __init__(self, session: NotebookSession) -> None:
        super().__init__(session)
        session.completions.words["chat"] = lambda: session.chats.names()
        session.completions.words["llm_chat.words"] = lambda: session.chats.names()

    @no_var_expand
    @with_help(CHAT)
    @line_magic
    def llm_chat(self, line: str) -> Table | Transcript:
        """List, show and edit conversations; returns them as a DataFrame.

        After a restart of the kernel, a saved conversation is read again, by its name, from
        NAME.chat.json in the current folder.
        """
        args = parse(parser_of(self, "llm_chat"), line, ChatFlags())
        least, most, words = _WORDS[args.action]
        if not least <= len(args.words) <= most:
            raise UsageError(f"usage: {self._name} {args.action} {words}".rstrip())
        if args.at is not None and args.action != "branch":
            raise UsageError(f"--at works with branch only: {self._name} branch OLD NEW --at N")
        with brief_errors():
            if args.action == "show":
                return Transcript(self.session.chats.get(args.words[0]))
            done = getattr(self, f"_{args.action}")(args)
        return chats_table(self.session.chats, [done] if done else [])

    @property
    def _name(self) -> str:
        return f"%{self.session.magic_name('llm_chat')}"

    def _list(self, args: ChatFlags) -> str:
        return ""

    def _branch(self, args: ChatFlags) -> str:
        old, new = args.words
        chat = self.session.chats.get(old)
        if args.at is not None and not 0 <= args.at <= len(chat.turns):
            raise UsageError(
                f"--at must be between 0 and {len(chat.turns)}, the turns of {old} (got {args.at})"
            )
        self.session.chats.add(replace(chat.until(args.at), name=new))
        return (
            f"{new} begins with {counted(len(self.session.chats.get(new).turns), 'turn')} of {old}."
        )

    def _rename(self, args: ChatFlags) -> str:
        old, new = args.words
        self.session.chats.rename(old, new)
        return f"{old} was renamed to {new}."

    def _system(self, args: ChatFlags) -> str:
        name, *words = args.words
        self.session.chats.begin(name)
        system = " ".join(words) or None
        self.session.chats.update(name, lambda chat: replace(chat, system=system))
        return f"{name}: system prompt {'set' if system else 'removed'}, from the next turn on."

    def _reset(self, args: ChatFlags) -> str:
        (name,) = args.words
        taken = len(self.session.chats.get(name).turns)
        self.session.chats.update(name, lambda chat: chat.until(0))
        return f"Removed {counted(taken, 'turn')} from {name}."

    def _delete(self, args: ChatFlags) -> str:
        (name,) = args.words
        file = self.session.chats.delete(name)
        return f"Deleted {name}{f' and {file}' if file else ''}."

    def _save(self, args: ChatFlags) -> str:
        name, *files = args.words
        file = self.session.chats.save(name, *files)
        return f"{name} is saved to {file}, now and after every change."

    def _export(self, args: ChatFlags) -> str:
        name, file = args.words
        return f"{name} was written to {self.session.chats.export(name, file)}."

    def _import(self, args: ChatFlags) -> str:
        from nbllm.core.conversations.conversation_files import read_conversation

        file, *names = args.words
        chat = read_conversation(file)
        chat = replace(chat, name=names[0]) if names else chat
        self.session.chats.add(chat)
        return f"{chat.name} was read from {file}, with {counted(len(chat.turns), 'turn')}."


# ---------------------------------------------------------------- what is shown


@dataclass(frozen=True, slots=True)
class Transcript:
    """A conversation for reading."""

    conversation: Conversation

    def __repr__(self) -> str:
        from nbllm.core.conversations.shown_conversation import to_markdown

        return to_markdown(self.conversation)

    def _repr_html_(self) -> str:
        from nbllm.core.conversations.shown_conversation import to_html

        return to_html(self.conversation)


def chats_table(chats: Chats, notes: Iterable[str] = ()) -> Table:
    """One row a conversation; ``notes`` are told below.

    "incomplete" counts answers that were stopped, failed, cut off or never came, "stale" those
    that were given before an earlier turn was changed.
    """
    from nbllm.notebook.tables import make_table

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
