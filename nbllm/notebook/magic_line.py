"""A magic's line as arguments: flags in front, quotes for blanks, backslashes as they are."""

from __future__ import annotations

import builtins
import io
import keyword
import math
import re
import shlex
from argparse import ArgumentParser, Namespace, _AppendAction
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple, TypeVar

from IPython.core.error import UsageError

from nbllm.core.suggest import did_you_mean

__all__ = [
    "Bare",
    "Flags",
    "HelpWanted",
    "UnclosedQuoteError",
    "names",
    "numeral",
    "output_name",
    "parse",
    "parse_flags",
    "parse_known",
    "scaled",
    "seconds",
    "share",
    "unescaped",
    "variable_name",
]

_FLAG = re.compile(r"--?[A-Za-z]")
_HELP = ("-h", "--help")
_REQUIRED = "the following arguments are required: "
_TOO_MANY = "unrecognized arguments: "
_OF_FLAG = re.compile(
    r"argument (?P<flag>-\S+): (?:expected one argument"
    r"|(?:invalid (?P<kind>int|float) value: |ignored explicit argument )(?P<got>.+))"
)
_IPYTHONS = {"In", "Out", "display", "exit", "get_ipython", "quit", "_", "__", "___", "_llm"}
_IPYTHONS_NUMBERED = re.compile(r"_(?:i*|dh|ih|oh|sh|i?\d+)")
_ESCAPES = {r"\n": "\n", r"\t": "\t", r"\\": "\\"}


class Flags(Namespace):
    """What was typed behind a magic, as attributes.

    Each magic has a subclass that says which there are and of what types: annotations only, since
    the parser sets every one of them, and ``%load_ext`` would feel a dataclass for each magic.
    """


Parsed = TypeVar("Parsed", bound=Namespace)


class HelpWanted(Exception):  # noqa: N818 - no failure
    """``--help`` stands among the flags."""


class UnclosedQuoteError(UsageError):
    """A quotation mark opens a value and none closes it."""


def parse(parser: ArgumentParser, line: str, into: Parsed) -> Parsed:
    """``into`` with all of ``line``. Raises ``UsageError`` in one line, and ``HelpWanted``."""
    with _remedies(parser):
        return parser.parse_args(_arguments(parser, line), into)


@contextmanager
def _remedies(parser: ArgumentParser) -> Iterator[None]:
    """Has errors say what to do."""
    try:
        yield
    except UnclosedQuoteError:
        raise
    except UsageError as error:
        raise UsageError(_with_remedy(parser, str(error))) from None


def _with_remedy(parser: ArgumentParser, problem: str) -> str:
    """What argparse says of the words, in other words where they are those of a programmer."""
    if found := _OF_FLAG.fullmatch(problem):
        flag = found["flag"].rpartition("/")[2]
        if found["got"] is None:
            return f"%{parser.prog}: {flag} needs a value; see %{parser.prog}?"
        kind = {None: "takes no value", "int": "must be an integer", "float": "must be a number"}
        return f"%{parser.prog}: {flag} {kind[found['kind']]} (got {found['got']})"
    missing = problem.removeprefix(_REQUIRED)
    if missing != problem:
        needed = " and ".join(missing.upper().split(", "))
        return f"%{parser.prog} needs {needed}; see %{parser.prog}?"
    if not problem.startswith(_TOO_MANY):
        return problem
    if parser._get_positional_actions():  # noqa: SLF001
        return f"{problem}. A name or a path with spaces is written in quotes"
    return f"{problem}. %{parser.prog} takes flags only; see %{parser.prog}?"


def parse_known(parser: ArgumentParser, line: str, into: Parsed) -> tuple[Parsed, list[str]]:
    """As ``parse``, and the words that the magic has no place for."""
    with _remedies(parser):
        return parser.parse_known_args(_arguments(parser, line), into)


