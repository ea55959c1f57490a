"""``RouterSettings``: what an entry of a config says of a router, checked by the key."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from nbllm.core.errors import InvalidOptionError
from nbllm.core.routing.entry_hints import (
    failure_hint,
    key_hint,
    member_hint,
    members_hint,
    number_hint,
    strategy_hint,
)
from nbllm.core.routing.health import FAILURES, USUAL_FALLBACK
from nbllm.core.suggest import did_you_mean
from nbllm.core.texts import brief_repr, shown

__all__ = [
    "ROUTER_KEYS",
    "MemberPrice",
    "RouterMember",
    "RouterSettings",
    "Strategy",
    "router_key_hint",
    "written_settings",
]

Strategy = Literal["in-order", "least-busy", "lowest-latency", "weighted", "cheapest"]
"""How a router chooses among the members that can be asked: the first of the list; the one with
the fewest requests under way; the one whose first token came soonest of late; in proportion to
the weights; the one whose answer costs least, of those in whose context the prompt fits."""

_A_PRICE = 'an object such as {"input": 0.15, "output": 0.6}, in US dollars for a million tokens'
_A_MEMBER = (
    "A member has name, weight and price; all else stands in the entry of the model that it names."
)
_MOST_ATTEMPTS = 100
_MOST_WEIGHT = 1e9


@dataclass(frozen=True, slots=True)
class MemberPrice:
    """US dollars for a million tokens that are read (``input``) and written (``output``)."""

    input: float
    output: float

    def __post_init__(self) -> None:
        for name in ("input", "output"):
            _check_number(f"price.{name}", getattr(self, name), least=0.0)


@dataclass(frozen=True, slots=True)
class RouterMember:
    """A model of a router, by the name that it is loaded by.

    ``weight`` is its share of the requests, relative to the other members'. ``price`` stands for
    that of the table of prices. Raises ``InvalidOptionError``.
    """

    name: str
    weight: float = 1.0
    price: MemberPrice | None = None

    __repr__ = brief_repr

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.strip():
            raise InvalidOptionError("name", f"must be a model's name (got {shown(self.name)})")
        _check_number("weight", self.weight, above=0.0, most=_MOST_WEIGHT)


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterSettings:
    """The members of a router and how it chooses among them. Raises ``InvalidOptionError``.

    Attributes:
        members: At least two, in the order of preference.
        strategy: See ``Strategy``.
        sticky: The next turns of a conversation go to the member that answered its first one,
            which has read it already. The strategies "in-order" and "cheapest" prefer the same
            member anyway, and do not need it.
        fallback: The kinds of failures after which another member is asked; see ``health``.
        restart: Another member begins the answer anew where one failed in the midst of it. Without
            it such a failure is raised with the text so far.
        max_attempts: So many requests are sent for one answer at most, to all members together.
        cooldown_seconds: How long a member is left alone after a first failure, where its server
            requests no delay; None: by the kind of the failure.
    """

    members: tuple[RouterMember, ...]
    strategy: Strategy = "in-order"
    sticky: bool = True
    fallback: tuple[str, ...] = USUAL_FALLBACK
    restart: bool = False
    max_attempts: int = 5
    cooldown_seconds: float | None = None

    __repr__ = brief_repr

    def __post_init__(self) -> None:
        object.__setattr__(self, "members", _members(self.members))
        names = [member.name for member in self.members]
        object.__setattr__(self, "fallback", _fallback(self.fallback, names))
        if self.strategy not in (known := get_args(Strategy)):
            hint = strategy_hint(self.strategy, known)
            raise _not_one_of("strategy", self.strategy, known, hint)
        for name in ("sticky", "restart"):
            if not isinstance(getattr(self, name), bool):
                given = getattr(self, name)
                problem = f"must be true or false (got {shown(given)}){number_hint(given)}"
                raise InvalidOptionError(name, problem)
        attempts = self.max_attempts
        if isinstance(attempts, bool) or not isinstance(attempts, int):
            problem = f"must be an integer (got {shown(attempts)}){number_hint(attempts)}"
            raise InvalidOptionError("max_attempts", problem)
        _check_number("max_attempts", attempts, least=1, most=_MOST_ATTEMPTS)
        if self.cooldown_seconds is not None:
            _check_number("cooldown_seconds", self.cooldown_seconds, above=0.0, most=86_400.0)

    def check_named(self, router: str) -> None:
        """Raise ``InvalidOptionError`` where the ``router`` of this name is a member of itself."""
        for place, member in enumerate(self.members):
            if member.name == router:
                problem = f"the router {router!r} must not contain itself; name another model"
                raise InvalidOptionError(f"members[{place}]", problem)


ROUTER_KEYS = tuple(field.name for field in fields(RouterSettings))
"""The keys of a router's entry that no other has."""


def router_key_hint(key: str, value: object, known: Iterable[str]) -> str:
    """What to do about an unknown ``key`` of a router's entry, with a leading blank."""
    return key_hint(key, value, known, ROUTER_KEYS)


