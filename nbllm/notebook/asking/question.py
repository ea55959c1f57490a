"""A question: what one cell asks, from the flags and the text as typed to what is sent."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from nbllm.core.types import GenerationOptions, GenerationResult, Message
from nbllm.notebook.flags import flagged_options

if TYPE_CHECKING:
    from nbllm.core.schemas.answer_schemas import AnswerSchema
    from nbllm.notebook.prompts.interpolation import Left, Replaced
    from nbllm.notebook.views.bundles import Bundle

__all__ = ["AskFlags", "Question"]


@dataclass(frozen=True, slots=True)
class AskFlags:
    """What is typed behind ``%llm``, by the names that its parser has for them.

    ``options`` are the generation options among the flags; one that was not given is unset.
    """

    name: str | None = None
    model: str | None = None
    output: str | None = None
    go_on: bool = False
    bg: bool = False
    system: str | None = None
    chat: str | None = None
    overflow: str | None = None
    form: str | None = None
    schema: str | None = None
    frame: str | None = None
    into: str | None = None
    decide: str | None = None
    calibrate: bool = False
    dry_run: bool = False
    journal: str | None = None
    max_cost: float | None = None
    max_total_tokens: int | None = None
    batch_api: bool = False
    cancel_batch: bool = False
    completion: bool = False
    allow_file: tuple[str, ...] = ()
    raw: bool = False
    show_prompt: bool = False
    models: tuple[str, ...] = ()
    diff: bool = False
    options: GenerationOptions = field(default_factory=GenerationOptions)

    @classmethod
    def of(cls, parsed: Namespace) -> AskFlags:
        """The flags that a parser found; what its magic does not have is at its default.

        Raises ``InvalidOptionError`` for a generation option that is not valid.
        """
        found = {name: value for name, value in vars(parsed).items() if value is not None}
        own = {each.name: found[each.name] for each in fields(cls) if each.name in found}
        given = flagged_options("generation").keys() & found.keys()
        own["allow_file"] = tuple(found.get("allow_file", ()))
        return cls(**own, options=GenerationOptions(**{name: found[name] for name in given}))


@dataclass(frozen=True, slots=True)
class Question:
    """What one cell asks: its ``text`` as typed, its ``flags``, and what is made of them.

    ``model`` is the wanted name, None for the one used last. ``messages`` are sent with
    ``options``. ``scope`` holds the variables of the function that asks. ``replaced`` and
    ``left`` are the braces of the text. ``render`` makes Markdown of a result, or an output of
    another kind, where that is not its text; ``schema`` makes a value of the answer, and
    ``can_continue`` says that an answer which was cut off may go on. ``begun`` is the beginning
    of one that does.
    """

    text: str
    flags: AskFlags
    model: str | None
    messages: tuple[Message, ...]
    options: GenerationOptions
    scope: Mapping[str, Any] = field(default_factory=dict)
    replaced: tuple[Replaced, ...] = ()
    left: tuple[Left, ...] = ()
    render: Callable[[GenerationResult], str | Bundle] = str
    schema: AnswerSchema | None = None
    can_continue: bool = True
    begun: str = ""
