"""``generate(schema=…)`` and ``result.value``, on a fake model that answers what it is told."""

from __future__ import annotations

import copy
import dataclasses
import datetime
import enum
import pickle
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, Any, Literal, NewType, Optional, TypedDict, Union

import attrs
import pytest
from pydantic import BaseModel
from typing_extensions import NotRequired

from nbllm.core.errors import AnswerFormError, InvalidOptionError
from nbllm.core.schemas.answer_schemas import answer_schema
from nbllm.core.types import Completed, GenerationOptions, Tool
from nbllm.testing import FakeModel


class Person(BaseModel):
    name: str
    friend: Optional[Person] = None  # noqa: UP045 - as people write it


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0


class Movie(TypedDict):
    title: str
    year: NotRequired[int]


class Shelf(TypedDict, total=False):
    movies: list[Movie]


class Calling(BaseModel):
    callback: Callable[[int], int]


@dataclasses.dataclass
class Holding:
    inner: Calling


class Colour(enum.Enum):
    RED = "red"


@attrs.define
class Tag:
    name: str
    _rank: int = attrs.field(default=1, validator=attrs.validators.ge(0))
    colour: "Colour | None" = None  # noqa: UP037 - as people write it


@attrs.define
class Tagged:
    tags: list[Tag]
    when: datetime.date = datetime.date(2026, 1, 1)


@dataclasses.dataclass
class Cinema:
    movies: list[Movie]
    tag: Tag | None = None


Age = NewType("Age", int)
PART = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
ANN = Person(name="Ann")


@pytest.mark.parametrize(
    ("schema", "text", "value"),
    [
        (Person, '{"name": "Ann"}', ANN),
        (list[Person], '[{"name": "Ann"}]', [ANN]),
        (dict[str, Person], '{"a": {"name": "Ann"}}', {"a": ANN}),
        (Person | Point, '{"x": 1}', Point(1)),
        (Union[Person, None], "null", None),  # noqa: UP007 - as people write it
        (Point, '{"x": 1, "y": 2}', Point(1, 2)),
        (Movie, '{"title": "M"}', {"title": "M"}),
        (Shelf, '{"movies": [{"title": "M", "year": 1}]}', {"movies": [{"title": "M", "year": 1}]}),
        (list[Movie], '[{"title": "M"}]', [{"title": "M"}]),
        (tuple[int, str], '[1, "a"]', (1, "a")),
        (Iterable[int], "[1, 2]", [1, 2]),
        (dict[str, Iterator[int]], '{"a": [1]}', {"a": [1]}),
        (Literal["yes", "no"], '"yes"', "yes"),
        (Colour, '"red"', Colour.RED),
        (dict[str, Colour], '{"a": "red"}', {"a": Colour.RED}),
        (Tag, '{"name": "a"}', Tag("a")),
        (Tagged, '{"tags": [{"name": "a", "rank": 2, "colour": "red"}], "when": "2026-02-03"}',
         Tagged([Tag("a", 2, Colour.RED)], datetime.date(2026, 2, 3))),
        (Optional[Tag], "null", None),  # noqa: UP045 - as people write it
        (dict[str, Tag], '{"a": {"name": "b"}}', {"a": Tag("b")}),
        (Cinema, '{"movies": [{"title": "M"}], "tag": {"name": "a"}}',
         Cinema([{"title": "M"}], Tag("a"))),
        (Age, "3", 3),
        (Annotated[int, {"not": "hashable"}], "3", 3),
        (set[int], "[1, 2]", {1, 2}),
        (int, "3", 3),
        (PART, 'Here: ```json\n{"a": 1}\n```', {"a": 1}),
        ({"type": "array", "items": PART}, '[{"a": 1}]', [{"a": 1}]),
    ],
)  # fmt: skip
async def test_an_answer_is_a_value_of_its_schema(schema: Any, text: str, value: Any) -> None:
    model = FakeModel(text=text)
    result = await model.generate("Go", schema=schema)
    assert result.value == value
    assert model.requests[0].options.response_schema == answer_schema(schema).json_schema
    (same,) = await model.generate_many("Go", 1, schema=schema)
    assert same.value == value
    *_, last = [event async for event in model.stream("Go", schema=schema)]
    assert isinstance(last, Completed)
    assert last.result.value == value


async def test_a_schema_among_the_options_gives_values_too() -> None:
    result = await FakeModel(text='{"a": 1}').generate("Go", response_schema=PART)
    assert result.value == {"a": 1}


async def test_results_with_schemas_pickle_and_copy() -> None:
    for schema in (Person, PART):
        result = await FakeModel(text='{"name": "Ann", "a": 1}').generate("Go", schema=schema)
        for twin in (pickle.loads(pickle.dumps(result)), copy.deepcopy(result)):
            assert twin == result
            assert twin.value == result.value


