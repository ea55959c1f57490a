"""Lines with ``%llm``, kept from what IPython would make of them.

IPython takes any line that ends in a question mark for a request for help, so that
``%llm What is recursion?`` would never reach the magic. It knows magics at the beginning of a
statement and behind ``=`` only, and reads what a person writes behind them as Python, so that an
open bracket or quote of a prompt hides the lines below. Here every such line becomes a call of its
magic, with the prompt as a literal, before IPython looks at it.

The cell that loads the extension was read before that. A script that ``ipython script.ipy`` runs
is one such cell as a whole: its ``%llm What is it?`` has become a call for help on "it", and is
asked when that call comes.
"""

from __future__ import annotations

import keyword
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import cache
from types import FrameType
from typing import Any, NamedTuple

from IPython.core.inputtransformer2 import TransformerManager

from nbllm.notebook.prompts.scope import caller

__all__ = ["ask_first_questions", "keep_questions"]

_HELP = {"?", "??"}
_ESCAPES = "%!?,;/"
"""What IPython's own special lines begin with."""
_VALUES = {"True", "False", "None"}
_BRACES = re.compile(r"\{([^{}\n]+)\}")
_NAMES = re.compile(r"(?<![\w.])[^\W\d]\w*")
_WORD_BEHIND = re.compile(r"[ \t]+\w")


class _Call(NamedTuple):  # defined in a sixth of a dataclass's time, for %load_ext
    """A magic in a text from ``start`` to ``end``; ``indent`` says that it may be in a function."""

    start: int
    end: int
    name: str
    text: str
    may_be_inside: bool = False

    @property
    def code(self) -> str:
        """The call, which takes as many lines as it took before."""
        call = f"get_ipython().run_line_magic({self.name!r}, {_joined(self.text)!r})"
        names = _names(self.text) if self.may_be_inside else []
        if names:  # a reference makes variables of enclosing functions known in the inner one
            call = f"[{call}, lambda: ({', '.join(names)},)][0]"
        return call + "\n" * self.text.count("\n")


def keep_questions(lines: list[str], magic: str = "llm", *, automagic: bool = False) -> list[str]:
    """An input transformer: calls in place of ``%llm …`` wherever an expression can begin.

    ``magic`` is what it is called in this shell; ``automagic`` says that a cell of one line may
    leave out the percent sign.
    """
    text = "".join(lines)
    if text.startswith("%%") or magic not in text:
        return _with_body(lines, magic)
    if automagic and text.count("\n") <= 1 and _is_question(text, magic):
        text = f"%{text}"
    pieces, end = [], 0
    for call in _calls(text, magic):
        pieces += [text[end : call.start], call.code]
        end = call.end
    return "".join([*pieces, text[end:]]).splitlines(keepends=True) if end else lines


def typed_questions(source: str, magic: str) -> list[str]:
    """The lines of a cell, without their indentation, whose prompt ends in a question mark."""
    if source.startswith("%%") or magic not in source:
        return []
    text = source + "\n"
    found = (
        text[text.rfind("\n", 0, call.start) + 1 : call.end].strip() for call in _calls(text, magic)
    )
    return [line for line in found if line.endswith("?")]


def _with_body(lines: list[str], magic: str) -> list[str]:
    """A cell magic without a body as a call: IPython would refuse it before the magic can."""
    match = re.fullmatch(rf"%%({magic})(?:[ \t]+(.*?))?\s*", "".join(lines))
    if match is None or (match[2] or "") in _HELP:
        return lines
    return [f"get_ipython().run_cell_magic({match[1]!r}, {match[2] or ''!r}, '\\n')\n"]


def _is_question(text: str, magic: str) -> bool:
    """Whether a line begins with the name of a magic and a word, and ends in a question mark."""
    match = re.match(rf"{magic}(?:_\w+)?(?=[ \t])", text)
    return bool(match and _WORD_BEHIND.match(text, match.end()) and text.rstrip().endswith("?"))


def _calls(text: str, magic: str) -> Iterator[_Call]:
    token, position = _tokens(magic), 0
    depth, begins, takes_value, is_inside = 0, True, True, False
    while (match := token.match(text, position)) is not None:
        position, kind, found = match.end(), match.lastgroup, match.group()
        if begins and found[0] in _ESCAPES and kind != "magic":
            position = _end_of_line(text, match.start())
            yield from _call_within(text, match.start(), position, magic)
        elif kind == "magic" and takes_value and not depth:
            end = _end_of_line(text, position)
            words = text[position:end].strip()
            if words not in _HELP and (words or not begins):
                yield _Call(match.start(), end, found[1:], words, is_inside or not begins)
            position = end
        elif kind == "newline":
            is_new = not depth
            begins, takes_value = begins or is_new, takes_value or is_new
            is_inside = is_inside and not is_new
        elif kind == "blank":
            is_inside = is_inside or begins
        elif kind not in ("comment", "joined"):
            depth = max(depth + (found in "([{") - (found in ")]}"), 0)
            begins, takes_value = False, _takes_value(kind, found)


def _call_within(text: str, start: int, end: int, magic: str) -> Iterator[_Call]:
    """The call that another line magic is given: ``%time %llm What?``."""
    found = _argument(magic).match(text, start, end)
    if found is not None:
        yield _Call(found.start("name") - 1, end, found["name"], found["text"].strip())