def _members(given: Any) -> tuple[RouterMember, ...]:
    if not isinstance(given, list | tuple):
        hint = members_hint(given)
        problem = f"must be a list of models' names or objects{hint} (got {shown(given)})"
        raise InvalidOptionError("members", problem)
    members = tuple(_member(f"members[{place}]", each) for place, each in enumerate(given))
    if len(members) < 2:
        raise InvalidOptionError(
            "members",
            f"a router needs at least two members (got {len(members)}); "
            "a model alone is used by its own name",
        )
    names: dict[str, int] = {}
    for place, member in enumerate(members):
        first = names.setdefault(member.name, place)
        if first != place:
            problem = f"members {first} and {place} are both {member.name!r}; remove one of them"
            raise InvalidOptionError(f"members[{place}]", problem)
    return members


def _member(place: str, given: Any) -> RouterMember:
    if isinstance(given, RouterMember):
        return given
    values: Any = {"name": given} if isinstance(given, str) else given
    if not isinstance(values, Mapping):
        problem = f"must be a model's name, or an object with name and weight (got {shown(given)})"
        raise InvalidOptionError(place, problem + member_hint(given))
    if "name" not in values:
        raise InvalidOptionError(f"{place}.name", f"this key is required{member_hint(values)}")
    with_price = {**values}
    if isinstance(values.get("price"), Mapping):
        with_price["price"] = _made(MemberPrice, f"{place}.price", values["price"], strip="price.")
    elif values.get("price") is not None and not isinstance(values["price"], MemberPrice):
        problem = f"must be {_A_PRICE} (got {shown(values['price'])})"
        raise InvalidOptionError(f"{place}.price", problem)
    member: RouterMember = _made(RouterMember, place, with_price)
    return member


def _made(kind: Any, place: str, values: Mapping[str, Any], strip: str = "") -> Any:
    known = [field.name for field in fields(kind)]
    for key in values:
        if key not in known:
            own = f"Its price is {_A_PRICE}." if kind is MemberPrice else _A_MEMBER
            problem = f"unknown key.{did_you_mean(str(key), known) or f' {own}'}"
            raise InvalidOptionError(f"{place}.{key}", problem)
    given = {key: value for key, value in values.items() if value is not None}
    missing = [key for key in known if key in ("name", "input", "output") and key not in given]
    if missing:
        raise InvalidOptionError(f"{place}.{missing[0]}", "this key is required")
    try:
        return kind(**given)
    except InvalidOptionError as error:
        option = error.option.removeprefix(strip)
        raise InvalidOptionError(f"{place}.{option}", error.problem) from None


def _fallback(given: Any, members: Sequence[str]) -> tuple[str, ...]:
    if not isinstance(given, list | tuple):
        problem = (
            f"must be a list of kinds of failures (got {shown(given)}); leave it out for the "
            "usual ones, and [] is none"
        )
        raise InvalidOptionError("fallback", problem)
    known = [kind.word for kind in FAILURES]
    for place, word in enumerate(given):
        if word not in known:
            hint = failure_hint(word, known, members)
            raise _not_one_of(f"fallback[{place}]", word, known, hint)
    return tuple(dict.fromkeys(given))


def _not_one_of(key: str, word: object, known: Iterable[str], hint: str) -> InvalidOptionError:
    problem = f"must be one of {', '.join(known)} (got {shown(word)}).{hint}"
    return InvalidOptionError(key, problem)


def _check_number(
    key: str,
    value: object,
    *,
    above: float | None = None,
    least: float | None = None,
    most: float = math.inf,
) -> None:
    """That it is a finite number in these bounds."""
    wanted = f"above {above:g}" if above is not None else f"{least:g} or more"
    wanted += f" and at most {most:g}" if most < math.inf else ""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        problem = f"must be a number {wanted} (got {shown(value)}){number_hint(value)}"
        raise InvalidOptionError(key, problem)
    is_too_small = value <= above if above is not None else value < (least or 0.0)
    if is_too_small or value > most:
        raise InvalidOptionError(key, f"must be {wanted} (got {shown(value)})")


def written_settings(settings: RouterSettings) -> dict[str, Any]:
    """The keys of a config's entry: what differs from the defaults, and the members."""
    written: dict[str, Any] = {"members": [_written_member(each) for each in settings.members]}
    usual = RouterSettings(members=settings.members)
    for name in ROUTER_KEYS[1:]:
        value = getattr(settings, name)
        if value != getattr(usual, name):
            written[name] = list(value) if isinstance(value, tuple) else value
    return written


def _written_member(member: RouterMember) -> str | dict[str, Any]:
    written: dict[str, Any] = {"name": member.name}
    if member.weight != 1:
        written["weight"] = member.weight
    if member.price is not None:
        written["price"] = {"input": member.price.input, "output": member.price.output}
    return written if len(written) > 1 else member.name
