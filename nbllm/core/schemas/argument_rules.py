"""The parameters of a tool as rules for values that stand by themselves, not inside of JSON.

Texts stand there as they are, up to a mark that they must not hold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from nbllm.core.schemas.grammar_rules import Rules, Use, literal
from nbllm.core.schemas.schema_alternatives import Alternative, alternatives
from nbllm.core.schemas.schema_documents import Document
from nbllm.core.schemas.schema_keywords import Schema, SchemaError
from nbllm.core.schemas.schema_violations import following
from nbllm.core.schemas.string_rules import FORMATS, add_plain_text

__all__ = ["Arguments", "Branch", "Parameter", "Unwanted"]

_MOST_COUNTED = 1_000


@dataclass(frozen=True, slots=True)
class Unwanted:
    """What a text that stands by itself must not hold.

    Of one line break at each end, if ``trimmed``, the reader takes it for the format's own; no text
    that a schema binds begins with one of ``begins``.
    """

    marks: tuple[str, ...]
    trimmed: bool = False
    begins: tuple[str, ...] = ()

    def patterns(self, longest: int, *, is_bound: bool) -> tuple[str, ...]:
        """Patterns that find it, marks by no more than so many characters."""
        found = [_escaped(mark[:longest]) for mark in self.marks]
        found += [f"^{_escaped(text)}" for text in self.begins]
        found += [r"^\n", r"\n$"] if is_bound and self.trimmed else []
        return tuple(dict.fromkeys(found))

    def written(self, text: str) -> str | None:
        """A text as it is to stand there; None where it cannot."""
        if any(mark in text for mark in self.marks) or text.startswith(self.begins):
            return None
        begin, end = ("\n" * (self.trimmed and edge == "\n") for edge in (text[:1], text[-1:]))
        return f"{begin}{text}{end}"


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter's name and all that its value must follow."""

    name: str
    schemas: tuple[Schema, ...]
    required: bool


@dataclass(frozen=True, slots=True)
class Branch:
    """One of the ways in which arguments can follow a tool's schema."""

    parameters: tuple[Parameter, ...]


