"""How to answer: options with the ranges that they are checked against."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args

from nbllm.core.errors import InvalidOptionError
from nbllm.core.json_values import json_object
from nbllm.core.option_checks import (
    SINGLE_PRECISION,
    adapters_of,
    biases_of,
    check_number,
    check_texts,
    checked_text,
    effort_of,
    is_token,
    items_of,
    listed,
    text_of,
)
from nbllm.core.reprs import brief_repr
from nbllm.core.texts import shown

__all__ = ["ENGINE_OPTIONS", "GenerationOptions", "Tool", "option_bounds"]

ENGINE_OPTIONS = (
    "typical_p",
    "top_n_sigma",
    "dynatemp_range",
    "dynatemp_exponent",
    "xtc_probability",
    "xtc_threshold",
    "repeat_last_n",
    "dry_multiplier",
    "dry_base",
    "dry_allowed_length",
    "dry_sequence_breakers",
    "mirostat",
    "mirostat_tau",
    "mirostat_eta",
    "grammar",
    "ignore_eos",
)
"""Options of llama.cpp, by its server's names; servers like it take them, vendors do not."""

Priority = Literal["interactive", "background"]
OnFull = Literal["stop", "shift"]


_TOOL_NAME = re.compile(r"[A-Za-z0-9_.\-]{1,128}")
"""What all vendors and formats can write; https://platform.openai.com/docs/api-reference/chat"""


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may ask for; ``parameters`` is a JSON schema of an object.

    Raises ``InvalidOptionError`` for what cannot be sent.
    """

    name: str
    description: str
    parameters: Mapping[str, Any]

    def __post_init__(self) -> None:
        name = checked_text("name", self.name)
        if not name:
            raise InvalidOptionError("name", f"must be a string in a Tool (got {shown(self.name)})")
        if not _TOOL_NAME.fullmatch(name):
            problem = f"must be 1 to 128 letters, digits, _, - and . in a Tool (got {shown(name)})"
            raise InvalidOptionError("name", problem)
        parameters = json_object("parameters", self.parameters)
        if parameters is None:
            raise InvalidOptionError(
                "parameters", f"must be a mapping in the Tool {name} (got None)"
            )
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "description", text_of("description", self.description))
        object.__setattr__(self, "parameters", parameters)


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationOptions:
    """How to answer. None leaves the choice to the model's config, then to the engine or vendor.

    ``max_tokens`` bounds the answer; without it a local model may go on to the end of its context.
    ``temperature`` 0 is greedy. ``top_p``, ``min_p`` are probabilities, ``top_k`` a count (0: off).
    ``repeat_penalty`` divides (1: off), the other two penalties subtract, as in OpenAI's API.
    The same ``seed`` on the same prompt gives the same text where the engine can promise it.
    Generation ends before any of the ``stop`` strings. ``response_schema`` is a JSON schema that
    the answer must follow. ``reasoning_effort`` is one of ``EFFORTS``, or a budget
    in tokens; a model may know only some of them. ``extra`` is merged into a vendor's request
    body as it is.

    ``logit_bias`` adds to the logits of tokens before anything else looks at them: pairs, or a
    mapping, of a token's id or a text, all of whose tokens are meant, and a number; -100 forbids.
    A mapping's keys may be ids as texts, as in OpenAI's JSON.
    ``logprobs`` asks for the log-probability of each token of the answer, and for those of so many
    of the likeliest in its place (0: of none).

    What follows is llama.cpp's own and stays at its server's defaults unless it is set.
    ``typical_p`` keeps locally typical tokens (1: off), ``top_n_sigma`` those within so many
    standard deviations of the best (0: off). ``dynatemp_range`` lets the temperature move so far
    either way with the entropy, shaped by ``dynatemp_exponent``. XTC drops, with
    ``xtc_probability`` (0: off), all but the least likely of the tokens above ``xtc_threshold``.
    The penalties look back over ``repeat_last_n`` tokens. DRY subtracts ``dry_multiplier`` (0: off)
    times ``dry_base`` to the power of how much longer than ``dry_allowed_length`` a token would
    make a repetition; ``dry_sequence_breakers`` end one. ``mirostat`` 1 or 2 keeps the surprise at
    ``mirostat_tau``, learning at ``mirostat_eta``, in place of every other way to narrow the
    choice. ``grammar`` is GBNF that the answer must follow, its first rule named ``root``.
    ``ignore_eos`` forbids the tokens that end an answer. Generation also ends at any of
    ``stop_tokens``, each an id or the text of one token.

    The next three are of the scheduling of local models. While there are requests of ``priority``
    "interactive", the default, those of "background" are served with what is left. ``on_full`` says
    what happens where the context is full: "stop" ends the answer, "shift" drops the older half of
    all that is behind the system message, and goes on. ``prompt_lookup`` False never guesses words
    by what followed their like before; otherwise that is done as long as it saves time. Each guess
    is checked against the model's own choice.

    ``raw`` continues the prompt, a text, without any chat template, as base models do; special
    tokens that are written out in it are read as such. Local models only.

    ``stop_repetition`` False lets an answer of a local model go on that does nothing any more but
    repeat itself; otherwise it ends after a few hundred tokens of that, with
    ``FinishReason.REPETITION``. An answer that a grammar or a schema binds, or that must not end by
    itself (``ignore_eos``), is ended so only where this is True.

    ``adapters`` are scales for this answer of the LoRA adapters that a local model was loaded with,
    each by its path or the name of its file; those not named are off. Without it they have the
    scales of the load. Requests with the same scales are answered together, others take turns.

    ``prompt_caching`` False has Anthropic's models keep nothing of a prompt. Otherwise they keep it
    for five minutes, which makes each turn of a long conversation cost a tenth; other vendors keep
    prompts without being asked, and local models always do.

    The last four are about time, and are never sent: how many seconds connecting, the first token
    and each pause after it may take, and for how many seconds after a request began a failure is
    answered by another attempt (0: never). Of these, local models know ``stall_timeout``: how long
    their process may give no sign of life, or hang at one thing, 60 s if nothing is said.
    """

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repeat_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] | None = None
    response_schema: Mapping[str, Any] | None = None
    reasoning_effort: str | None = None
    tools: tuple[Tool, ...] | None = None
    tool_choice: str | None = None
    extra: Mapping[str, Any] | None = None
    logit_bias: tuple[tuple[int | str, float], ...] | None = None
    logprobs: int | None = None
    typical_p: float | None = None
    top_n_sigma: float | None = None
    dynatemp_range: float | None = None
    dynatemp_exponent: float | None = None
    xtc_probability: float | None = None
    xtc_threshold: float | None = None
    repeat_last_n: int | None = None
    dry_multiplier: float | None = None
    dry_base: float | None = None
    dry_allowed_length: int | None = None
    dry_sequence_breakers: tuple[str, ...] | None = None
    mirostat: int | None = None
    mirostat_tau: float | None = None
    mirostat_eta: float | None = None
    grammar: str | None = None
    ignore_eos: bool | None = None
    stop_tokens: tuple[int | str, ...] | None = None
    priority: Priority | None = None
    on_full: OnFull | None = None
    prompt_lookup: bool | None = None
    raw: bool | None = None
    stop_repetition: bool | None = None
    adapters: tuple[tuple[str, float], ...] | None = None
    prompt_caching: bool | None = None
    connect_timeout: float | None = None
    first_token_timeout: float | None = None
    stall_timeout: float | None = None
    max_retry_seconds: float | None = None

    def __post_init__(self) -> None:
        for name, made in _MADE.items():
            object.__setattr__(self, name, made(name, getattr(self, name)))
        for name, (low, high) in _OPTION_RANGES.items():
            check_number(name, getattr(self, name), low, high, whole=name in _WHOLE)
        for name in ("stop", "dry_sequence_breakers"):
            check_texts(name, getattr(self, name) or ())
        if not all(map(is_token, self.stop_tokens or ())):
            problem = f"must be token ids or their strings (got {shown(self.stop_tokens)})"
            raise InvalidOptionError("stop_tokens", problem)
        for name, choices in _CHOICES.items():
            value = getattr(self, name)
            if value is not None and not (isinstance(value, str) and value in choices):
                raise InvalidOptionError(
                    name, f"must be {' or '.join(choices)} (got {shown(value)})"
                )
        for name in ("prompt_lookup", "raw", "stop_repetition", "ignore_eos", "prompt_caching"):
            value = getattr(self, name)
            if not isinstance(value, bool | None):
                raise InvalidOptionError(name, f"must be True or False (got {shown(value)})")
        if self.response_schema is not None and self.grammar is not None:
            raise InvalidOptionError("grammar", "cannot be combined with response_schema; drop one")

    def merged(self, over: GenerationOptions) -> GenerationOptions:
        """These options with every value that ``over`` sets in its place."""
        return replace(self, **over.set_values())

    __repr__ = brief_repr

    def set_values(self) -> dict[str, Any]:
        """The options that are set, by name."""
        return {f.name: value for f in fields(self) if (value := getattr(self, f.name)) is not None}


def _tools(option: str, value: Any) -> tuple[Tool, ...] | None:
    if value is None:
        return None
    tools = items_of(option, value, "tools")
    for tool in tools:
        if not isinstance(tool, Tool):
            raise InvalidOptionError(option, f"must be Tool objects (got {shown(tool)})")
    return tools


_MADE: dict[str, Callable[[str, Any], Any]] = {
    "stop": listed,
    "dry_sequence_breakers": listed,
    "stop_tokens": listed,
    "logit_bias": lambda _, value: biases_of(value),
    "adapters": lambda _, value: adapters_of(value),
    "tools": _tools,
    "response_schema": json_object,
    "extra": json_object,
    "grammar": checked_text,
    "tool_choice": checked_text,
    "reasoning_effort": effort_of,
}
"""How each option that is no number gets the form in which it is kept."""

_CHOICES: dict[str, tuple[str, ...]] = {
    "priority": get_args(Priority),
    "on_full": get_args(OnFull),
}
_OPTION_RANGES: dict[str, tuple[float, float]] = {
    "max_tokens": (1, 2**63 - 1),
    "temperature": (0, SINGLE_PRECISION),
    "top_p": (0, 1),
    "top_k": (0, 2**31 - 1),
    "min_p": (0, 1),
    "repeat_penalty": (1e-3, SINGLE_PRECISION),
    "presence_penalty": (-2, 2),
    "frequency_penalty": (-2, 2),
    "seed": (0, 2**63 - 1),
    "logprobs": (0, 100),
    "typical_p": (0, 1),
    "top_n_sigma": (0, SINGLE_PRECISION),
    "dynatemp_range": (0, SINGLE_PRECISION),
    "dynatemp_exponent": (0, SINGLE_PRECISION),
    "xtc_probability": (0, 1),
    "xtc_threshold": (0, 1),
    "repeat_last_n": (0, 2**20),
    "dry_multiplier": (0, SINGLE_PRECISION),
    "dry_base": (1, SINGLE_PRECISION),
    "dry_allowed_length": (0, 2**20),
    "mirostat": (0, 2),
    "mirostat_tau": (0, SINGLE_PRECISION),
    "mirostat_eta": (0, 1),
    "connect_timeout": (1e-3, math.inf),
    "first_token_timeout": (1e-3, math.inf),
    "stall_timeout": (1e-3, math.inf),
    "max_retry_seconds": (0, math.inf),
}


_WHOLE = (
    "max_tokens",
    "top_k",
    "seed",
    "logprobs",
    "repeat_last_n",
    "dry_allowed_length",
    "mirostat",
)


def option_bounds(name: str) -> tuple[float, float]:
    """The least and the greatest value of an option that is a number."""
    return _OPTION_RANGES[name]
