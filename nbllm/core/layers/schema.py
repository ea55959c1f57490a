"""The layer that lets a result make a value of its text, where the request asks for one."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING

from nbllm.core.layers.layer import Events, Next, Place
from nbllm.core.types import Completed, GenerationRequest, GenerationResult

if TYPE_CHECKING:
    from nbllm.core.schemas.answer_schemas import AnswerSchema

__all__ = ["ResultSchema"]


class ResultSchema:
    """Puts the schema of the request into the result; ``result.value`` is read with it."""

    place = Place.SCHEMA

    def __call__(self, request: GenerationRequest, following: Next) -> Events:
        """Requests without a schema pass through at no cost."""
        events = following(request)
        return events if request.schema is None else _with_schema(events, request.schema)


async def _with_schema(events: Events, schema: AnswerSchema) -> Events:
    async with aclosing(events):
        async for event in events:
            if isinstance(event, Completed):
                event = Completed(replace(_noted(event.result, schema), schema=schema))
            yield event


def _noted(result: GenerationResult, schema: AnswerSchema) -> GenerationResult:
    if not schema.questions or result.label_probabilities:
        return result
    note = "The labels were chosen by an answer in JSON: this model tells no probabilities of them."
    return replace(result, notes=(*result.notes, note))
