"""The option table: how an option is declared, and what is derived from its declaration.

``GenerationOptions`` and ``LoadOptions`` declare each option once, as a field made by ``option``.
Checks, config readers, flags, settings, completion, the reference and the refusals of vendors read
the declarations with ``options_of``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from enum import Flag, auto
from functools import cache
from typing import Any, Literal, TypeVar

from nbllm.core.errors import InvalidOptionError
from nbllm.core.option_checks import (
    adapters_of,
    check_number,
    check_texts,
    listed,
    no_texts,
    seconds_in,
)
from nbllm.core.suggest import did_you_mean
from nbllm.core.texts import brief_repr, shown

__all__ = [
    "ADAPTERS",
    "SWITCH",
    "TEXTS",
    "Backend",
    "Kind",
    "Option",
    "OptionSet",
    "choice",
    "given",
    "integer",
    "made",
    "number",
    "option",
    "options_of",
    "refused",
    "seconds",
    "with_reference",
]

_MOST = 2**31 - 1
"""Bounds beyond it are those of the machine, and of no interest to a reader."""


class Backend(Flag):
    """What a request is sent to, as far as it matters to options."""

    LLAMA_CPP = auto()
    OPENAI_CHAT = auto()
    OPENAI_RESPONSES = auto()
    ANTHROPIC = auto()
    GEMINI = auto()
    SERVERS = auto()
    """Servers of the OpenAI protocol that are not OpenAI's, such as vLLM and llama-server."""
    NONE = 0
    CLOUD = OPENAI_CHAT | OPENAI_RESPONSES | ANTHROPIC | GEMINI | SERVERS
    EVERY = LLAMA_CPP | CLOUD


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """The type and the range of an option's values.

    Attributes:
        words: Which values there are, as the reference says it.
        checked: The form in which the value of an option with a name is kept. Raises
            ``InvalidOptionError`` that names the option. None is not asked about.
        typed: How a word that is typed for a flag is read; a switch's flag takes none.
        metavar: What stands for a value in the help of a flag.
        repeats: The values are lists, to which each use of a flag adds one item.
        choices: All values that there are, where they can be listed.
        bare: What a flag means that none of the choices follows; "" where one must.
    """

    words: str
    checked: Callable[[str, Any], Any]
    typed: Literal["number", "text", "escaped", "scaled", "switch"] = "text"
    metavar: str | None = None
    repeats: bool = False
    choices: tuple[str, ...] = ()
    bare: str = ""


def number(low: float, high: float, *, whole: bool = False) -> Kind:
    """Numbers within bounds; of a subclass, such as NumPy's, the plain number is kept."""

    def checked(name: str, value: Any) -> float:
        check_number(name, value, low, high, whole=whole)
        return float.__float__(value) if isinstance(value, float) else int.__int__(value)

    noun = "an integer" if whole else "a number"
    return Kind(
        words=f"{noun}, at least {low:,}" if high >= _MOST else f"{noun} from {low:,} to {high:,}",
        checked=checked,
        typed="number",
        metavar="N" if whole else "X",
    )


def seconds(low: float, high: float) -> Kind:
    """Times: numbers of seconds, or texts such as "10m"; kept as numbers."""
    inside = number(low, high)

    def checked(name: str, value: Any) -> float:
        if not isinstance(value, str):
            return float(inside.checked(name, value))
        if (found := seconds_in(value)) is None:
            problem = f"must be seconds, or a time such as 90s, 10m or 2h (got {shown(value)})"
            raise InvalidOptionError(name, problem)
        return float(inside.checked(name, found))

    words = f"seconds, at least {low:g}, or a time such as 90s, 10m or 2h"
    return Kind(words=words, checked=checked, metavar="TIME")


def integer(low: int, high: int) -> Kind:
    """Integers within bounds."""
    return number(low, high, whole=True)


def choice(*words: str, bare: str = "") -> Kind:
    """One of several words; a flag without one means ``bare``, if that is given."""
    wanted = " or ".join(words) if len(words) < 3 else f"one of {', '.join(words)}"

    def checked(name: str, value: Any) -> str:
        if not isinstance(value, str) or value not in words:
            raise InvalidOptionError(name, f"must be {wanted} (got {shown(value)})")
        return str.__str__(value)

    return Kind(words=wanted, checked=checked, choices=words, bare=bare)


def made(checked: Callable[[str, Any], Any], words: str, **more: Any) -> Kind:
    """Whatever ``checked`` makes of a name and a value, or refuses."""
    return Kind(words=words, checked=checked, **more)


