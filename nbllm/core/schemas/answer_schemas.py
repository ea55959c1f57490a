"""What an answer is to look like, from a JSON schema or a Python type, and its value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nbllm.core.answer_json import json_of
from nbllm.core.errors import AnswerFormError, InvalidOptionError
from nbllm.core.option_names import option_name
from nbllm.core.schemas.decision_questions import (
    Question,
    answers_of,
    questions_of,
    schema_of_questions,
)
from nbllm.core.schemas.python_types import (
    WANTED,
    is_kind,
    name_of_kind,
    schema_of_kind,
    value_of_kind,
)
from nbllm.core.schemas.schema_documents import Document
from nbllm.core.schemas.schema_keywords import SchemaError
from nbllm.core.schemas.schema_violations import violation

__all__ = ["AnswerSchema", "answer_schema", "check_schema", "decision_schema", "schema_or_decision"]


@dataclass(frozen=True, slots=True)
class AnswerSchema:
    """A JSON schema for the request, and what makes a checked value of an answer's text.

    ``kind`` is the type of the values; None leaves them as they are in JSON. Where there are
    ``questions``, an answer has a label for each, and its value is what the labels stand for.
    """

    name: str
    json_schema: Mapping[str, Any]
    kind: Any = None
    questions: tuple[Question, ...] = ()

    def parse(self, text: str) -> Any:
        """The value of an answer. Raises ``AnswerFormError`` with the first violation."""
        value = json_of(text)
        if self.questions:
            return answers_of(self.questions, value)
        return self._checked(value, text) if self.kind is None else self._typed(value, text)

    def _checked(self, value: Any, text: str) -> Any:
        document = Document(self.json_schema)
        problem = violation(document, [document.root], value)
        if problem is not None:
            raise AnswerFormError("JSON for this schema", problem, text=text)
        return value

    def _typed(self, value: Any, text: str) -> Any:
        try:
            return value_of_kind(self.kind, value)
        except ValueError as error:
            raise AnswerFormError(self.name, str(error), text=text) from error


def answer_schema(value: object, name: str = "") -> AnswerSchema:
    """The schema that ``value`` means; ``name`` is that of its variable, for errors.

    Raises ``InvalidOptionError`` for what is no schema, and ``MissingDependencyError`` for a type
    without pydantic.
    """
    if isinstance(value, AnswerSchema):
        return value
    if isinstance(value, Mapping):
        check_schema("schema", value)
        return AnswerSchema(name or "schema", value)
    name = name or name_of_kind(value)
    if not is_kind(value):
        raise InvalidOptionError(
            "schema", f"{name:.60} is of type {type(value).__name__}; give {WANTED}"
        )
    schema = schema_of_kind(value, name)
    check_schema("schema", schema)
    return AnswerSchema(name, schema, value)


def decision_schema(decide: object) -> AnswerSchema:
    """The schema of ``decide=…``. Raises ``InvalidOptionError``."""
    questions = questions_of(decide)
    return AnswerSchema("decision", schema_of_questions(questions), questions=questions)


def schema_or_decision(schema: object, decide: object) -> AnswerSchema | None:
    """What answers are to look like, made once for many; None for texts.

    Raises ``InvalidOptionError``, also where both are given.
    """
    if decide is None:
        return None if schema is None else answer_schema(schema)
    if schema is not None:
        problem = f"cannot be combined with {option_name('schema')}; drop one"
        raise InvalidOptionError("decide", problem)
    return decision_schema(decide)


def check_schema(option: str, schema: object, of: str = "") -> None:
    """Raise ``InvalidOptionError`` for a JSON schema that cannot be used; ``of`` says whose."""
    try:
        Document(schema)
    except SchemaError as error:
        raise InvalidOptionError(option, f"{of}{error}") from None
