"""``%%llm`` from the typed text to the kept result, in steps that other modules add to.

::

    flags -> Question -> PREPARE -> the model is loaded -> FIT -> asked and shown -> DELIVER

What is added is a function in one of the three tuples below; each runs for every question and
looks at ``question.args`` for its own flag.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from nbllm.core.errors import InvalidOptionError
from nbllm.core.model_interface import ModelInterface, options_from, to_messages
from nbllm.core.types import GenerationOptions, GenerationResult, Message
from nbllm.notebook.asking.cell_limit import limit_answer
from nbllm.notebook.asking.flags import OPTIONS
from nbllm.notebook.asking.prompt_ends import trim_prompt
from nbllm.notebook.asking.remedies import tell_remedies
from nbllm.notebook.chat.steps import AskedTurn, deliver_chat, fit_chat, prepare_chat
from nbllm.notebook.forms.steps import FormedAnswer, bind_form, deliver_form, prepare_form
from nbllm.notebook.prompts.interpolation import Left, Replaced
from nbllm.notebook.prompts.scope import variables_in_scope
from nbllm.notebook.prompts.steps import prepare_variables
from nbllm.notebook.views.bundles import Bundle

if TYPE_CHECKING:
    from nbllm.core.schemas.answers import AnswerSchema
    from nbllm.notebook.session import NotebookSession

__all__ = ["DELIVER", "FIT", "PREPARE", "Question", "prepared", "question_from"]


@dataclass(frozen=True, slots=True)
class Question:
    """What one cell asks: its ``text`` as typed, its flags, and what is made of them.

    ``scope`` holds the variables that are known where it is asked. ``model`` is the wanted name,
    None for the one used last. ``messages`` are sent with
    ``options``. ``render`` makes Markdown of a result, or an output of another kind, where that
    is not its text. ``scope`` holds the variables of the function that asks. ``remarks`` tell
    more of a result in the status line. ``replaced`` and ``left`` are the braces of the text,
    ``chat`` is its place in a conversation, ``formed`` the form that is asked for, ``schema``
    what makes a value of the answer. ``begun`` is the beginning of an answer that is continued.
    """

    text: str
    args: Namespace
    model: str | None
    messages: tuple[Message, ...]
    options: GenerationOptions
    render: Callable[[GenerationResult], str | Bundle] = str
    remarks: tuple[Callable[[GenerationResult], str], ...] = ()
    replaced: tuple[Replaced, ...] = ()
    left: tuple[Left, ...] = ()
    chat: AskedTurn | None = None
    formed: FormedAnswer | None = None
    schema: AnswerSchema | None = None
    begun: str = ""
    scope: Mapping[str, Any] = field(default_factory=dict)


Prepare: TypeAlias = "Callable[[NotebookSession, Question], Question]"
Fit: TypeAlias = "Callable[[NotebookSession, Question, ModelInterface], Awaitable[Question]]"
Deliver: TypeAlias = "Callable[[NotebookSession, Question, GenerationResult], None]"

PREPARE: tuple[Prepare, ...] = (prepare_variables, trim_prompt, prepare_form, prepare_chat)
"""In the cell's thread, before anything is loaded: may read the user's variables."""

FIT: tuple[Fit, ...] = (bind_form, fit_chat, tell_remedies, limit_answer)
"""On the loop, once the model is there: may count its tokens and look at its context."""

DELIVER: tuple[Deliver, ...] = (deliver_chat, deliver_form)
"""Once the answer is shown and kept in ``_llm``, a partial one too (see ``finish_reason``): may
record it, convert it, show more. A question that runs in the background is delivered from the
loop's thread."""


def question_from(session: NotebookSession, text: str, args: Namespace) -> Question:
    """The question that flags and settings make of a text. Raises ``InvalidOptionError``."""
    settings = session.settings
    flags = GenerationOptions(**{name: getattr(args, name) for name in OPTIONS})
    if args.completion:
        text, flags = _continued(text, args), replace(flags, raw=True)
    system = args.system if args.system is not None else settings.system or None
    return Question(
        text=text,
        args=args,
        model=args.name or args.model or settings.model or None,
        messages=to_messages(text, system=None if args.completion else system),
        options=options_from(settings.options).merged(flags),
        scope=variables_in_scope(session.shell),
    )


def _continued(text: str, args: Namespace) -> str:
    """The text to go on from: without the line break that every cell ends with."""
    given = {"system": args.system, "chat": args.chat, "as": args.form, "schema": args.schema}
    for flag in (name for name, value in given.items() if value is not None):
        raise InvalidOptionError(
            "completion", f"it continues a text and cannot be combined with --{flag}"
        )
    return text.removesuffix("\n")


def prepared(session: NotebookSession, question: Question) -> Question:
    """The question after all that can be done to it in the cell."""
    for prepare in PREPARE:
        question = prepare(session, question)
    return question
