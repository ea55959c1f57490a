# ruff: noqa: E501 - tables
"""Schemas as grammars: which JSON they take, and what hostile ones do."""

from __future__ import annotations

import json
import random
import time
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from nbllm.core.grammars.gbnf import read_gbnf
from nbllm.core.grammars.grammar_automaton import Automaton
from nbllm.core.grammars.grammar_program import Program
from nbllm.core.schemas.grammar_writer import GrammarWriter
from nbllm.core.schemas.schema_documents import Document
from nbllm.core.schemas.schema_violations import violation


def automaton(schema: Any) -> Automaton:
    writer = GrammarWriter()
    name = writer.rule(schema, "answer")
    return Automaton(Program(read_gbnf(f"{writer.text()}root ::= {name}\n", lambda text: None)))


def takes(machine: Automaton, text: str) -> bool:
    state = machine.walk(machine.begin(), text.encode())
    return state is not None and state.accepts


NODE = {
    "type": "object",
    "properties": {
        "v": {"type": "integer"},
        "kids": {"type": "array", "items": {"$ref": "#/$defs/N"}},
    },
    "required": ["v"],
}
TAGGED = [
    {
        "type": "object",
        "properties": {"k": {"const": "a"}, "v": {"type": "integer"}},
        "required": ["k", "v"],
    },
    {"type": "object", "properties": {"k": {"const": "b"}}, "required": ["k"]},
]
MANY = {f"p{n}": {"type": "integer"} for n in range(30)}