def parse_flags(parser: ArgumentParser, line: str, into: Parsed) -> tuple[Parsed, str]:
    """The flags at the beginning of ``line``, and the text behind them exactly as it stands.

    The text begins with the first word that is no flag, or after ``--``. Raises as ``parse`` does.
    """
    words: list[str] = []
    rest = line.strip()
    while _FLAG.match(rest):
        argument, rest = _first_argument(parser, rest)
        words.append(argument)
    _check_repeats(parser, words)
    if rest == "--" or rest.startswith("-- "):
        rest = rest[2:].lstrip()
    with _remedies(parser):
        return parser.parse_args(words, into), rest


def variable_name(word: str) -> str:
    """``word``, if a variable can be called so; for ``argument(type=…)``."""
    if not word.isidentifier() or keyword.iskeyword(word):
        raise UsageError(f"{word!r} is not a valid variable name")
    return word


def output_name(word: str) -> str:
    """``word``, if a result may be put into a variable of this name; for ``argument(type=…)``."""
    variable_name(word)
    owner = ""
    if word == "_llm":
        owner = "nbllm"
    elif word in _IPYTHONS or _IPYTHONS_NUMBERED.fullmatch(word):
        owner = "IPython"
    elif hasattr(builtins, word) or (word.startswith("__") and word.endswith("__")):
        owner = "Python"
    if owner:
        other = f"my_{word.strip('_')}" if word.strip("_") else "answer"
        raise UsageError(f"{word!r} is a name that {owner} uses; choose another, such as {other!r}")
    return word


def numeral(word: str) -> int | float | str:
    """A number as such, and any other word as it is; for ``argument(type=…)``."""
    for kind in (int, float):
        with suppress(ValueError):
            return kind(word)
    return word


def seconds(word: str) -> float:
    """A time such as "90", "90s", "1.5m" or "2h", in seconds; for ``argument(type=…)``."""
    from nbllm.core.option_checks import seconds_in

    if (found := seconds_in(word)) is None:
        raise UsageError(f"{word!r} is not a time such as 90, 90s, 10m or 2h")
    return found


def size_bytes(word: str) -> int:
    """A size such as "500MiB" or "2 GiB", in bytes; for ``argument(type=…)``."""
    match = re.fullmatch(r"(\d{1,9}(?:\.\d+)?)\s*([kmgt])i?b?", word.strip().lower())
    if match is None or not float(match[1]):
        raise UsageError(f"{word!r} is not a size such as 500MiB or 2GiB")
    return int(float(match[1]) * 1024 ** ("kmgt".index(match[2]) + 1))