def _takes_value(kind: str | None, found: str) -> bool:
    """Whether an expression can begin behind a token; behind a value ``%`` is an operator."""
    if kind == "word":
        return keyword.iskeyword(found) and found not in _VALUES
    return kind != "string" and found not in ")]}"


def _end_of_line(text: str, start: int) -> int:
    """Where the line ends, with the lines that a backslash adds to it."""
    end = start
    while True:
        newline = text.find("\n", end)
        if newline == -1:
            return len(text)
        if not text[start:newline].rstrip(" \t").endswith("\\"):
            return newline
        end = newline + 1


def _joined(text: str) -> str:
    """Lines that end in a backslash as one line, as IPython joins them."""
    *lines, last = text.split("\n")
    return " ".join([*(line.rstrip().removesuffix("\\") for line in lines), last])


def _names(text: str) -> list[str]:
    """The names of variables in the braces of a prompt."""
    inside = " ".join(_BRACES.findall(text))
    found = dict.fromkeys(name for name in _NAMES.findall(inside) if name.isidentifier())
    return [name for name in found if not keyword.iskeyword(name) and not name.startswith("__")]


@cache
def _argument(magic: str) -> re.Pattern[str]:
    return re.compile(
        rf"%(?!{magic}\b)[a-z]\w*[ \t](?:[^\n]*?[ \t])??"
        rf"%(?P<name>{magic}(?:_\w+)?)[ \t]+(?P<text>\S.*)",
        re.DOTALL,
    )


@cache
def _tokens(magic: str) -> re.Pattern[str]:
    return re.compile(
        rf"""(?P<blank>[ \t\f]+) | (?P<newline>\n) | (?P<joined>\\\n) | (?P<comment>\#[^\n]*)
        | (?P<string>[rbfutRBFUT]{{0,2}}(?:
              \"\"\"[^"\\]*(?:(?:\\.|"(?!""))[^"\\]*)*\"\"\"
            | '''[^'\\]*(?:(?:\\.|'(?!''))[^'\\]*)*'''
            | "[^"\\\n]*(?:\\.[^"\\\n]*)*" | '[^'\\\n]*(?:\\.[^'\\\n]*)*'))
        | (?P<magic>(?<!%)%{magic}(?:_\w+)?(?=[ \t\n]|\Z)) | (?P<word>\w+) | (?P<other>.)""",
        re.VERBOSE | re.DOTALL,
    )


_HELP_CALL = re.compile(r"get_ipython\(\)\.run_line_magic\('(pinfo2?)', (['\"])(.*)\2\)\s*")


def ask_first_questions(shell: Any, magic: str) -> Callable[[], None]:
    """Have the questions asked that the rest of the running cell holds; returns what ends that.

    It ends by itself with the cell.
    """
    questions = _lost(_running_source(), magic)
    magics: dict[str, Any] = shell.magics_manager.magics["line"]
    known = {name: shell.find_line_magic(name) for name, _ in questions}
    for name, helps in known.items():
        lines = {word: found for (kind, word), found in questions.items() if kind == name}
        magics[name] = _asker(shell, lines, helps)

    def end() -> None:
        magics.update(known)
        known.clear()

    def end_with_cell() -> None:
        end()
        shell.events.unregister("post_execute", end_with_cell)

    if known:
        shell.events.register("post_execute", end_with_cell)
    return end


def _asker(
    shell: Any, questions: dict[str, list[str]], helps: Callable[[str], object]
) -> Callable[[str], None]:
    """In the place of IPython's magic for help: runs the line that the call stands for."""
    places: dict[tuple[str, int], str] = {}

    def ask(word: str) -> None:
        frame, waiting = caller(), questions.get(word, [])
        if frame is None or not waiting:
            helps(word)
            return
        place = word, frame.f_lineno
        if place not in places:
            places[place] = waiting[min(len(places), len(waiting) - 1)]
        code = compile(shell.transform_cell(places[place]), "<cell>", "exec")
        exec(code, frame.f_globals, frame.f_locals)  # noqa: S102 - the reader's own line

    return ask


def _lost(source: str, magic: str) -> dict[tuple[str, str], list[str]]:
    """The lines by the calls for help that IPython makes of them."""
    lost: dict[tuple[str, str], list[str]] = defaultdict(list)
    plain: Any = TransformerManager()  # type: ignore[no-untyped-call]
    for line in typed_questions(source, magic):
        call = _HELP_CALL.fullmatch(plain.transform_cell(line))
        if call is not None:
            lost[call[1], call[3]].append(line)
    return lost


def _running_source() -> str:
    """The cell that runs now, as typed; "" where none does."""
    frame: FrameType | None = sys._getframe()  # noqa: SLF001 - no event tells it in time
    while frame is not None:
        source = frame.f_locals.get("raw_cell") if _is_run(frame) else None
        if isinstance(source, str):
            return source
        frame = frame.f_back
    return ""


def _is_run(frame: FrameType) -> bool:
    name = frame.f_code.co_name
    return "run_cell" in name and str(frame.f_globals.get("__name__", "")).startswith("IPython")