@pytest.mark.parametrize(
    ("schema", "right", "wrong"),
    [
        (True, [1, "a", [], {}, {"a": [None, {"b": -1.5e3}]}], []),
        ({"title": "F"}, [1, "a", [{}], None], []),
        ({"properties": {"f": {"title": "F"}}, "required": ["f"]}, [{"f": [1]}], [{}, 1]),
        ({"$ref": "#/$defs/N", "$defs": {"N": NODE}}, [{"v": 1, "kids": [{"v": 2}]}], [{"kids": []}]),
        ({"type": "object", "properties": {"c": {"items": {"$ref": "#"}}}}, [{"c": [{"c": []}]}], [{"c": [1]}]),
        ({"type": ["object", "null"], "properties": {"a": {"type": "string"}}, "required": ["a"]},
         [None, {"a": "x"}], [{}, {"a": 1}]),
        ({"type": ["string", "null"], "enum": ["a", None]}, ["a", None], ["b"]),
        ({"type": ["integer", "string"], "maxLength": 1, "minimum": 3}, [3, "a"], [2, "ab", 1.5]),
        ({"type": "string", "nullable": True}, ["a", None], [1]),
        ({"allOf": [{"$ref": "#/$defs/N"}], "$defs": {"N": NODE}}, [{"v": 1}], [{}]),
        ({"allOf": [{"properties": {"a": {"type": "integer"}}, "required": ["a"]},
                    {"properties": {"a": {"minimum": 5}, "b": {"const": 1}}, "required": ["b"]}]},
         [{"a": 5, "b": 1}], [{"a": 4, "b": 1}, {"a": 5}]),
        ({"$ref": "#/$defs/S", "maxLength": 3, "$defs": {"S": {"type": "string"}}}, ["abc"], ["abcd"]),
        ({"type": "object", "properties": {"a": {"type": "string"}}, "anyOf": [
            {"properties": {"b": {"type": "integer"}}, "required": ["b"]}, {"required": ["a"]}]},
         [{"a": "", "b": 1}, {"b": 1}, {"a": ""}], [{}]),
        ({"anyOf": [{"$ref": "#"}, {"type": "string"}]}, ["a"], [1]),
        ({"oneOf": TAGGED}, [{"k": "a", "v": 1}, {"k": "b"}], [{"k": "b", "v": 1}, {"k": "a"}]),
        ({"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": True},
         [{"a": "x", "b": 1}, {"b": 2}, {}, {"aa": 1}, {"": 1}], [{"a": 1}]),
        ({"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": {"type": "integer"}},
         [{"a": "x", "ab": 1}], [{"ab": "x"}, {"a": 1}]),
        ({"type": "object", "properties": {"a": {}}}, [{"a": 1}, {}], [{"b": 1}]),
        ({"type": "object", "properties": {}}, [{}], [{"a": 1}]),
        ({"type": "object"}, [{}, {"a": [1]}], [[]]),
        ({"type": "object", "required": ["x"]}, [{"x": 1}], [{}]),
        ({"type": "object", "properties": {"a": False, "b": True}}, [{"b": 1}, {}], [{"a": 1}]),
        ({"type": "object", "properties": MANY, "required": ["p7", "p8", "p20"]},
         [{"p7": 1, "p8": 2, "p20": 3}, {"p0": 1, "p7": 1, "p8": 2, "p9": 3, "p20": 3, "p29": 1}],
         [{"p7": 1}, {"p8": 1, "p7": 1, "p20": 1}, {"p7": 1, "p20": 1}]),
        ({"type": "object", "patternProperties": {"^x": {"type": "integer"}}, "additionalProperties": False},
         [{"x1": 1, "xy": 2}, {}], [{"y": 1}, {"x": "a"}]),
        ({"type": "object", "propertyNames": {"enum": ["a", "b"]}, "additionalProperties": {"type": "integer"}},
         [{"a": 1, "b": 2}], [{"c": 1}]),
        ({"type": "object", "minProperties": 2, "maxProperties": 3}, [{"a": 1, "b": 2}],
         [{"a": 1}, {}, {"a": 1, "b": 2, "c": 3, "d": 4}]),
        ({"properties": {'q"\\é\n': {"const": 1}}}, [{'q"\\é\n': 1}], [{"q": 1}]),
        ({"type": "array", "minItems": 2}, [[1, 2], [{}, [], None]], [[1], []]),
        ({"type": "array", "items": {"type": "integer"}, "maxItems": 2}, [[], [1, 2]], [[1, 2, 3], ["a"]]),
        ({"type": "array", "items": {"type": "integer"}, "maxItems": 0}, [[]], [[1]]),
        ({"type": "array", "items": False}, [[]], [[1]]),
        ({"prefixItems": [{"type": "integer"}, {"type": "string"}], "items": False},
         [[1, "a"], [1], []], [["a"], [1, "a", 2]]),
        ({"prefixItems": [{"type": "integer"}], "items": {"type": "string"}, "minItems": 2},
         [[1, "a"], [1, "a", "b"]], [[1], [1, 2]]),
        ({"type": "array", "items": [{"type": "integer"}], "additionalItems": {"type": "null"}},
         [[1, None]], [[1, 1]]),
        ({"const": {"a": [1, 'é\n"', None]}}, [{"a": [1, 'é\n"', None]}], [{"a": [1]}]),
        ({"enum": [1, 2.5, "x", [1], {}, None, False]}, [1, 2.5, "x", [1], {}, None, False], [3, True]),
        ({"type": "integer", "minimum": 1, "enum": [0, 3, "a"]}, [3], [0, "a"]),
        ({"const": 1, "enum": [1, 2]}, [1], [2]),
        ({"type": "integer"}, [0, -5, 123456], [1.5, "1"]),
        ({"type": "integer", "minimum": -7, "exclusiveMaximum": 12}, [-7, -1, 0, 11], [-8, 12, 120]),
        ({"type": "integer", "exclusiveMinimum": 5, "minimum": 3}, [6, 10, 10**9], [5, -6]),
        ({"type": "integer", "maximum": -5}, [-5, -100], [-4, 0, 5]),
        ({"type": "number", "minimum": 0, "maximum": 1}, [0, 1, 0.5, 1.0], [1.5, -1, 2]),
        ({"type": "number", "minimum": -2.5}, [-2.5, 3.7, 0], [-4, -4.5]),
        ({"type": "string", "pattern": r"^\d+$", "title": "no"}, ["12"], ["a", ""]),
        ({"type": "string", "contentEncoding": "base64"}, ["QUJD"], ["?"]),
        ({"type": "string", "pattern": "^[a-z]+$", "minLength": 2, "maxLength": 4}, ["ab", "abcd"], ["a", "abcde", "A1"]),
        ({"type": "string", "pattern": "^a*$", "minLength": 3}, ["aaa", "aaaaa"], ["aa", "aab"]),
        ({"type": "string", "pattern": "x", "maxLength": 3}, ["x", "axb"], ["abcx", "ab"]),
        ({"type": "string", "pattern": "^.+$", "maxLength": 2}, ["é", "😀a", '"\\', "\t"], ["abc", ""]),
        ({"type": "string", "pattern": "^(?=.{2,4}$)[a-c]+$"}, ["ab", "abca"], ["a", "abcab"]),
        ({"type": "string", "pattern": "^(?!admin)[a-z]+$"}, ["bob", "admi"], ["admin", "administrator"]),
        ({"type": "string", "pattern": r"^(?=.*\d)(?=.*[A-Z])\S{4,8}$"}, ["aA1x", '1A"\\'], ["aaaa", "AAAA", "A1x"]),
        ({"allOf": [{"pattern": "a"}, {"pattern": "b"}]}, ["xaxb", "ba"], ["a", "b"]),
        ({"type": "boolean"}, [True, False], [None]),
    ],
)  # fmt: skip
def test_a_grammar_takes_what_follows_its_schema(
    schema: Any, right: list[Any], wrong: list[Any]
) -> None:
    machine, document = automaton(schema), Document(schema)
    for style in ({}, {"separators": (",", ":")}):
        for value in right:
            assert takes(machine, json.dumps(value, ensure_ascii=False, **style)), value
        for value in wrong:
            assert not takes(machine, json.dumps(value, ensure_ascii=False, **style)), value
    assert all(violation(document, [document.root], value) is None for value in right)


