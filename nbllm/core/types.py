"""The values that travel between the parts of nbllm.

All are frozen: a value is made once and read everywhere, from any thread or event loop.
Durations are seconds, sizes are bytes, token counts are tokens of the model in question.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from nbllm.core.errors import InvalidOptionError
from nbllm.core.load_options import LoadOptions
from nbllm.core.markdown import safe_markdown
from nbllm.core.options import GenerationOptions, Tool

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from nbllm.core.placement import Placement

__all__ = [
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

# ---------------------------------------------------------------- messages

Role = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True)
class TextPart:
    """A piece of text in a message."""

    text: str


@dataclass(frozen=True, slots=True)
class ImagePart:
    """An image in a message: its bytes with their media type, or an address."""

    media_type: str = "image/png"
    data: bytes | None = field(default=None, repr=False)
    url: str | None = None


@dataclass(frozen=True, slots=True)
class ReasoningPart:
    """A model's reasoning, kept so that a later turn can send it back.

    ``signature`` is the vendor's opaque proof of origin; some vendors refuse reasoning without it.
    """

    text: str
    signature: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool that the model wants called; ``arguments`` is JSON text as the model wrote it.

    ``signature`` is the vendor's opaque proof of the reasoning behind it, where it gives one.
    """

    id: str
    name: str
    arguments: str
    signature: str | None = field(default=None, repr=False)

    def parsed_arguments(self) -> Any:
        """The arguments as Python values; raises ``json.JSONDecodeError`` on broken JSON."""
        return json.loads(self.arguments or "{}")


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a called tool answered."""

    call_id: str
    name: str
    content: str
    is_error: bool = False


@dataclass(frozen=True, slots=True)
class VendorPart:
    """What only one vendor understands, such as a tool that ran there, as the JSON it wrote.

    Kept so that a later turn can send it back to ``vendor``; all others leave it out.
    """

    vendor: str
    content: str = field(repr=False)


ContentPart: TypeAlias = TextPart | ImagePart | ReasoningPart | ToolCall | ToolResult | VendorPart


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation. ``content`` is text, or a sequence of parts."""

    role: Role
    content: str | tuple[ContentPart, ...]

    def __post_init__(self) -> None:
        if self.role not in get_args(Role):
            raise InvalidOptionError(
                "role", f"{self.role!r} is none of {', '.join(get_args(Role))}"
            )

    @property
    def parts(self) -> tuple[ContentPart, ...]:
        """The content as parts, whichever way it was given."""
        return (TextPart(self.content),) if isinstance(self.content, str) else self.content

    @property
    def text(self) -> str:
        """The text parts, joined."""
        return "".join(part.text for part in self.parts if isinstance(part, TextPart))


PromptLike: TypeAlias = str | Message | Sequence[Message | Mapping[str, Any]]
"""What a model accepts as a prompt: a text, a message, or a conversation."""

