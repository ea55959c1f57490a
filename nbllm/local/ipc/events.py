"""What a worker tells: of its load, of the answers that it writes, and in reply to requests."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from nbllm.local.ipc.protocol import Beat, Event, Failed, LastEvent, NumberedEvent

__all__ = [
    "AnswerFormat",
    "ContextExceeded",
    "Decided",
    "Detokenized",
    "Dialect",
    "Done",
    "Embedded",
    "LoadProgress",
    "LogprobRecord",
    "Notice",
    "OptionRefused",
    "Progress",
    "QueueFull",
    "Ready",
    "Reply",
    "RequestFailure",
    "Scores",
    "Step",
    "TextExceeded",
    "Tokenized",
    "TokensCounted",
    "Unloadable",
    "WorkerEvent",
]


Dialect: TypeAlias = Literal["marks", "harmony", "muse", "functionary"]
"""How an answer is divided: by marks in it, or into messages that say for whom they are."""


class LoadProgress(Event, tag="loading"):
    """The loaded fraction, 0 to 1."""

    fraction: float


class Ready(Event, tag="ready"):
    """The model is loaded. ``memory_bytes`` is llama.cpp's report of its buffers."""

    context_length: int
    memory_bytes: int
    can_write: bool
    can_fill: bool
    is_reranker: bool


class Unloadable(Event, tag="unloadable"):
    """The model cannot be loaded; the worker leaves."""

    problem: str


class Notice(Event, tag="notice"):
    """Something that the user should know, which no request fails for."""

    text: str


class AnswerFormat(NumberedEvent, tag="format"):
    """What to look for in the answer: indices in the tables of ``output_format.py``."""

    blocks: list[int]
    wrappers: list[int]
    calls: str | None
    thinking: int | None
    dialect: Dialect


class Progress(NumberedEvent, tag="progress"):
    """``processed`` of ``total`` tokens of the prompt are in the context, ``cached`` at once."""

    processed: int
    total: int
    cached: int


class Step(Event, tag="step"):
    """New text of some answers: id, text, and the tokens that it took."""

    texts: list[tuple[int, str, int]]


class LogprobRecord(msgspec.Struct, array_like=True):
    """A token of an answer: its bytes, its log-probability, and those of the likeliest tokens.

    JSON has no infinity: a log-probability of minus infinity is None.
    """

    data: bytes
    logprob: float | None
    top: list[tuple[bytes, float | None]]


class Done(LastEvent, tag="done"):
    """An answer is complete: the last of its text, why it ended, its counts and times."""

    text: str
    tokens: int
    reason: str
    stop: str | None
    seed: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    accepted_draft_tokens: int
    queue_seconds: float
    prompt_seconds: float
    decode_seconds: float
    logprobs: list[LogprobRecord] | None = None


class Decided(LastEvent, tag="decided"):
    """The reply to ``Decide``: of each label the logarithm of its probability, as float32.

    ``label_tokens`` are those that were read behind the prompt.
    """

    scores: bytes
    prompt_tokens: int
    cached_tokens: int
    label_tokens: int
    queue_seconds: float
    prompt_seconds: float
    decode_seconds: float


class Tokenized(LastEvent, tag="tokenized"):
    """The reply to ``Tokenize``."""

    tokens: list[int]


class Detokenized(LastEvent, tag="detokenized"):
    """The reply to ``Detokenize``."""

    text: str


class TokensCounted(LastEvent, tag="counted"):
    """The reply to ``CountTokens``."""

    tokens: int


class Embedded(LastEvent, tag="embedded"):
    """The reply to ``Embed``: a vector for each text, all as bytes of float32."""

    vectors: bytes
    tokens: int


class Scores(LastEvent, tag="scores"):
    """The reply to ``Rerank``: a score for each document, as bytes of float32."""

    scores: bytes
    tokens: int


class OptionRefused(LastEvent, tag="option"):
    """The model cannot follow the request's ``option``."""

    option: str
    problem: str


class ContextExceeded(LastEvent, tag="context"):
    """The prompt does not fit; ``prompt_tokens`` None where that was clear without counting."""

    prompt_tokens: int | None
    context_length: int


class TextExceeded(LastEvent, tag="text"):
    """The text ``number`` (from 1) of an embedding or reranking request is too long."""

    number: int
    tokens: int | None
    limit: int


class QueueFull(LastEvent, tag="busy"):
    """So many requests are ``waiting`` that no further one is taken."""

    waiting: int


RequestFailure: TypeAlias = Failed | OptionRefused | ContextExceeded | TextExceeded | QueueFull
Reply: TypeAlias = Tokenized | Detokenized | TokensCounted | Embedded | Scores | Decided
WorkerEvent: TypeAlias = (
    Beat
    | LoadProgress
    | Ready
    | Unloadable
    | Notice
    | AnswerFormat
    | Progress
    | Step
    | Done
    | Reply
    | RequestFailure
)