@pytest.mark.parametrize("text", ['{ "a": 1}', '{"a" : 1}', '{"a": 1 }', '{"a":  1}', '{\n"a": 1}'])
def test_space_is_left_for_no_model_to_lose_itself_in(text: str) -> None:
    for schema in ({"type": "object"}, {"properties": {"a": {}}}, {"const": {"a": 1}}):
        assert not takes(automaton(schema), text)
        assert takes(automaton(schema), '{"a": 1}')
        assert takes(automaton(schema), '{"a":1}')


@pytest.mark.parametrize(
    ("schema", "place"),
    [
        (False, "the schema"),
        ({"type": "string", "enum": [1]}, "the schema"),
        ({"type": "string", "minLength": 3, "maxLength": 2}, "the schema"),
        ({"type": "string", "pattern": r"[^\s\S]"}, "the schema"),
        ({"type": "string", "pattern": "^a{5}$", "maxLength": 4}, "the schema"),
        ({"type": "integer", "minimum": 3, "maximum": 2}, "the schema"),
        ({"allOf": [{"type": "string"}, {"type": "null"}]}, "the schema"),
        ({"properties": {"a": {"enum": [1], "type": "string"}}, "required": ["a"]}, "/properties/a"),
        ({"type": "object", "properties": {"n": {"$ref": "#"}}, "required": ["n"]}, "/properties/n"),
        ({"anyOf": [{"$ref": "#"}, {"$ref": "#"}]}, "the schema"),
    ],
)  # fmt: skip
def test_what_no_value_can_follow_is_told(schema: Any, place: str) -> None:
    with pytest.raises(ValueError, match=f"^{place}: no finite value can match it"):
        automaton(schema)


bounds = st.none() | st.integers(-1_200, 1_200) | st.integers(-20, 20)


