"""The schemas of a request, checked before anything is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nbllm.core.errors import InvalidOptionError
from nbllm.core.options import GenerationOptions

if TYPE_CHECKING:
    from nbllm.core.schemas.answers import AnswerSchema

__all__ = ["with_schema"]


def with_schema(
    options: GenerationOptions, wanted: Any
) -> tuple[GenerationOptions, AnswerSchema | None]:
    """Options that ask for a schema, and what reads an answer by it; None where there is none.

    Raises ``InvalidOptionError`` for schemas of answers and tools that cannot be used.
    """
    if wanted is None and options.response_schema is None and not options.tools:
        return options, None
    from nbllm.core.schemas.answers import AnswerSchema, answer_schema, check_schema

    for tool in options.tools or ():
        check_schema("tools", tool.parameters, f"the parameters of {tool.name!r}: ")
    if wanted is not None:
        if options.grammar is not None:
            raise InvalidOptionError("schema", "cannot be combined with grammar; drop one")
        schema = answer_schema(wanted)
        return options.replaced(response_schema=schema.json_schema), schema
    if options.response_schema is None:
        return options, None
    check_schema("response_schema", options.response_schema)
    return options, AnswerSchema("response_schema", options.response_schema)
