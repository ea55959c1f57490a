"""Questions whose answers are among given labels: what ``decide=…`` means, and its results."""

from __future__ import annotations

import enum
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal, Union, get_args, get_origin

from nbllm.core.errors import AnswerFormError, InvalidOptionError
from nbllm.core.messages import Message, TextPart
from nbllm.core.texts import shown

__all__ = ["Question", "answers_of", "asked_about", "cued", "questions_of", "schema_of_questions"]

_MOST_QUESTIONS = 100
_MOST_LABELS = 10_000
_LONGEST_LABEL = 1_000
_MOST_SHOWN = 100
"""So many labels are named in the prompt; of more the model is told none."""
_FEWEST_BILLIONS = 1.0
"""Models of fewer parameters are told no labels, as they choose among those that they are told by
their place: of 100 texts, SmolLM2 135M sorts 63 % rightly without them, 50 % where a system message
has them, and 26 % where they stand behind the text."""
_WANTED = "a list of labels, bool, an Enum, a Literal or a range"


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, as ``name``; the texts that may answer it, and the value of each.

    ``probabilities`` that are given for it stand in the order of the ``labels``.
    """

    name: str
    labels: tuple[str, ...]
    values: tuple[Any, ...]

    @property
    def text(self) -> str:
        """The question as the model reads it behind a prompt."""
        return f"Question: {self.name}? Answer with {self.choice or f'the {self.name}'} only."

    @property
    def choice(self) -> str:
        """The labels as words, "" where there are too many to name."""
        if len(self.labels) > _MOST_SHOWN:
            return ""
        *others, last = self.labels
        return f"{', '.join(others)} or {last}" if others else last

    @property
    def cue(self) -> str:
        """What a model whose labels are scored is to go on from; it names none of them."""
        labels = set(self.labels)
        if labels <= {"yes", "no", "none"}:
            return f"{self.name}, yes or no:"
        if all(type(value) in (int, float) for value in self.values):
            return f"The {self.name}, as a number from {self.labels[0]} to {self.labels[-1]}:"
        return f"The {self.name}, in {'a few words' if ' ' in ''.join(labels) else 'a word'}:"

    def value(self, label: str) -> Any:
        """What a label stands for. Raises ``ValueError`` for one that is none."""
        return self.values[self.labels.index(label)]

    def by_value(self, probabilities: Sequence[float]) -> dict[Any, float]:
        """The probabilities of the values, the most probable first."""
        pairs = zip(self.values, probabilities, strict=True)
        return dict(sorted(pairs, key=lambda pair: -pair[1]))


def questions_of(decide: object) -> tuple[Question, ...]:
    """The questions of ``{"team": ["red", "blue"], "urgent": bool}``, checked.

    Raises ``InvalidOptionError`` for labels that are none, are empty or are the same, and for more
    than 10,000 of them.
    """
    if not isinstance(decide, Mapping) or not decide:
        problem = f'must name what to decide, as in {{"urgent": bool}} (got {shown(decide)})'
        raise InvalidOptionError("decide", problem)
    if len(decide) > _MOST_QUESTIONS:
        problem = f"must have at most {_MOST_QUESTIONS} questions (got {len(decide):,})"
        raise InvalidOptionError("decide", problem)
    questions = tuple(_question(name, choices) for name, choices in decide.items())
    if len({question.name for question in questions}) < len(questions):
        raise InvalidOptionError("decide", "has two questions of one name; rename one of them")
    return questions


def _question(name: object, choices: object) -> Question:
    if not isinstance(name, str) or not name.strip() or len(name) > _LONGEST_LABEL:
        problem = f"each question needs a name of at most {_LONGEST_LABEL:,} characters"
        raise InvalidOptionError("decide", f"{problem} (got {shown(name)})")
    pairs = [(_label(name, value), value) for value in _values(name, choices)]
    if not pairs:
        raise InvalidOptionError("decide", f"{name!r} has no labels; give {_WANTED}")
    seen: dict[Any, str] = {}
    for label, value in pairs:
        same = seen.get(label, seen.get(value))
        if same is not None:
            problem = f"{name!r} has the label {shown(label)} twice; drop one of them"
            raise InvalidOptionError("decide", problem)
        seen[label] = seen[value] = label
    labels, values = zip(*pairs, strict=True)
    return Question(name.strip(), labels, values)


def _values(name: str, choices: Any) -> list[Any]:
    """The values that ``choices`` offers, at most as many as may be."""
    values = list(islice(_offered(name, choices), _MOST_LABELS + 1))
    if len(values) > _MOST_LABELS:
        problem = f"{name!r} must have at most {_MOST_LABELS:,} labels; group them first"
        raise InvalidOptionError("decide", problem)
    return values


def _offered(name: str, choices: Any) -> Iterator[Any]:
    if choices is bool:
        yield from (True, False)
    elif choices is None or choices is type(None):
        yield None
    elif get_origin(choices) is Literal:
        yield from get_args(choices)
    elif get_origin(choices) in (Union, types.UnionType):
        for kind in get_args(choices):
            yield from _offered(name, kind)
    elif isinstance(choices, enum.EnumMeta):
        yield from choices
    elif isinstance(choices, set | frozenset):  # in an order that is the same in every run
        yield from sorted(map(_plain, choices), key=str)
    elif isinstance(choices, Iterable) and not isinstance(choices, str | bytes | Mapping | type):
        yield from map(_plain, choices)
    else:
        problem = f"{name!r} must be {_WANTED} (got {shown(choices)})"
        raise InvalidOptionError("decide", problem)


def _plain(value: Any) -> Any:
    """A number of NumPy's as Python's own."""
    return value.item() if type(value).__module__ == "numpy" else value


def _label(name: str, value: Any) -> str:
    """The text that stands for a value."""
    match value:
        case None:
            return "none"
        case enum.Enum():
            return _label(name, value.value if isinstance(value.value, str) else value.name)
        case bool():
            return "yes" if value else "no"
        case int() | str():
            label = str(value).strip()
        case float() if value == value:
            label = repr(value)
        case _:
            problem = f"{name!r} has {shown(value)} for a label; use texts or numbers"
            raise InvalidOptionError("decide", problem)
    if not label or len(label) > _LONGEST_LABEL:
        problem = f"each label of {name!r} needs 1 to {_LONGEST_LABEL:,} characters"
        raise InvalidOptionError("decide", f"{problem} (got {shown(value)})")
    return label


def asked_about(
    messages: tuple[Message, ...], questions: Sequence[Question]
) -> tuple[Message, ...]:
    """A conversation that ends with the questions, unless its last turn is the model's own."""
    return _with_end(messages, "\n".join(question.text for question in questions))