@settings(max_examples=300, deadline=None)
@given(bounds, bounds, st.booleans(), st.booleans(), st.integers(-1_300, 1_300))
def test_bounds_of_numbers_hold(
    low: int | None, high: int | None, excludes_low: bool, excludes_high: bool, value: int
) -> None:
    schema: dict[str, Any] = {"type": "integer"}
    if low is not None:
        schema["exclusiveMinimum" if excludes_low else "minimum"] = low
    if high is not None:
        schema["exclusiveMaximum" if excludes_high else "maximum"] = high
    near = [value, *(b + d for b in (low, high) if b is not None for d in (-1, 0, 1))]
    try:
        whole = automaton(schema)
    except ValueError:
        whole = None
    free = automaton({**schema, "type": ["number", "null"]})
    for number in near:
        above = low is None or (number > low if excludes_low else number >= low)
        below = high is None or (number < high if excludes_high else number <= high)
        assert (whole is not None and takes(whole, str(number))) is (above and below)
        half = number + 0.5
        fits = (low is None or half > low) and (high is None or half < high)
        assert takes(free, str(half)) is fits


class Node(BaseModel):
    name: str = Field(pattern=r"^[A-Z]\w*$")
    kids: list[Node] = Field(default=[], max_length=3)
    data: Any = None


def test_a_recursive_pydantic_model() -> None:
    machine = automaton(Node.model_json_schema())
    tree = Node(name="A", kids=[Node(name="B", data={"x": [1]})])
    assert takes(machine, json.dumps(tree.model_dump(mode="json")))
    assert not takes(machine, '{"name": "a"}')


def test_what_takes_too_many_rules_is_left_to_the_check() -> None:
    long = {"type": "string", "pattern": "^(?=.*a.{20}$)(?=.*b.{20}$)[ab]+$"}
    began = time.process_time()
    machine = automaton(long)
    assert time.process_time() - began < 10
    assert takes(machine, '"a"')
    assert not takes(machine, '"c"')


def test_much_of_everything_takes_little_time() -> None:
    both = {"type": "string", "format": "uri", "pattern": r"^\S+\.\w{2,9}$", "maxLength": 90}
    patterns = {f"^x{n}": {"type": "integer"} for n in range(100)}
    names = {f"n{n}": both for n in range(100)}
    began = time.process_time()
    machine = automaton({"properties": names, "patternProperties": patterns})
    assert takes(machine, '{"n1": "https://a.org/b.html"}')
    with suppress(ValueError):  # it takes too long
        automaton({"allOf": [{"anyOf": [{"properties": names}] * 3}] * 9, "anyOf": [patterns] * 50})
    assert time.process_time() - began < 40


def test_long_limits_are_left_to_the_check() -> None:
    long = {"items": {"type": "string", "maxLength": 100_000}, "maxItems": 100_000}
    machine = automaton({"type": "array", **long})
    assert takes(machine, json.dumps(["a" * 3_000, ""]))


# ---------------------------------------------------------------- whatever the schema

PATTERN_PIECES = [*"abc019^$.|()[]{}*+?\\-,:=!<>'\"/ \n", "\\d", "\\w", "\\S", "(?:", "(?=", "(?!"]
PATTERN_PIECES += [
    "[^",
    "a-z",
    "{2}",
    "{1,3}",
    "\\b",
    "\\u00e9",
    "😀",
    "[[:alpha:]]",
    "\\1",
    "[0-9]",
]
JUNK: list[Any] = [None, 0, -1, 1.5, "x", [], {}, "objekt", ["objekt"], "http://x/y", "#/nowhere"]
JUNK += [float("nan"), 10**600, "\ud83d", [1], {"a": 1}, True, "^*$", "(", object(), "]", "(a+)+$"]
KEYS = "type properties required items pattern $ref anyOf allOf oneOf enum const minimum maxLength"
KEYS += " minItems additionalProperties patternProperties format $defs not if prefixItems $id"


