"""What may be decided among: labels of all kinds, and what is refused of foreign ones."""

from __future__ import annotations

import enum
from typing import Any, Literal, Optional

import numpy as np
import pytest

from nbllm.core.errors import AnswerFormError, InvalidOptionError
from nbllm.core.schemas.answer_schemas import answer_schema, decision_schema, schema_or_decision
from nbllm.core.schemas.decision_questions import asked_about, cued, questions_of
from nbllm.core.types import Message


class Team(enum.Enum):
    RED = "the reds"
    BLUE = "the blues"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


@pytest.mark.parametrize(
    ("choices", "labels", "values"),
    [
        (["red", "blue"], ["red", "blue"], ["red", "blue"]),
        (("red ", "\tblue"), ["red", "blue"], ["red ", "\tblue"]),
        (bool, ["yes", "no"], [True, False]),
        (range(1, 4), ["1", "2", "3"], [1, 2, 3]),
        (range(0, -20, -10), ["0", "-10"], [0, -10]),
        (Team, ["the reds", "the blues"], [Team.RED, Team.BLUE]),
        (Level, ["LOW", "HIGH"], [Level.LOW, Level.HIGH]),
        ([Team.BLUE, None], ["the blues", "none"], [Team.BLUE, None]),
        (Literal["a", 2, None, True], ["a", "2", "none", "yes"], ["a", 2, None, True]),
        (Optional[bool], ["yes", "no", "none"], [True, False, None]),  # noqa: UP045 - older code
        (bool | None, ["yes", "no", "none"], [True, False, None]),
        (np.array(["x", "y"]), ["x", "y"], ["x", "y"]),
        (np.array([1, 2]), ["1", "2"], [1, 2]),
        (np.array([0.5, 2]), ["0.5", "2.0"], [0.5, 2.0]),
        ({"b", "a"}, ["a", "b"], ["a", "b"]),
        ({"a": 1, "b": 2}.keys(), ["a", "b"], ["a", "b"]),
        (iter(["a", "b"]), ["a", "b"], ["a", "b"]),
        (["only"], ["only"], ["only"]),
        (["app", "apple", "Apple"], ["app", "apple", "Apple"], ["app", "apple", "Apple"]),
    ],
)
def test_labels_of_all_kinds(choices: Any, labels: list[str], values: list[Any]) -> None:
    (question,) = questions_of({"x": choices})
    assert [*question.labels] == labels
    assert [*question.values] == values
    assert [type(value) for value in question.values] == [type(value) for value in values]


@pytest.mark.parametrize(
    ("decide", "problem"),
    [
        ({}, "must name what to decide"),
        (None, "must name what to decide"),
        (["red", "blue"], "must name what to decide"),
        ({"": bool}, "needs a name"),
        ({1: bool}, "needs a name"),
        ({"x": bool, " x": bool}, "two questions of one name"),
        ({"x": []}, "no labels"),
        ({"x": range(0)}, "no labels"),
        ({"x": enum.Enum("Empty", {})}, "no labels"),
        ({"x": ["a", ""]}, "1 to 1,000 characters"),
        ({"x": ["a", "  "]}, "1 to 1,000 characters"),
        ({"x": ["a", "b" * 1_001]}, "1 to 1,000 characters"),
        ({"x": ["a", "a"]}, "'a' twice"),
        ({"x": ["a", " a"]}, "twice"),
        ({"x": [1, "1"]}, "twice"),
        ({"x": [True, 1]}, "twice"),
        ({"x": [True, "yes"]}, "twice"),
        ({"x": [1, 1.0]}, "twice"),
        ({"x": [None, "none"]}, "twice"),
        ({"x": "red"}, "must be a list of labels"),
        ({"x": b"red"}, "must be a list of labels"),
        ({"x": str}, "must be a list of labels"),
        ({"x": int}, "must be a list of labels"),
        ({"x": {"a": 1}}, "must be a list of labels"),
        ({"x": 3}, "must be a list of labels"),
        ({"x": ["a", float("nan")]}, "for a label"),
        ({"x": ["a", ["b"]]}, "for a label"),
        ({"x": ["a", object()]}, "for a label"),
        ({"x": range(10_001)}, "at most 10,000 labels"),
        ({"x": range(10**18)}, "at most 10,000 labels"),
        ({str(number): bool for number in range(101)}, "at most 100 questions"),
    ],
)
def test_labels_that_cannot_be_are_refused(decide: Any, problem: str) -> None:
    with pytest.raises(InvalidOptionError, match=problem):
        questions_of(decide)