def share(word: str) -> float:
    """A share such as "1%" or "0.01", as a fraction; for ``argument(type=…)``."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?|\.\d+)\s*(%?)", word.strip())
    value = float(match[1]) / (100 if match[2] else 1) if match else math.inf
    if value > 1:
        raise UsageError(f"{word!r} is not a share such as 1% or 0.01")
    return value


def scaled(word: str) -> tuple[str, float]:
    """A name with a scale behind "=", 1 without one; for ``argument(type=…)``."""
    name, _, scale = word.rpartition("=")
    try:
        return (name, float(scale)) if name else (word, 1.0)
    except ValueError:
        return word, 1.0


class Bare(NamedTuple):  # defined in a sixth of a dataclass's time, for %load_ext
    """A word of ``choices``, or ``bare`` where none follows the flag; for ``argument(type=…)``."""

    choices: tuple[str, ...]
    bare: str

    def __call__(self, word: str) -> str:
        """The value, which the option itself checks."""
        return word

    def first_word(self, text: str) -> tuple[str, str]:
        """The value that ``text`` begins with, and what follows it."""
        word, _, rest = text.partition(" ")
        return (word, rest.lstrip()) if word in self.choices else (self.bare, text)


def names(words: str) -> tuple[str, ...]:
    """Names with commas between them; for ``argument(type=…)``."""
    found = tuple(filter(None, (word.strip() for word in words.split(","))))
    if not found:
        raise UsageError(f"{words!r} has no name in it; write a,b,c")
    return found


def unescaped(word: str) -> str:
    r"""``word`` with ``\n``, ``\t`` and ``\\`` as the characters that they mean."""
    return re.sub(r"\\[nt\\]", lambda match: _ESCAPES[match.group()], word)


def _arguments(parser: ArgumentParser, line: str) -> list[str]:
    words: list[str] = []
    rest = line.strip()
    while rest:
        argument, rest = _first_argument(parser, rest)
        words.append(argument)
    _check_repeats(parser, words)
    return words


def _check_repeats(parser: ArgumentParser, words: Iterable[str]) -> None:
    """Raise ``UsageError`` for a flag that is given twice, where only the last would count.

    Two flags of one value, such as ``--pin`` and ``--no-pin``, contradict each other likewise.
    """
    actions = parser._option_string_actions  # noqa: SLF001
    seen: dict[str, str] = {}
    for word in words:
        flag = word.partition("=")[0]
        flag = flag if flag in actions else word[:2]
        action = actions.get(flag)
        if action is None or isinstance(action, _AppendAction):
            continue
        before = seen.get(action.dest)
        if before == flag:
            raise UsageError(f"%{parser.prog}: {flag} is given twice; give it once")
        if before is not None:
            raise UsageError(f"%{parser.prog}: {before} and {flag} set the same; give one of them")
        seen[action.dest] = flag


def _first_argument(parser: ArgumentParser, text: str) -> tuple[str, str]:
    """The first word, together with its value where it is a flag that takes one."""
    word, rest = _first_word(text)
    if not _FLAG.match(text):
        return word, rest
    flag, has_value, _ = word.partition("=")
    actions = parser._option_string_actions  # noqa: SLF001 - no public way to ask for flags
    if not word.startswith("--") and word[:2] in actions and word[2:]:
        return word, rest  # a value that is attached: -oanswer
    if flag not in actions:
        if flag in _HELP:
            raise HelpWanted
        whole = _whole_flag(parser, flag)
        word, flag = whole + word.removeprefix(flag), whole
    kind = actions[flag].type
    first_word = getattr(kind, "first_word", None)  # how the value is to be read
    if first_word is not None and not (has_value and isinstance(kind, Bare)):
        value, rest = first_word(text[len(flag) :].removeprefix("=").lstrip())
        return (f"{flag}={value}" if value else flag), rest
    if has_value or actions[flag].nargs == 0 or not rest:
        return word, rest
    value, rest = _first_word(rest)
    # Joined, so that argparse takes a value that begins with a hyphen for what it is.
    return (f"{flag}={value}" if flag.startswith("--") else f"{flag}{value}"), rest


def _whole_flag(parser: ArgumentParser, flag: str) -> str:
    """The one flag that begins like this, as in ``--temp 0``. Raises ``UsageError``."""
    actions = parser._option_string_actions  # noqa: SLF001
    begun = [name for name in actions if flag.startswith("--") and name.startswith(flag)]
    if len(begun) == 1:
        return begun[0]
    if begun:
        raise UsageError(f"%{parser.prog}: {flag} can be {' or '.join(sorted(begun))}")
    hint = did_you_mean(flag, actions) or f" %{parser.prog}? shows all that it has."
    raise UsageError(f"%{parser.prog} has no flag {flag}.{hint}")


def _first_word(text: str) -> tuple[str, str]:
    """The first word of ``text``; quotes keep blanks, a backslash means itself (Windows' paths)."""
    stream = io.StringIO(text)
    lexer = shlex.shlex(stream, posix=True)
    lexer.whitespace_split = True
    lexer.commenters = lexer.escape = ""
    try:
        word = lexer.get_token()
    except ValueError:
        raise UnclosedQuoteError(f"unclosed quotation mark: {text}") from None
    return word or "", stream.read().lstrip()