class Maker:
    """Makes schemas of all kinds from a seed, a quarter of them broken somewhere."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def schema(self) -> Any:
        made = self._any(3)
        if isinstance(made, dict):
            made = {"description": self._pattern(), **made, "$defs": {"A": self._any(1), "N": NODE}}
        broken = self._random.random()
        return self._broken(made) if broken < 0.25 else made

    def walk(self, machine: Automaton) -> str | None:
        """A text that the machine takes; None where it gets long."""
        state, written = machine.begin(), bytearray()
        for _ in range(150):
            if state.accepts and self._random.random() < 0.3:
                return written.decode()
            signs = [*range(32, 127), 10, 0xC3, 0xA9, 0xB6, *"😀".encode()]
            self._random.shuffle(signs)
            for sign in [*b'"}],'[self._random.randrange(5) :], *signs]:
                after = machine.walk(state, bytes([sign]))
                if after is not None:
                    break
            assert after is not None or state.accepts or state.missing or not written.isascii()
            if after is None:
                return None
            state = after
            written.append(sign)
            machine.earn()
        return None

    def _pattern(self) -> str:
        return "".join(self._random.choices(PATTERN_PIECES, k=self._random.randint(0, 8)))

    def _broken(self, schema: Any) -> Any:
        if not isinstance(schema, dict) or self._random.random() < 0.3:
            return self._random.choice([*JUNK, self._pattern()])
        key = self._random.choice([*KEYS.split(), *schema])
        return {**schema, key: self._broken(schema.get(key))}

    def _any(self, depth: int) -> Any:
        makers = [self._leaf, self._object, self._array, self._choice]
        return self._random.choice(makers if depth else makers[:1])(depth - 1)

    def _leaf(self, depth: int) -> Any:
        del depth
        number = self._random.randint(-40, 40)
        leaves: list[Any] = [
            {},
            True,
            {"type": "null"},
            {"type": ["string", "null"]},
            {"title": "F"},
        ]
        leaves += [{"type": "string", "pattern": self._pattern()}] * 4
        leaves += [{"type": "integer", "minimum": number, "maximum": number + 9}, {"minimum": 0.5}]
        leaves += [
            {"enum": [1, "é\n", None, {"k": [1]}]},
            {"const": [number]},
            {"$ref": "#/$defs/N"},
        ]
        leaves += [
            {"type": "string", "maxLength": 3},
            {"format": "date"},
            {"$ref": "#/$defs/A"},
            {"$ref": "#"},
        ]
        return self._random.choice(leaves)

    def _object(self, depth: int) -> Any:
        names = self._random.sample(["a", "größe", 'q"\\', "", "x y", "$ref"], 3)
        made = {"type": "object", "properties": {name: self._any(depth) for name in names[1:]}}
        made["required"] = self._random.sample(names, self._random.randint(0, 3))
        if self._random.random() < 0.4:
            made["additionalProperties"] = self._any(depth)
        if self._random.random() < 0.1:
            made["patternProperties"] = {self._pattern(): self._any(depth)}
        return made

    def _array(self, depth: int) -> Any:
        made = {"type": "array", "items": self._any(depth), "minItems": self._random.randint(0, 2)}
        if self._random.random() < 0.3:
            made["prefixItems"] = [self._any(depth)]
        return made

    def _choice(self, depth: int) -> Any:
        key = self._random.choice(["anyOf", "oneOf", "allOf"])
        return {key: [self._any(depth) for _ in range(self._random.randint(1, 3))]}


@pytest.mark.parametrize("seed", range(12))
def test_every_schema_makes_json_or_a_clear_refusal(seed: int) -> None:
    for number in range(25):
        maker = Maker(1_000 * seed + number)
        schema = maker.schema()
        began = time.process_time()
        try:
            machine = automaton(schema)
        except ValueError as error:
            told = str(error)
        else:
            texts = [maker.walk(machine) for _ in range(2)]
            told = "".join(str(json.loads(text)) for text in texts if text is not None)[:400]
        assert len(told) < 500
        assert time.process_time() - began < 20
