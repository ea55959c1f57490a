"""A request made of what a caller gives: prompts of all kinds, options, a schema; all checked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, get_args

from nbllm.core.errors import InvalidOptionError
from nbllm.core.grammars.gbnf import GrammarError
from nbllm.core.grammars.grammar_program import compiled
from nbllm.core.messages import image
from nbllm.core.openai_messages import message_of, part_of, with_names
from nbllm.core.option_checks import items_of, text_of
from nbllm.core.option_names import option_name, option_use
from nbllm.core.schemas.decision_questions import asked_about
from nbllm.core.suggest import did_you_mean
from nbllm.core.texts import shown, trimmed
from nbllm.core.types import (
    ContentPart,
    GenerationOptions,
    GenerationRequest,
    Message,
    ModelInfo,
    PromptLike,
    TextPart,
)

if TYPE_CHECKING:
    from nbllm.core.schemas.answer_schemas import AnswerSchema

__all__ = [
    "MOST_TEXT_BYTES",
    "check_options",
    "check_size",
    "generation_request",
    "options_of_many",
    "to_messages",
    "without_ends",
]

MOST_TEXT_BYTES = 32 * 2**20
"""The longest text that is read at a time: the longest contexts that there are hold a fifth."""

_SEEDS = 2**63
_MOST_ANSWERS = 10_000
_CHOICES = ("auto", "none", "required")
_MOST_CHECKED = 20_000
"""Characters of a grammar, which take a tenth of a second; the engine reads longer ones itself."""


def generation_request(
    info: ModelInfo,
    prompt: PromptLike,
    *,
    system: str | None,
    options: GenerationOptions,
    schema: Any,
    scores_labels: bool,
) -> GenerationRequest:
    """The request of a prompt to the model of ``info``, whose options are the defaults.

    A ``schema`` of questions is put into the prompt unless the model ``scores_labels``. Raises
    ``InvalidOptionError``.
    """
    chosen, wanted = _with_schema(info.options.merged(options), schema)
    check_options(chosen)
    asked = prompt if chosen.raw else without_ends(prompt)
    messages = to_messages(asked, system=system)
    if wanted is not None and wanted.questions:
        _check_decision(chosen)
        if scores_labels:
            chosen = replace(chosen, temperature=0.0)  # nothing is drawn
        else:
            messages = asked_about(messages, wanted.questions)
    return GenerationRequest(messages, chosen, schema=wanted, model=info)


def options_of_many(
    options: GenerationOptions, seed: int | None, n: int
) -> list[GenerationOptions]:
    """The options of each of ``n`` answers to one prompt, which draw with consecutive seeds.

    Raises ``InvalidOptionError``.
    """
    if not isinstance(n, int) or isinstance(n, bool) or not 1 <= n <= _MOST_ANSWERS:
        problem = f"must be an integer between 1 and {_MOST_ANSWERS:,} (got {shown(n)})"
        raise InvalidOptionError("n", problem)
    if seed is None:
        return [options] * n
    return [replace(options, seed=(seed + number) % _SEEDS) for number in range(n)]


def without_ends(prompt: PromptLike) -> PromptLike:
    """A text without its blank ends, unless it is nothing else; anything else as it is."""
    return (trimmed(prompt) or prompt) if isinstance(prompt, str) else prompt


def _check_decision(options: GenerationOptions) -> None:
    if options.tools:
        raise InvalidOptionError(
            "tools", f"cannot be combined with {option_name('decide')}; leave one out"
        )


def to_messages(prompt: PromptLike, *, system: str | None = None) -> tuple[Message, ...]:
    """``prompt`` as a conversation, behind ``system`` where that is given.

    Mappings are read as OpenAI's JSON has them: ``{"role": …, "content": …}``. Content may be a
    list of texts, parts, OpenAI's pieces, and images of any kind that ``image`` takes. Raises
    ``InvalidOptionError`` for anything else.
    """
    if isinstance(prompt, str):
        turns: tuple[Message, ...] = (Message("user", prompt),)
    elif isinstance(prompt, Message):
        turns = (prompt,)
    elif isinstance(prompt, Mapping):
        turns = (_to_message(prompt),)
    elif not isinstance(prompt, Iterable):
        problem = f"must be a string or a list of messages (got {shown(prompt)})"
        raise InvalidOptionError("prompt", problem)
    else:
        turns = with_names(tuple(map(_to_message, items_of("prompt", prompt, "messages"))))
    if not turns:
        raise InvalidOptionError(
            "prompt", "must not be empty; give a string or at least one message"
        )
    return turns if system is None else (Message("system", text_of("system", system)), *turns)


def _to_message(turn: Message | Mapping[str, Any]) -> Message:
    if isinstance(turn, Message):
        return turn
    if not isinstance(turn, Mapping):
        raise InvalidOptionError(
            "prompt",
            "each message must be a Message or a mapping with role and content "
            f"(got {shown(turn)})",
        )
    return message_of(turn, _part)


def _part(piece: Any) -> ContentPart:
    if isinstance(piece, get_args(ContentPart)):
        part: ContentPart = piece
        return part
    if isinstance(piece, Mapping):
        return part_of(piece)
    return TextPart(piece) if isinstance(piece, str) else image(piece)


def _with_schema(
    options: GenerationOptions, wanted: Any
) -> tuple[GenerationOptions, AnswerSchema | None]:
    """Options that ask for a schema, and what reads an answer by it; None where there is none.

    Raises ``InvalidOptionError`` for schemas of answers and tools that cannot be used.
    """
    if wanted is None and options.response_schema is None and not options.tools:
        return options, None
    from nbllm.core.schemas.answer_schemas import AnswerSchema, answer_schema, check_schema

    for tool in options.tools or ():
        check_schema("tools", tool.parameters, f"the parameters of {tool.name!r}: ")
    if wanted is not None:
        if options.grammar is not None:
            problem = f"cannot be combined with {option_name('grammar')}; drop one"
            raise InvalidOptionError("schema", problem)
        schema = answer_schema(wanted)
        return options.replaced(response_schema=schema.json_schema), schema
    if options.response_schema is None:
        return options, None
    check_schema("response_schema", options.response_schema)
    return options, AnswerSchema("response_schema", options.response_schema)


def check_options(options: GenerationOptions) -> None:
    """Raise ``InvalidOptionError`` for a tool that is not there and a grammar that is none."""
    _check_tool_choice(options)
    _check_grammar(options.grammar)


def check_size(option: str, text: str) -> None:
    """Raise ``InvalidOptionError`` for a text of more than ``MOST_TEXT_BYTES``."""
    # A character has at most four bytes, so that few texts need be encoded to be measured.
    size = len(text)
    if size <= MOST_TEXT_BYTES and 4 * size > MOST_TEXT_BYTES:
        size = len(text.encode(errors="replace"))
    if size > MOST_TEXT_BYTES:
        raise InvalidOptionError(
            option,
            f"must have at most {MOST_TEXT_BYTES:,} bytes, or {MOST_TEXT_BYTES >> 20} MiB "
            f"(got at least {size:,}); split it into shorter texts",
        )


def _check_tool_choice(options: GenerationOptions) -> None:
    choice = options.tool_choice
    if choice is None or choice in ("auto", "none"):
        return
    names = [tool.name for tool in options.tools or ()]
    if not names:
        problem = f"{shown(choice)} requires tools; give {option_use('tools')} too"
        raise InvalidOptionError("tool_choice", problem)
    if choice != "required" and choice not in names:
        known = ", ".join([*_CHOICES, *names[:20]])
        hint = did_you_mean(choice, names)
        problem = f"must be one of {known} (got {shown(choice)}).{hint}"
        raise InvalidOptionError("tool_choice", problem)


def _check_grammar(grammar: str | None) -> None:
    """Whether it can be read; which tokens it may name, only the model knows."""
    if grammar is None or len(grammar) > _MOST_CHECKED:
        return
    try:
        compiled(grammar, _any_token)
    except GrammarError as error:
        raise InvalidOptionError("grammar", f"cannot parse the grammar: {error}") from None


def _any_token(_: str) -> int:
    return 0