class Arguments:
    """The parameters of one tool; ``rule`` makes the JSON rule of what follows some schemas.

    ``given`` notes a rule that is used, and gives its name; ``texts`` are the rules of texts that
    are made already, for this tool or another.
    """

    def __init__(
        self,
        rules: Rules,
        document: Document,
        rule: Callable[[Sequence[Schema]], str],
        given: Callable[[Use], str],
        texts: dict[tuple[object, ...], str],
    ) -> None:
        self._rules, self._document, self._given = rules, document, given
        self._rule = rule
        self._texts = texts

    @property
    def root(self) -> Schema:
        """The schema of all arguments."""
        return self._document.root

    def branches(self, schemas: Sequence[Schema]) -> list[Branch]:
        """The ways to follow all of ``schemas``, each once.

        Where they mean no object at all, there are no parameters. Raises ``SchemaError`` where no
        object can follow them.
        """
        ways = alternatives(self._document, schemas)
        objects = [one for one in ways if "object" in one.types()]
        if ways and not objects:
            return [Branch(())]
        found = {_key(branch): branch for branch in map(self._branch, objects) if branch}
        if not found:
            raise SchemaError("", "no arguments can follow it")
        return list(found.values())

    def _branch(self, one: Alternative) -> Branch | None:
        declared = [name for properties in one.having("properties") for name in properties]
        listed = [names for names in one.having("required") if isinstance(names, list)]
        required = {name for names in listed for name in names}
        parameters = []
        for name in dict.fromkeys([*declared, *sorted(required)]):
            schemas = tuple(one.of_property(name))
            if alternatives(self._document, schemas):
                parameters.append(Parameter(name, schemas, name in required))
            elif name in required:
                return None
        return Branch(tuple(parameters))

    def kinds(self, schemas: Sequence[Schema]) -> set[str]:
        """The types that a value may have."""
        found: set[str] = set()
        for one in alternatives(self._document, schemas):
            values = one.values()
            found |= one.types() if values is None else set(map(_kind, values)) & _wide(one.types())
        return found

    def items(self, schemas: Sequence[Schema]) -> tuple[list[Schema], int, int | None]:
        """What the items of a list must follow, and how many there may be."""
        one = alternatives(self._document, schemas)[0]
        inner = [schema for schema in one.having("items") if isinstance(schema, bool | dict)]
        return inner, one.count("min", "Items") or 0, one.count("max", "Items")

    def json(self, schemas: Sequence[Schema], kinds: Sequence[str] | None = None) -> str:
        """The name of the rule of values as JSON, perhaps of these types only."""
        return self._rule([*schemas, {"type": list(kinds)}] if kinds else schemas)

    def text(self, schemas: Sequence[Schema], unwanted: Unwanted) -> str | None:
        """The texts that follow ``schemas`` as they are; None where none can stand so."""
        options = [self._texts_of(one, unwanted) for one in alternatives(self._document, schemas)]
        found = list(dict.fromkeys(option for option in options if option))
        return f"({' | '.join(found)})" if found else None

    def _texts_of(self, one: Alternative, unwanted: Unwanted) -> str | None:
        values = one.values()
        if values is not None:
            texts = [value for value in values if isinstance(value, str)]
            kept = map(unwanted.written, following(self._document, one.schemas, texts))
            return " | ".join(literal(t) or '""' for t in kept if t is not None) or None
        if "string" not in one.types():
            return None
        patterns = [*one.having("pattern")]
        patterns += [FORMATS[name] for name in one.having("format") if name in FORMATS]
        patterns += [
            FORMATS["base64"] for name in one.having("contentEncoding") if name == "base64"
        ]
        least, most = one.count("min", "Length") or 0, one.count("max", "Length")
        if most is not None and most < least:
            return None
        return self._bound(tuple(dict.fromkeys(patterns)), least, most, unwanted)

    def _bound(
        self, patterns: tuple[str, ...], least: int, most: int | None, unwanted: Unwanted
    ) -> str:
        """Texts of this form. Where that takes too many rules, less of the marks is left out."""
        least = min(least, _MOST_COUNTED)
        most = None if most is None or most > _MOST_COUNTED else most
        is_bound = bool(patterns or least or most is not None)
        for longest in (max(map(len, unwanted.marks), default=1), 2, 1):
            avoided = unwanted.patterns(longest, is_bound=is_bound)
            key = patterns, least, most, avoided
            if key not in self._texts:
                self._texts[key] = self._plain(patterns, least, most, avoided)
            if self._texts[key]:
                return self._texts[key]
        if patterns:  # what is asked for holds a mark, or takes too many rules
            return ""
        firsts = "".join(dict.fromkeys(f"\\U{ord(mark[0]):08X}" for mark in unwanted.marks))
        return f"[^{firsts}]{{{least},{'' if most is None else most}}}"

    def _plain(
        self, patterns: Sequence[str], least: int, most: int | None, avoided: Sequence[str]
    ) -> str:
        """The rule of such texts; "" where there are none, or they take too many rules."""
        made = add_plain_text(self._rules, patterns, least, most, avoided)
        return self._given(made) if made and made.name not in self._rules.unusable() else ""


def _key(branch: Branch) -> tuple[object, ...]:
    return tuple((p.name, p.required, tuple(map(id, p.schemas))) for p in branch.parameters)


def _escaped(text: str) -> str:
    return "".join(f"\\u{{{ord(character):x}}}" for character in text)


def _wide(types: set[str]) -> set[str]:
    return types | ({"integer"} if "number" in types else set())


def _kind(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case str():
            return "string"
        case dict():
            return "object"
        case list():
            return "array"
        case _:
            return "integer" if isinstance(value, int) else "number"