@pytest.mark.parametrize(
    ("schema", "text", "told"),
    [
        (
            Person,
            '{"name": 5}',
            "no valid Person in the answer: name: Input should be a valid string",
        ),
        (
            list[Person],
            "{}",
            r"no valid list\[Person\] in the answer: the value: Input should be a valid array",
        ),
        (Tag, '{"name": "a", "rank": "x"}', "no valid Tag in the answer: rank: Input should be"),
        (Tag, '{"name": "a", "rank": -1}', "must be >= 0: -1"),
        (Colour, '"blue"', "Input should be 'red'"),
        (PART, '{"a": "x"}', "no valid JSON for this schema in the answer: a must be of type"),
        (PART, "{}", "the value: 'a' is missing"),
        (
            PART,
            '{"a": 1',
            "no valid JSON in the answer: broken JSON at line 1, column 8: Expecting",
        ),
        (PART, "Sorry.", "it has no object or array"),
        (PART, '{"a": ' + "9" * 5_000 + "}", "it holds a number that is too long"),
        (PART, "[" * 100_000, "it is nested too deeply"),
        ({"type": "array", "uniqueItems": True}, "[1, 1]", "must not have duplicate items"),
    ],
)
async def test_what_an_answer_lacks_is_told(schema: Any, text: str, told: str) -> None:
    result = await FakeModel(text=text).generate("Go", schema=schema)
    with pytest.raises(AnswerFormError, match=told) as caught:
        _ = result.value
    assert caught.value.text == text


async def test_msgspec_reads_what_holds_its_structs() -> None:
    msgspec = pytest.importorskip("msgspec")
    pair = msgspec.defstruct("Pair", [("a", int), ("b", list[str], [])])
    for schema, text, value in (
        (pair, '{"a": 1}', pair(1)),
        (list[pair], '[{"a": 1, "b": ["x"]}]', [pair(1, ["x"])]),
        (dict[str, pair], '{"k": {"a": 1}}', {"k": pair(1)}),
    ):
        result = await FakeModel(text=text).generate("Go", schema=schema)
        assert result.value == value
    result = await FakeModel(text='{"a": "x"}').generate("Go", schema=pair)
    with pytest.raises(
        AnswerFormError, match=r"no valid Pair in the answer: Expected `int`, got `str`"
    ):
        _ = result.value
    with pytest.raises(
        InvalidOptionError, match=r"schema: Odd has no JSON schema: .*; give a dict"
    ):
        FakeModel().stream("Go", schema=msgspec.defstruct("Odd", [("a", object), ("b", print)]))


async def test_an_answer_that_was_cut_off_says_so() -> None:
    result = await FakeModel(text='{"a": 1, "b": 2}').generate("Go", schema=PART, max_tokens=2)
    with pytest.raises(AnswerFormError, match="cut off at the token limit; raise max_tokens"):
        _ = result.value


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"schema": {"type": "objekt"}}, "schema: /type must be one of null"),
        (
            {"schema": {"$ref": "http://x.test"}},
            r"schema: /\$ref: 'http://x.test' refers outside the schema",
        ),
        ({"schema": Calling}, "Calling.callback has no JSON schema: "),
        ({"schema": Holding}, "Holding.inner.callback has no JSON schema: "),
        (
            {"schema": list[Holding]},
            r"list\[Holding\].Holding.inner.callback has no JSON schema: ",
        ),
        ({"schema": print}, "give a dict with a JSON schema, a pydantic model"),
        ({"schema": Person(name="A")}, "of type Person; give"),
        ({"schema": "Person"}, "of type str; give"),
        ({"response_schema": {"items": 5}}, "response_schema: /items: 5 is not a schema"),
        (
            {"tools": (Tool("f", "F.", {"properties": {"a": {"type": "text"}}}),)},
            "tools: the parameters of 'f': /properties/a/type must be one of null",
        ),
        ({"schema": PART, "grammar": 'root ::= "a"'}, "cannot be combined with grammar; drop one"),
    ],
)
async def test_what_cannot_be_asked_is_told_before_it_is(asked: dict[str, Any], told: str) -> None:
    model = FakeModel()
    with pytest.raises(InvalidOptionError, match=told) as caught:
        await model.generate("Go", **asked)
    assert "\n" not in str(caught.value)
    assert not model.requests


async def test_without_a_schema_there_is_no_value() -> None:
    result = await FakeModel().generate("Go", options=GenerationOptions())
    with pytest.raises(InvalidOptionError, match="requested without a schema; give schema=… with"):
        _ = result.value