def test_ten_thousand_labels_are_taken_and_not_written_into_the_prompt() -> None:
    (question,) = questions_of({"code": range(10_000)})
    assert len(question.labels) == 10_000
    assert len(question.text) < 100


def test_an_answer_s_labels_become_values() -> None:
    schema = decision_schema({"team": Team, "urgent": bool, "tone": range(1, 6)})
    answer = '{"team": "the blues", "urgent": "no", "tone": "3"}'
    assert schema.parse(answer) == {"team": Team.BLUE, "urgent": False, "tone": 3}
    assert answer_schema(schema) is schema
    properties = schema.json_schema["properties"]
    assert properties["urgent"] == {"type": "string", "enum": ["yes", "no"]}


@pytest.mark.parametrize(
    "answer", ['{"x": "maybe"}', "{}", "[]", '"yes"', '{"x": ["yes"]}', "null"]
)
def test_an_answer_that_is_no_label_is_told(answer: str) -> None:
    with pytest.raises(AnswerFormError):
        decision_schema({"x": bool}).parse(answer)


def test_one_of_schema_and_decide() -> None:
    assert schema_or_decision(None, None) is None
    with pytest.raises(InvalidOptionError, match="cannot be combined"):
        schema_or_decision({"type": "object"}, {"x": bool})


def test_questions_stand_behind_the_prompt() -> None:
    (question,) = questions_of({"urgent": bool})
    (turn,) = asked_about((Message("user", "Help!"),), [question])
    assert turn.text == "Help!\n\nQuestion: urgent? Answer with yes or no only."
    begun = (Message("user", "Help!"), Message("assistant", "It is "))
    assert cued(begun, question) == begun
    with_tool = cued((Message("system", "Be brief."),), question)
    assert [turn.role for turn in with_tool] == ["system", "user"]


@pytest.mark.parametrize(
    ("choices", "cue"),
    [
        (["red", "blue"], "The x, in a word:"),
        (["dark red", "blue"], "The x, in a few words:"),
        (bool, "x, yes or no:"),
        (bool | None, "x, yes or no:"),
        (range(1, 6), "The x, as a number from 1 to 5:"),
    ],
)
def test_a_cue_names_no_labels(choices: Any, cue: str) -> None:
    (question,) = questions_of({"x": choices})
    assert question.cue == cue


def test_a_large_model_is_told_the_labels_where_all_rows_and_questions_begin_alike() -> None:
    questions = questions_of({"team": ["red", "blue"], "urgent": bool, "code": range(1_000)})
    told = [
        cued(
            (Message("system", "Be brief."), Message("user", "Help!")), each, questions, billions=8
        )
        for each in questions
    ]
    systems = {turns[0] for turns in told}
    (system,) = systems
    assert system.text == (
        "Be brief.\n\nDecide about what the user writes. What there is to decide, and the possible "
        "values:\n- team: red or blue\n- urgent: yes or no\nAnswer with one of these values only."
    )
    assert [turns[1].text for turns in told] == [f"Help!\n\n{each.cue}" for each in questions]


@pytest.mark.parametrize("billions", [None, 0.135, 0.5])
def test_a_small_model_is_told_none(billions: float | None) -> None:
    questions = questions_of({"team": ["red", "blue"]})
    turns = cued((Message("user", "Help!"),), questions[0], questions, billions=billions)
    assert turns == cued((Message("user", "Help!"),), questions[0])
    assert "red" not in "".join(turn.text for turn in turns)


def test_an_answer_that_has_begun_is_gone_on_from_by_large_models_too() -> None:
    questions = questions_of({"team": ["red", "blue"]})
    begun = (Message("user", "Help!"), Message("assistant", "It is "))
    assert cued(begun, questions[0], questions, billions=8) == begun
