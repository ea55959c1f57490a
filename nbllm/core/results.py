"""What comes of a request: answers with what they took, counts and vectors."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from nbllm.core.errors import AnswerFormError, InvalidOptionError
from nbllm.core.messages import ContentPart, Message, ToolCall
from nbllm.core.option_names import option_name
from nbllm.core.rendering.markdown_html import answer_html
from nbllm.core.routing.route import Route
from nbllm.core.texts import brief_repr

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from nbllm.core.schemas.answer_schemas import AnswerSchema

__all__ = [
    "Embeddings",
    "FinishReason",
    "GenerationResult",
    "Timings",
    "TokenCount",
    "TokenLogprob",
    "Usage",
]


class FinishReason(str, enum.Enum):
    """Why an answer ended, in one vocabulary for all engines and vendors."""

    STOP = "stop"
    """The model ended its answer, or wrote a stop string."""
    LENGTH = "length"
    """``max_tokens`` or the end of the context was reached."""
    REPETITION = "repetition"
    """The engine ended it, because it did nothing any more but repeat itself."""
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


_EARLY = {
    FinishReason.LENGTH: "it was cut off at the token limit; raise {max_tokens}",
    FinishReason.REPETITION: "it was stopped because it kept repeating itself",
    FinishReason.CANCELLED: "it was stopped before it was complete",
    FinishReason.FAILED: "it failed before it was complete",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens read and written, and their price.

    ``prompt_tokens`` and ``completion_tokens`` are None where the server tells no figures.
    ``cached_tokens`` are those of the ``prompt_tokens`` that needed no processing,
    ``cache_write_tokens`` those that the vendor put into its cache and charges more for,
    ``reasoning_tokens`` those of the ``completion_tokens`` that are not part of the text, and
    ``accepted_draft_tokens`` those that a local model only had to check: drafted by prompt lookup
    or a draft model, and accepted.
    ``cost_usd`` is None where the price is not known, and 0.0 only where it is known to be free.
    """

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    accepted_draft_tokens: int = 0
    cost_usd: float | None = None

    __repr__ = brief_repr

    @property
    def total_tokens(self) -> int | None:
        """Prompt and completion together; None where one of them is not known."""
        if self.prompt_tokens is None or self.completion_tokens is None:
            return None
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

    __repr__ = brief_repr


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
    ``raw_finish_reason`` is the engine's or vendor's own word. ``notes`` are sentences about what
    was done otherwise than it was asked, such as an option that the model refuses.
    ``schema`` is the one that was asked for; ``value`` reads the text by it.
    ``label_probabilities`` are those of the labels of each question of ``decide``. ``route`` tells
    of an answer that was asked of a router which member gave it; ``model`` is that member.
    ``from_cache`` says that it is a kept answer, for which nothing was asked or paid.
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
    notes: tuple[str, ...] = ()
    label_probabilities: tuple[tuple[float, ...], ...] = field(default=(), repr=False)
    schema: AnswerSchema | None = field(default=None, repr=False, compare=False)
    route: Route | None = field(default=None, repr=False)
    from_cache: bool = False

    __repr__ = brief_repr

    @property
    def value(self) -> Any:
        """The answer as a value of its schema: an instance where that is a type, else plain JSON.

        Raises ``AnswerFormError`` where the answer does not follow the schema, with the first
        violation, and ``InvalidOptionError`` where it was asked for without one.
        """
        if self.schema is None:
            raise InvalidOptionError(
                "schema",
                "this answer was requested without a schema; give schema=… with the request",
            )
        try:
            return self.schema.parse(self.text)
        except AnswerFormError as error:
            early = _EARLY.get(self.finish_reason)
            if early is None:
                raise
            why = early.format(max_tokens=option_name("max_tokens"))
            problem = f"{error.problem}; {why}"
            raise AnswerFormError(error.form, problem, text=self.text) from error

    @property
    def probabilities(self) -> dict[str, dict[Any, float]]:
        """Of each question of ``decide``, the values with their probabilities, which add up to 1.

        The most probable come first. Empty where the model tells none, as most vendors do not.
        """
        questions = self.schema.questions if self.schema and self.label_probabilities else ()
        return {
            question.name: question.by_value(values)
            for question, values in zip(questions, self.label_probabilities, strict=True)
        }

    @property
    def tokens_per_second(self) -> float | None:
        """Decoding speed after the first token; None for answers too short to tell."""
        seconds, tokens = self.timings.decode_seconds, self.usage.completion_tokens
        return (tokens - 1) / seconds if seconds and tokens and tokens > 1 else None

    @property
    def message(self) -> Message:
        """The answer as a turn to continue the conversation with."""
        return Message("assistant", self.parts or self.text)

    def __str__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        return answer_html(self.text)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:  # noqa: FBT001 - IPython's way
        printer.text(self.text)


class TokenCount(int):
    """A number of tokens; ``exact`` is False for an estimate.

    It compares and counts as any other number, and what is computed from it is a plain one.
    """

    exact: bool

    def __new__(cls, tokens: int, exact: bool = True) -> TokenCount:  # noqa: FBT001, FBT002 - as a pair
        """``tokens`` of them."""
        count = super().__new__(cls, tokens)
        count.exact = exact
        return count

    @property
    def tokens(self) -> int:
        """The plain number."""
        return int(self)

    def __reduce__(self) -> tuple[type[TokenCount], tuple[int, bool]]:
        return TokenCount, (int(self), self.exact)

    def __repr__(self) -> str:
        return f"TokenCount(tokens={int(self)}, exact={self.exact})"

    def __str__(self) -> str:
        return f"{int(self)}" if self.exact else f"about {int(self)} (an estimate)"


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
