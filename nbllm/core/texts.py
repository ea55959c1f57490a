"""Values from anywhere as text that can be shown, encoded and sent."""

from __future__ import annotations

from dataclasses import MISSING, Field, fields
from reprlib import Repr
from typing import Any

__all__ = [
    "MOST_FOREIGN",
    "brief_repr",
    "capped",
    "is_well_formed",
    "quoted",
    "sentence",
    "shown",
    "trimmed",
    "well_formed",
]

_PREDICATES = ("must ", "requires ", "cannot be ", "is ", "has ", "contains ")
_SHOWN = Repr()
_SHOWN.maxstring = _SHOWN.maxother = 80
MOST_FOREIGN = 300
"""So many characters of another program's or person's text are in a message at most."""


def is_well_formed(text: str) -> bool:
    """Whether ``text`` can be encoded: it holds no half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def well_formed(text: str) -> str:
    r"""``text`` as a plain ``str`` that can be encoded.

    Halves of surrogate pairs, as ``json.loads`` leaves them behind, are joined where both are
    there; a lone one becomes U+FFFD.

    >>> well_formed("\ud83d\udea2 \ud83d") == "\U0001f6a2 \ufffd"
    True
    """
    plain = str.__str__(text)
    if plain.isascii() or is_well_formed(plain):
        return plain
    return plain.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def shown(value: object) -> str:
    """``value`` for an error message: at most about 80 characters, whatever it is."""
    try:
        return well_formed(_SHOWN.repr(value))
    except Exception:  # noqa: BLE001 - its own __repr__ may raise anything; a long int's does
        return f"a value of type {type(value).__name__}"


def sentence(subject: str, problem: str) -> str:
    """What is wrong with the subject: ``top_k must be at least 0``, but ``top_q: unknown option``.

    Without a subject it is the problem alone.

    >>> sentence("top_k", "must be at least 0")
    'top_k must be at least 0'
    >>> sentence("top_q", "unknown option")
    'top_q: unknown option'
    """
    if not subject:
        return problem
    return f"{subject} {problem}" if problem.startswith(_PREDICATES) else f"{subject}: {problem}"


def capped(text: str, most: int = MOST_FOREIGN) -> str:
    """Foreign text for an error message: its beginning and its end where it is long.

    >>> capped("abcdefghijklmnop", most=8)
    'abcde…op'
    """
    text = well_formed(text)
    if len(text) <= most:
        return text
    end = most // 4
    return f"{text[: most - end - 1]}…{text[len(text) - end :]}"


def trimmed(text: str) -> str:
    r"""``text`` without blank ends; the first of several lines keeps its indentation.

    >>> trimmed("  one line ")
    'one line'
    >>> trimmed("\n    if x:\n        y\n")
    '    if x:\n        y'
    """
    whole = text.strip()
    if "\n" not in whole:
        return whole
    start = text.rfind("\n", 0, text.index(whole)) + 1
    return text[start:].rstrip()


def quoted(word: str) -> str:
    r"""``word`` as a magic and a shell take it for one word.

    >>> quoted("phi"), quoted("my model"), quoted('6" nails')
    ('phi', '"my model"', '"6"\'"\'" nails"')
    """
    if word and not any(each.isspace() or each in "'\"&;()[]*?$" for each in word):
        return word
    # Either quotation mark keeps the other one as it stands.
    return "'\"'".join(f'"{part}"' if part or '"' not in word else "" for part in word.split('"'))


_LONGEST = 200


def brief_repr(value: Any) -> str:
    """The ``__repr__`` of a dataclass: its fields but for those that are as they are by default.

    A long text is cut, and its length told.
    """
    known = [field for field in fields(value) if field.repr]
    told = [
        f"{field.name}={_brief(getattr(value, field.name))}"
        for field in known
        if not _is_default(field, getattr(value, field.name))
    ]
    return f"{type(value).__qualname__}({', '.join(told)})"


def _is_default(field: Field[Any], value: object) -> bool:
    if field.default_factory is not MISSING:
        return bool(value == field.default_factory())
    default = field.default
    return value is default or (type(value) is type(default) and bool(value == default))


def _brief(value: object) -> str:
    if isinstance(value, str) and len(value) > _LONGEST:
        return f"{well_formed(value[:_LONGEST])!r}… ({len(value):,} characters)"
    try:
        return repr(value)
    except Exception:  # noqa: BLE001 - a repr in it may raise anything, and a repr must not
        return shown(value)