# ---------------------------------------------------------------- models


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """What is known of a model before it is loaded.

    ``model_type`` is the architecture of a local model ("llama", "phi3", …) or the vendor of a
    cloud model. ``parameters`` is in billions, ``size_bytes`` the size of the file, and
    ``context_length`` in tokens. ``model`` is the vendor's id where it differs from ``name``.
    ``api_key_env`` names an environment variable; a key itself is never part of this.
    ``options`` and ``load`` are this model's defaults. ``source`` says where the entry is from.
    ``placement`` (where it was put, and the bytes that were predicted), ``device`` and
    ``memory_bytes`` (weights, caches and buffers, as the engine reports them) are known of loaded
    local models only.
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
    size_bytes: int | None = field(default=None, compare=False)
    memory_bytes: int | None = field(default=None, compare=False)
    device: str | None = field(default=None, compare=False)
    placement: Placement | None = field(default=None, compare=False, repr=False)
    source: Literal["config", "bundled", "found", "vendor"] = field(default="config", compare=False)
    config_file: Path | None = field(default=None, compare=False, repr=False)


# ---------------------------------------------------------------- results


class FinishReason(str, enum.Enum):
    """Why an answer ended, in one vocabulary for all engines and vendors."""

    STOP = "stop"
    """The model ended its answer, or wrote a stop string."""
    LENGTH = "length"
    """``max_tokens`` or the end of the context was reached."""
    TOOL_CALLS = "tool_calls"
    """The model wants tools called."""
    CONTENT_FILTER = "content_filter"
    """The vendor blocked the prompt or the answer."""
    REFUSAL = "refusal"
    """The model declined to answer."""
    PAUSE = "pause"
    """The vendor paused a long turn; send it back to go on."""
    CANCELLED = "cancelled"
    """The reader stopped it; the text is what had arrived."""
    FAILED = "failed"
    """It broke; the text is what had arrived."""
    OTHER = "other"
    """Something that this version does not know; see ``raw_finish_reason``."""

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens read and written, and their price.

    ``cached_tokens`` are those of the ``prompt_tokens`` that needed no processing,
    ``reasoning_tokens`` those of the ``completion_tokens`` that are not part of the text.
    ``cost_usd`` is None where the price is not known, and 0.0 only where it is known to be free.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    cost_usd: float | None = None

    @property
    def total_tokens(self) -> int:
        """Prompt and completion together."""
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """Where the time of an answer went, in seconds; None where it could not be measured.

    ``queue_seconds``: waiting for a place in the engine. ``prompt_seconds``: reading the prompt.
    ``first_token_seconds``: from the request to the first token, as the reader saw it.
    ``decode_seconds``: from the first token to the last. ``total_seconds``: all of it.
    """

    queue_seconds: float | None = None
    prompt_seconds: float | None = None
    first_token_seconds: float | None = None
    decode_seconds: float | None = None
    total_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token of an answer, and the natural logarithm of its probability at its place.

    ``data`` are its bytes, which alone need be no whole characters, where ``text`` has U+FFFD;
    None where a vendor tells none. ``top`` are the likeliest tokens in its place, best first.
    """

    text: str
    logprob: float
    data: bytes | None = None
    top: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationResult:
    """A whole answer, or as much of it as there is.

    ``model`` is the name under which the model was loaded, ``device`` where it ran.
    ``logprobs`` are those of the answer's tokens, where ``GenerationOptions.logprobs`` asked for
    them: of the model's own distribution, before any sampling option changes it.
    ``refusal`` is the vendor's explanation where ``finish_reason`` is a refusal or a filter.
    ``raw_finish_reason`` is the engine's or vendor's own word.
    """

    text: str
    model: str
    finish_reason: FinishReason
    usage: Usage = Usage()
    timings: Timings = Timings()
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    parts: tuple[ContentPart, ...] = field(default=(), repr=False)
    seed: int | None = None
    refusal: str | None = None
    raw_finish_reason: str | None = None
    device: str | None = None
    logprobs: tuple[TokenLogprob, ...] = field(default=(), repr=False)

    @property
    def tokens_per_second(self) -> float | None:
        """Decoding speed after the first token; None for answers too short to tell."""
        seconds, steps = self.timings.decode_seconds, self.usage.completion_tokens - 1
        return steps / seconds if seconds and steps > 0 else None

    @property
    def message(self) -> Message:
        """The answer as a turn to continue the conversation with."""
        return Message("assistant", self.parts or self.text)

    def __str__(self) -> str:
        return self.text

    def _repr_markdown_(self) -> str:
        return safe_markdown(self.text)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:  # noqa: FBT001 - IPython's way
        printer.text(self.text)


@dataclass(frozen=True, slots=True)
class TokenCount:
    """A number of tokens; ``exact`` is False for an estimate."""

    tokens: int
    exact: bool = True

    def __int__(self) -> int:
        return self.tokens

    def __str__(self) -> str:
        return f"{self.tokens}" if self.exact else f"about {self.tokens} (an estimate)"


@dataclass(frozen=True, slots=True)
class Embeddings:
    """One vector a text: ``vectors`` is float32 of shape (texts, dimensions)."""

    vectors: NDArray[np.float32]
    model: str
    usage: Usage = Usage()

    def normalized(self) -> Embeddings:
        """The vectors divided by their lengths; one of zeros stays as it is."""
        import numpy as np  # costs 100 ms, and not every session needs it

        lengths = np.linalg.norm(self.vectors, axis=-1, keepdims=True)
        vectors = self.vectors / np.where(lengths == 0, 1, lengths)
        return replace(self, vectors=vectors.astype(np.float32))


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
    """More of the model's reasoning, which is not part of the answer."""

    text: str


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
class Completed:
    """The last event of every stream that ended well."""

    result: GenerationResult


Event: TypeAlias = (
    TextDelta | ReasoningDelta | ToolCallDelta | PromptProgress | RetryScheduled | Completed
)


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """A prompt as messages, with the options that apply to it after all defaults.

    Where there is a ``suffix``, the answer is what belongs between the message's text and it.
    """

    messages: tuple[Message, ...]
    options: GenerationOptions = GenerationOptions()
    suffix: str | None = None
