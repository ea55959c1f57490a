"""Rules compiled to a program of small steps, and checked: whatever passes can be run.

A program is three lists of equal length. Step ``n`` is of a kind, with an argument, and goes on at
``after[n]``:

========= ================================================= ==========================
CHARS     takes a character of the ``CharSet``               goes on behind it
TOKEN     takes a token, by ``Token``                        goes on behind it
CALL      runs the rule that begins at the argument          goes on when that returns
SPLIT     goes on at each step of the argument               -
RETURN    ends a rule                                        -
========= ================================================= ==========================
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from nbllm.core.grammars.charsets import CharSet
from nbllm.core.grammars.gbnf import (
    Chars,
    Choice,
    Element,
    GrammarError,
    Literal,
    Ref,
    Repeat,
    Token,
    read_gbnf,
)

__all__ = ["CALL", "CHARS", "RETURN", "SPLIT", "TOKEN", "Program", "compiled"]

CHARS, TOKEN, CALL, SPLIT, RETURN = range(5)
MOST_STEPS = 300_000


class Program:
    """A compiled grammar that begins at step ``start``.

    No rule can call itself before it has taken a character. Raises ``GrammarError``.
    """

    def __init__(self, rules: Mapping[str, Choice], root: str = "root") -> None:
        self.kinds: list[int] = []
        self.arguments: list[Any] = []
        self.after: list[int] = []
        self._end = self._step(RETURN, None, 0)
        self._starts: dict[str, int] = {}
        if root not in rules:
            raise GrammarError(f"grammar does not contain a '{root}' symbol")
        for name in rules:
            self._starts[name] = self._step(SPLIT, (), 0)
        for name, rule in rules.items():
            self.arguments[self._starts[name]] = self._branches(rule, self._end)
        self.start = self._starts[root]
        _refuse_left_recursion(self, {at: name for name, at in self._starts.items()})

    def _step(self, kind: int, argument: Any, after: int) -> int:
        if len(self.kinds) >= MOST_STEPS:
            raise GrammarError(
                f"it expands to more than {MOST_STEPS:,} steps because of its repetitions; "
                "make it smaller or repeat less"
            )
        self.kinds.append(kind)
        self.arguments.append(argument)
        self.after.append(after)
        return len(self.kinds) - 1

    def _branches(self, choice: Choice, after: int) -> tuple[int, ...]:
        return tuple(self._sequence(items, after) for items in choice.sequences)

    def _sequence(self, items: Sequence[Element], after: int) -> int:
        for item in reversed(items):
            after = self._element(item, after)
        return after

    def _element(self, item: Element, after: int) -> int:
        """The step at which ``item`` begins, which goes on at ``after``."""
        match item:
            case Literal(text):
                for character in reversed(text):
                    after = self._step(CHARS, _single(character), after)
                return after
            case Chars(chars):
                return self._step(CHARS, chars, after)
            case Token():
                return self._step(TOKEN, item, after)
            case Ref(name):
                if name not in self._starts:
                    raise GrammarError(f"Undefined rule identifier '{name}'")
                return self._step(CALL, self._starts[name], after)
            case Choice():
                branches = self._branches(item, after)
                return branches[0] if len(branches) == 1 else self._step(SPLIT, branches, after)
            case Repeat():
                return self._repeat(item, after)

    def _repeat(self, repeat: Repeat, after: int) -> int:
        """Copies of the item; one that takes several steps becomes a rule, which copies call."""
        item, least, most = repeat.item, repeat.least, repeat.most
        copies = max(least + (most is None), most or 0)
        if copies > 1 and not isinstance(item, Chars | Token | Ref):
            start = self._step(SPLIT, (), 0)
            self.arguments[start] = (self._element(item, self._end),)
            make: Callable[[int], int] = lambda onward: self._step(CALL, start, onward)  # noqa: E731
        else:
            make = lambda onward: self._element(item, onward)  # noqa: E731
        onward = after
        if most is None:
            onward = self._step(SPLIT, (), 0)
            self.arguments[onward] = (make(onward), after)
        for _ in range((most or 0) - least if most is not None else 0):
            onward = self._step(SPLIT, (make(onward), after), 0)
        for _ in range(least):
            onward = make(onward)
        return onward


@lru_cache(maxsize=1024)
def _single(character: str) -> CharSet:
    return CharSet.of([(ord(character), ord(character))])


@lru_cache(maxsize=8)
def compiled(text: str, token_of: Callable[[str], int | None]) -> Program:
    """The program of a grammar in GBNF. Raises ``GrammarError``."""
    return Program(read_gbnf(text, token_of))


def _refuse_left_recursion(program: Program, names: Mapping[int, str]) -> None:
    calls = _first_calls(program)
    finished: set[int] = set()
    for rule in list(calls):
        path, open_rules = [(rule, iter(calls[rule]))], {rule}
        while path and rule not in finished:
            at, rest = path[-1]
            callee = next((other for other in rest if other not in finished), None)
            if callee is None:
                finished.add(at)
                open_rules.discard(at)
                path.pop()
            elif callee in open_rules:
                name = next((names[r] for r in (callee, *open_rules) if r in names), "root")
                raise GrammarError(
                    f"unsupported grammar, left recursion detected: rule '{name}' can begin "
                    "with itself"
                )
            else:
                open_rules.add(callee)
                path.append((callee, iter(calls[callee])))


def _first_calls(program: Program) -> dict[int, set[int]]:
    """For each rule, those that it can call before it takes anything.

    The steps behind a call are reached too where the called rule can take nothing.
    """
    called = {a for k, a in zip(program.kinds, program.arguments, strict=True) if k == CALL}
    calls: dict[int, set[int]] = {rule: set() for rule in (program.start, *called)}
    waiting: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
    empty: set[int] = set()
    seen: set[tuple[int, int]] = set()
    todo = [(rule, rule) for rule in calls]
    while todo:
        place = rule, at = todo.pop()
        if place in seen:
            continue
        seen.add(place)
        kind, argument = program.kinds[at], program.arguments[at]
        if kind == SPLIT:
            todo += [(rule, branch) for branch in argument]
        elif kind == RETURN:
            empty.add(rule)
            todo += waiting.pop(rule, [])
        elif kind == CALL:
            calls[rule].add(argument)
            behind = (rule, program.after[at])
            (todo if argument in empty else waiting[argument]).append(behind)
    return calls