def cued(
    messages: tuple[Message, ...],
    question: Question,
    questions: Sequence[Question] = (),
    *,
    billions: float | None = None,
) -> tuple[Message, ...]:
    """The same with the cue behind which the labels of a question are scored.

    A model of so many ``billions`` of parameters that it can use them is told the labels of all
    ``questions`` in the system message. So the conversation begins alike for all questions and
    all rows, and this beginning is read once.
    """
    told = [f"- {each.name}: {each.choice}" for each in questions if each.choice]
    if told and messages[-1].role != "assistant" and (billions or 0.0) >= _FEWEST_BILLIONS:
        messages = _with_system(messages, "\n".join((_TOLD, *told, _ONLY)))
    return _with_end(messages, question.cue)


_TOLD = "Decide about what the user writes. What there is to decide, and the possible values:"
_ONLY = "Answer with one of these values only."


def _with_system(messages: tuple[Message, ...], text: str) -> tuple[Message, ...]:
    first, *others = messages
    if first.role != "system":
        return (Message("system", text), *messages)
    return (Message("system", (*first.parts, TextPart(f"\n\n{text}"))), *others)


def _with_end(messages: tuple[Message, ...], text: str) -> tuple[Message, ...]:
    *before, last = messages
    if last.role == "assistant":
        return messages
    if last.role != "user":
        return (*messages, Message("user", text))
    return (*before, Message("user", (*last.parts, TextPart(f"\n\n{text}"))))


def schema_of_questions(questions: Sequence[Question]) -> dict[str, Any]:
    """The JSON schema of an object with a label for each question."""
    return {
        "type": "object",
        "properties": {each.name: {"type": "string", "enum": [*each.labels]} for each in questions},
        "required": [each.name for each in questions],
        "additionalProperties": False,
    }


def answers_of(questions: Sequence[Question], values: Any) -> dict[str, Any]:
    """The values of an answer that names a label for each question.

    Raises ``AnswerFormError`` for anything else.
    """
    try:
        return {each.name: each.value(values[each.name]) for each in questions}
    except (KeyError, TypeError, ValueError):
        names = [each.name for each in questions]
        problem = f"must have one of its labels for each of {', '.join(names[:20])}"
        raise AnswerFormError("a decision", problem, text=str(values)) from None