def _switched(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise InvalidOptionError(name, f"must be True or False (got {shown(value)})")
    return value


def _texts(name: str, value: Any) -> tuple[str, ...]:
    try:
        texts: tuple[str, ...] = listed(name, value)
    except InvalidOptionError:
        raise no_texts(name, value) from None
    check_texts(name, texts)
    return texts


SWITCH = Kind(words="True or False", checked=_switched, typed="switch", choices=("True", "False"))
TEXTS = Kind(
    words="a string, or a list of strings",
    checked=_texts,
    typed="escaped",
    metavar="TEXT",
    repeats=True,
)
"""One string or several, none of them empty; kept as a tuple."""
ADAPTERS = Kind(
    words="paths, pairs of a path and a scale, or a mapping of paths to scales",
    checked=lambda _, value: adapters_of(value),
    typed="scaled",
    metavar="NAME=SCALE",
    repeats=True,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """The declaration of one option.

    Attributes:
        kind: The type and the range of its values.
        about: What it does, in a sentence or two: the help of its flag.
        more: What else there is to know of it, which the reference tells in addition.
        flags: Its flags in magics, none for an option without one. One that begins with ``--no-``
            turns a switch off.
        metavar: What stands for its value in the help; None: what its kind has.
        suggested: Values to complete, besides the choices of its kind.
        backends: Of a generation option, which backends follow it.
        ignored_by: Which answer as if it were not set; all others refuse it.
        sent: It is part of what a backend is told, and not kept by who asks.
        affects_answer: Answers may differ by it.
    """

    kind: Kind
    about: str
    more: str = ""
    flags: tuple[str, ...] = ()
    metavar: str | None = None
    suggested: tuple[str, ...] = ()
    backends: Backend = Backend.EVERY
    ignored_by: Backend = Backend.NONE
    sent: bool = True
    affects_answer: bool = True

    @property
    def reference(self) -> str:
        """All that there is to know of what it does."""
        return f"{self.about} {self.more}".rstrip()

    @property
    def values(self) -> tuple[str, ...]:
        """Values to complete."""
        return self.suggested or self.kind.choices


def option(kind: Kind, about: str, more: str = "", **rest: Any) -> Any:
    """The default None of a field of an ``OptionSet``, with its ``Option`` as metadata."""
    declared = Option(kind=kind, about=about, more=more, **rest)
    return field(default=None, metadata={"option": declared})


Set = TypeVar("Set", bound="OptionSet")


class OptionSet:
    """The base of frozen dataclasses whose fields are made by ``option``.

    A subclass may have other fields besides, which are not options of the set.
    Values are checked where one is constructed, and trusted from then on: ``merged`` and
    ``replaced`` only check whether they go together.
    """

    __slots__ = ()

    def __post_init__(self) -> None:
        for name, declared in options_of(type(self)).items():
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, declared.kind.checked(name, value))
        self._check_together()

    @classmethod
    def of(cls: type[Set], values: Mapping[str, Any]) -> Set:
        """Options from names and values.

        Raises ``InvalidOptionError``, which for an unknown name suggests the closest one.
        """
        known = options_of(cls)
        for name in values:
            if name not in known:
                raise InvalidOptionError(name, f"unknown option.{did_you_mean(name, known)}")
        return cls(**values)

    def merged(self: Set, over: Set) -> Set:
        """These options with every value that ``over`` sets in its place."""
        return self.replaced(**over.set_values())

    def replaced(self: Set, **values: Any) -> Set:
        """These options with ``values``, which a set of options was constructed with before."""
        if not values:
            return self
        changed = object.__new__(type(self))
        for name in options_of(type(self)):
            value = values[name] if name in values else getattr(self, name)
            object.__setattr__(changed, name, value)
        changed._check_together()
        return changed

    def set_values(self) -> dict[str, Any]:
        """The options that are set, by name."""
        names = options_of(type(self))
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    def _check_together(self) -> None:
        """Raise ``InvalidOptionError`` for values that exclude each other."""

    def __repr__(self) -> str:
        return brief_repr(self)


def given(kind: type[Set], options: object, overrides: Mapping[str, Any], example: str) -> Set:
    """The options that a caller gave, as a set, single ones by name, or both; the latter win.

    ``example`` is one by its name, for the message where the set is none.
    Raises ``InvalidOptionError``.
    """
    if options is not None and not isinstance(options, kind):
        raise InvalidOptionError(
            "options",
            f"must be a {kind.__name__} (got {shown(options)}); single options can be given by "
            f"name, as in {example}",
        )
    named = kind.of(overrides)
    return named if options is None else options.merged(named)


def options_of(kind: type[OptionSet]) -> Mapping[str, Option]:
    """The declarations of a class of options, by their names, in their order."""
    a_dataclass: Any = kind
    return _declared(a_dataclass)


@cache
def _declared(kind: Any) -> Mapping[str, Option]:
    return {
        each.name: each.metadata["option"] for each in fields(kind) if "option" in each.metadata
    }


def refused(options: OptionSet, backend: Backend) -> tuple[str, ...]:
    """The names of the options that are set and that ``backend`` can neither follow nor ignore.

    Of a ``backend`` that stands for several, those that none of them can. Switches that are off
    and empty lists ask for nothing.
    """
    kind: Any = type(options)
    return tuple(
        name
        for name in _impossible(kind, backend)
        if (value := getattr(options, name)) is not None and value is not False and value != ()
    )


@cache
def _impossible(kind: Any, backend: Backend) -> tuple[str, ...]:
    return tuple(
        name
        for name, declared in options_of(kind).items()
        if not backend & (declared.backends | declared.ignored_by)
    )


def with_reference(kind: type[Set]) -> type[Set]:
    """Decorates a class of options: its docstring explains every option, by its declaration."""
    lines = [f"        {name}: {each.reference}" for name, each in options_of(kind).items()]
    kind.__doc__ = "\n".join([(kind.__doc__ or "").rstrip(), "", "    Attributes:", *lines])
    return kind
