"""A question: what one cell asks, what capabilities add to it, and the recipe of its answer.

A recipe is saved with the answer in the notebook under the key "nbllm". It holds what it takes to
ask again: never a key, an address or a request's ``extra`` fields, which may carry either.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from nbllm.core.model_interface import ModelInterface
from nbllm.core.paths import file_fingerprint
from nbllm.core.types import GenerationOptions, GenerationResult, Message, ModelInfo
from nbllm.core.version import __version__
from nbllm.notebook.batch.frame_request import run_flags
from nbllm.notebook.flags import flagged_options

if TYPE_CHECKING:
    from nbllm.core.schemas.answer_schemas import AnswerSchema
    from nbllm.notebook.prompts.interpolation import Left, Replaced
    from nbllm.notebook.session import NotebookSession
    from nbllm.notebook.views.bundles import Bundle

__all__ = ["AskFlags", "Question", "Step", "recipe_of"]


@dataclass(frozen=True, slots=True)
class AskFlags:
    """What is typed behind ``%llm``, by the names that its parser has for them.

    ``options`` are the generation options among the flags; one that was not given is unset.
    ``run`` are those of a run over a DataFrame that were given, by their names.
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
    run: Mapping[str, Any] = field(default_factory=dict)
    completion: bool = False
    allow_file: tuple[str, ...] = ()
    raw: bool = False
    show_prompt: bool = False
    models: tuple[str, ...] = ()
    diff: bool = False
    options: GenerationOptions = field(default_factory=GenerationOptions)

    @property
    def ask_once(self) -> bool:
        """Whether one model is asked one question: no flag is set that has another purpose."""
        return all(getattr(self, name) == unset for name, unset in _UNSET.items())

    def call_for(self, step: type[Step]) -> bool:
        """Whether a flag asks for the ``step``, or it takes part without one."""
        return not step.flags or any(getattr(self, name) is not None for name in step.flags)

    @classmethod
    def of(cls, parsed: Namespace) -> AskFlags:
        """The flags that a parser found; what its magic does not have is at its default.

        Raises ``InvalidOptionError`` for a generation option that is not valid.
        """
        found = {name: value for name, value in vars(parsed).items() if value is not None}
        own = {each.name: found[each.name] for each in fields(cls) if each.name in found}
        own["allow_file"] = tuple(found.get("allow_file", ()))
        own["run"] = {name: found[name] for name in run_flags() if name in found}
        given = flagged_options("generation").keys() & found.keys()
        return cls(**own, options=GenerationOptions(**{name: found[name] for name in given}))


_OF_ONE_QUESTION = {
    *("name", "model", "output", "go_on", "bg", "system", "chat", "overflow", "form", "schema"),
    *("completion", "allow_file", "raw", "show_prompt", "options"),
}
_UNSET = {
    each.name: getattr(AskFlags(), each.name)
    for each in fields(AskFlags)
    if each.name not in _OF_ONE_QUESTION
}
"""All other flags, by their names: those of ``--models`` and ``--map``."""


@dataclass(frozen=True, slots=True)
class Question:
    """What one cell asks: its ``text`` as typed, its ``flags``, and what is made of them.

    ``model`` is the wanted name, None for the one used last. ``messages`` are sent with
    ``options``. ``replaced`` and ``left`` are the braces of the text. ``render`` makes Markdown of
    a result, or an output of another kind, where that is not its text; ``schema`` makes a value of
    the answer, and ``can_continue`` says that an answer which was cut off may go on. ``begun`` is
    the beginning of one that does.
    """

    text: str
    flags: AskFlags
    model: str | None
    messages: tuple[Message, ...]
    options: GenerationOptions
    replaced: tuple[Replaced, ...] = ()
    left: tuple[Left, ...] = ()
    render: Callable[[GenerationResult], str | Bundle] = str
    schema: AnswerSchema | None = None
    can_continue: bool = True
    begun: str = ""


class Step:
    """One concern of a question, on its way from the typed text to the kept answer.

    An instance serves one question and holds what it learns about it; continued answers go
    through the same instances again. Each method does nothing unless a step overrides it.

    ``flags`` are the names of those ``AskFlags`` that ask for the step, any of which is None unless
    it is given; a step without takes part in every question.
    """

    flags: ClassVar[tuple[str, ...]] = ()

    def __init__(self, session: NotebookSession) -> None:
        self.session = session

    def prepare(self, question: Question) -> Question:
        """In the cell's thread, before anything is loaded: may read the user's variables."""
        return question

    def preview(self, question: Question, info: ModelInfo | None) -> Question:
        """For ``--show-prompt``: what ``fit`` would send, as far as that is known without a model.

        ``info`` is the model that would be asked, None where there is none.
        """
        return question

    async def fit(self, question: Question, model: ModelInterface) -> Question:
        """On the loop, once the model is there: may count its tokens and look at its context."""
        return question

    def remark(self, question: Question, result: GenerationResult) -> str:
        """What the status line tells of the answer besides; "" for nothing."""
        return ""

    def deliver(self, question: Question, result: GenerationResult) -> None:
        """Once the answer is shown and kept in ``_llm``: may record it, convert it, show more.

        A partial answer comes here too (see ``finish_reason``). A question that runs in the
        background is delivered from the loop's thread.
        """


_NEVER_SAVED = {"extra", "tools", "tool_choice"}


def recipe_of(
    info: ModelInfo, options: GenerationOptions, result: GenerationResult
) -> dict[str, Any]:
    """The recipe of ``result`` as JSON values; what is not known is left out."""
    asked = info.options.merged(options).set_values()
    return _known(
        {
            "version": __version__,
            "model": result.model,
            "model_type": info.model_type,
            "vendor_model": info.model,
            "quantization": info.quantization,
            "file": _file(info.path) if info.path else None,
            "device": result.device,
            "options": {name: value for name, value in asked.items() if name not in _NEVER_SAVED},
            "seed": result.seed,
            "finish_reason": result.finish_reason.value,
            "usage": _known(asdict(result.usage)),
            "timings": {
                name: round(seconds, 4) for name, seconds in _known(asdict(result.timings)).items()
            },
        }
    )


def _file(path: Path) -> dict[str, Any] | None:
    try:
        return {
            "name": path.name,
            "size_bytes": path.stat().st_size,
            "fingerprint": file_fingerprint(path),
        }
    except OSError:  # it was moved or deleted while its model was loaded
        return {"name": path.name}


def _known(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
