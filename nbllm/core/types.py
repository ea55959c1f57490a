"""The values that travel between the parts of nbllm, all of them from here.

All are frozen: a value is made once and read everywhere, from any thread or event loop.
Durations are seconds, sizes are bytes, token counts are tokens of the model in question.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from nbllm.core.budgets.budget import Budget
from nbllm.core.load_options import LoadOptions
from nbllm.core.messages import (
    ContentPart,
    ImagePart,
    Message,
    PromptLike,
    ReasoningPart,
    Role,
    TextPart,
    ToolCall,
    ToolResult,
    VendorPart,
)
from nbllm.core.options import GenerationOptions, Tool
from nbllm.core.results import (
    Embeddings,
    FinishReason,
    GenerationResult,
    Timings,
    TokenCount,
    TokenLogprob,
    Usage,
)
from nbllm.core.routing.route import Route
from nbllm.core.routing.router_settings import RouterSettings
from nbllm.core.texts import brief_repr

if TYPE_CHECKING:
    from nbllm.core.placement import Placement
    from nbllm.core.schemas.answer_schemas import AnswerSchema
    from nbllm.core.schemas.decision_questions import Question

__all__ = [
    "BudgetWait",
    "Completed",
    "ContentPart",
    "Embeddings",
    "Event",
    "FinishReason",
    "GenerationOptions",
    "GenerationRequest",
    "GenerationResult",
    "ImagePart",
    "LoadOptions",
    "Message",
    "ModelInfo",
    "PromptLike",
    "PromptProgress",
    "ReasoningDelta",
    "ReasoningPart",
    "RetryScheduled",
    "Role",
    "RouteChosen",
    "Source",
    "TextDelta",
    "TextPart",
    "Timings",
    "TokenCount",
    "TokenLogprob",
    "Tool",
    "ToolCall",
    "ToolCallDelta",
    "ToolResult",
    "Usage",
    "VendorPart",
]

# ---------------------------------------------------------------- models


Source: TypeAlias = str
"""Where an entry is from; see ``ModelInfo``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """What is known of a model before it is loaded.

    ``model_type`` is the architecture of a local model ("llama", "phi3", …) or the vendor of a
    cloud model. ``parameters`` is in billions, ``size_bytes`` the size of the file, and
    ``context_length`` in tokens. ``model`` is the vendor's id where it differs from ``name``.
    ``api_key_env`` names an environment variable; a key itself is never part of this.
    ``options`` and ``load`` are this model's defaults. ``router`` has the members of one of
    ``model_type`` "router". ``source`` says where the entry is from:
    "config", "bundled" (an installed package), "found" (the current folder), "vendor", "server", or
    the key of a store in ``nbllm.core.catalogue.listing``, such as "ollama".
    ``placement`` (where it was put, and what it takes there), ``device`` and ``memory_bytes``
    (the same in all: see ``Placement.total_bytes``) are known of loaded local models only.
    ``aliases`` are other names that it can be loaded by. ``companions`` are files that serve it,
    such as a projector for images (mmproj) or a draft model. ``tokenizer`` tells its tokenizer from
    others, with the number of tokens: "gpt2/qwen2/151936".
    ``tuned_from`` is the model's own file where ``path`` is the one that ``%llm_tune`` chose.
    ``budgets`` are those of its config entry.
    """

    name: str
    model_type: str
    local: bool
    path: Path | None = None
    context_length: int | None = None
    quantization: str | None = None
    parameters: float | None = None
    api_key_env: str | None = None
    base_url: str | None = None
    model: str | None = None
    api: str | None = None
    options: GenerationOptions = GenerationOptions()
    load: LoadOptions = LoadOptions()
    router: RouterSettings | None = None
    budgets: tuple[Budget, ...] = ()
    size_bytes: int | None = field(default=None, compare=False)
    memory_bytes: int | None = field(default=None, compare=False)
    device: str | None = field(default=None, compare=False)
    placement: Placement | None = field(default=None, compare=False, repr=False)
    source: Source = field(default="config", compare=False)
    config_file: Path | None = field(default=None, compare=False, repr=False)
    tuned_from: Path | None = field(default=None, compare=False, repr=False)
    aliases: tuple[str, ...] = field(default=(), compare=False, repr=False)
    companions: tuple[Path, ...] = field(default=(), compare=False, repr=False)
    tokenizer: str | None = field(default=None, compare=False, repr=False)

    __repr__ = brief_repr

    def _repr_html_(self) -> str:
        from nbllm.core.model_facts import model_card  # only notebooks need it

        return model_card(self)


# ---------------------------------------------------------------- events


@dataclass(frozen=True, slots=True)
class TextDelta:
    """More of the answer's text; never a broken character.

    ``tokens`` is how many tokens were written since the last delta, None where that is not told.
    """

    text: str
    tokens: int | None = None


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """More of the model's reasoning, which is not part of the answer; ``tokens`` as above."""

    text: str
    tokens: int | None = None


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """More of the tool call number ``index``; ``id`` and ``name`` come with its first piece."""

    index: int
    arguments: str = ""
    id: str | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class PromptProgress:
    """The prompt is being read: ``processed`` of ``total`` tokens, ``cached`` of them reused."""

    processed: int
    total: int
    cached: int = 0


@dataclass(frozen=True, slots=True)
class RetryScheduled:
    """A request failed and is sent again after ``delay_seconds``; ``attempt`` counts from 1."""

    attempt: int
    delay_seconds: float
    reason: str


@dataclass(frozen=True, slots=True)
class BudgetWait:
    """The request waits for ``budget``, of which others under way have reserved what is left.

    ``budget`` is "" once it waits no more.
    """

    budget: str


@dataclass(frozen=True, slots=True)
class RouteChosen:
    """A router asks the member of ``route``, which is the last of its tries.

    ``device`` is where that runs, "" where it is not loaded yet. Where it ``restarts``, all that
    came of the answer so far is void.
    """

    route: Route
    device: str = ""
    restarts: bool = False


@dataclass(frozen=True, slots=True)
class Completed:
    """The last event of every stream that ended well."""

    result: GenerationResult


Event: TypeAlias = (
    TextDelta
    | ReasoningDelta
    | ToolCallDelta
    | PromptProgress
    | RetryScheduled
    | BudgetWait
    | RouteChosen
    | Completed
)


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One request as it goes through all layers to its ``model``; equal ones ask for the same.

    It is a prompt as messages, with the options that apply to it after all defaults.

    Where there is a ``suffix``, the answer is what belongs between the message's text and it.
    ``schema`` makes a value of the answer, where ``options`` ask for one by ``response_schema``.
    """

    messages: tuple[Message, ...]
    options: GenerationOptions = GenerationOptions()
    suffix: str | None = None
    schema: AnswerSchema | None = None
    model: ModelInfo = field(kw_only=True)

    @property
    def questions(self) -> tuple[Question, ...]:
        """What is to be decided among labels; empty for a request of a text."""
        return self.schema.questions if self.schema else ()
