"""How to answer: the generation options, each declared with all that is known of it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

from nbllm.core.errors import InvalidOptionError
from nbllm.core.json_checks import json_object
from nbllm.core.option_checks import (
    EFFORTS,
    SINGLE_PRECISION,
    biases_of,
    checked_text,
    effort_of,
    items_of,
    text_of,
    tokens_of,
)
from nbllm.core.option_table import (
    ADAPTERS,
    SWITCH,
    TEXTS,
    Backend,
    OptionSet,
    choice,
    integer,
    made,
    number,
    option,
    seconds,
    with_reference,
)
from nbllm.core.texts import shown

__all__ = ["CacheMode", "GenerationOptions", "Tool"]

Priority = Literal["interactive", "background"]
OnFull = Literal["stop", "shift"]
CacheMode = Literal["off", "on", "force"]


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


def _tools(name: str, value: Any) -> tuple[Tool, ...]:
    return tuple(_tool(name, each) for each in items_of(name, value, "tools"))


def _tool(name: str, value: Any) -> Tool:
    """A tool, or one as the JSON object of a config."""
    if isinstance(value, Tool):
        return value
    if not isinstance(value, Mapping):
        raise InvalidOptionError(name, f"must be Tool objects (got {shown(value)})")
    if set(value) != {"name", "description", "parameters"}:
        problem = "a tool must have the keys name, description and parameters, and no others"
        raise InvalidOptionError(name, problem)
    try:
        return Tool(**value)
    except InvalidOptionError as error:
        raise InvalidOptionError(name, f"{error.option} {error.problem}") from None


_JSON = made(json_object, "a JSON object")
_STRING = made(checked_text, "a string")
_SINGLE = number(0, SINGLE_PRECISION)
_FRACTION = number(0, 1)
_SECONDS = seconds(1e-3, math.inf)

# Of llama.cpp, by its server's names; servers like it take them, vendors do not.
_engine = partial(option, backends=Backend.LLAMA_CPP | Backend.SERVERS)
_local = partial(option, backends=Backend.LLAMA_CPP)
_scheduling = partial(_local, ignored_by=Backend.CLOUD, affects_answer=False)
_waiting = partial(
    option,
    backends=Backend.CLOUD,
    ignored_by=Backend.LLAMA_CPP,
    sent=False,
    affects_answer=False,
)


@with_reference
@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class GenerationOptions(OptionSet):
    """How to answer. None leaves the choice to the model's config, then to the engine or vendor.

    A model that cannot follow an option refuses it with ``UnsupportedError``. Options that only
    llama.cpp has stay at its server's defaults unless they are set.
    """

    max_tokens: int | None = option(
        integer(1, 2**63 - 1),
        "Maximum length of the answer, in tokens.",
        "Without it a local model may go on to the end of its context.",
        flags=("-n", "--max-tokens"),
        suggested=("64", "256", "1024", "4096"),
    )
    temperature: float | None = option(
        _SINGLE,
        "Sampling temperature; 0 always picks the most likely token.",
        flags=("-t", "--temperature"),
        suggested=("0", "0.2", "0.7", "1"),
    )
    top_p: float | None = option(
        _FRACTION,
        "Nucleus sampling: only the tokens that make up this probability.",
        flags=("--top-p",),
        suggested=("0.9", "0.95"),
    )
    top_k: int | None = option(
        integer(0, 2**31 - 1),
        "Only the N most likely tokens; 0 turns it off.",
        flags=("--top-k",),
        backends=Backend.LLAMA_CPP | Backend.SERVERS | Backend.ANTHROPIC | Backend.GEMINI,
    )
    min_p: float | None = _engine(
        _FRACTION,
        "Only tokens at least this likely, relative to the most likely one.",
        flags=("--min-p",),
    )
    repeat_penalty: float | None = _engine(
        number(1e-3, SINGLE_PRECISION),
        "Above 1: fewer repetitions.",
        "The logits of earlier tokens are divided by it.",
        flags=("--repeat-penalty",),
    )
    presence_penalty: float | None = option(
        number(-2, 2),
        "Above 0: penalizes tokens that have already appeared.",
        flags=("--presence-penalty",),
        backends=~(Backend.OPENAI_RESPONSES | Backend.ANTHROPIC),
    )
    frequency_penalty: float | None = option(
        number(-2, 2),
        "Above 0: penalizes tokens by how often they have appeared.",
        flags=("--frequency-penalty",),
        backends=~(Backend.OPENAI_RESPONSES | Backend.ANTHROPIC),
    )
    seed: int | None = option(
        integer(0, 2**63 - 1),
        "Random seed: the same seed gives the same answer, where the engine can promise it.",
        flags=("--seed",),
        suggested=("1",),
        backends=~(Backend.OPENAI_RESPONSES | Backend.ANTHROPIC),
        ignored_by=Backend.OPENAI_RESPONSES | Backend.ANTHROPIC,
    )
    stop: tuple[str, ...] | None = option(
        TEXTS,
        r"End before this text; \n is a new line.",
        flags=("--stop",),
        backends=~Backend.OPENAI_RESPONSES,
    )
    response_schema: Mapping[str, Any] | None = option(
        _JSON, "JSON schema that the answer must follow."
    )
    reasoning_effort: str | None = option(
        made(effort_of, f"{', '.join(EFFORTS)} or a number of tokens", choices=EFFORTS),
        "How much to reason: none, minimal, low, medium, high, xhigh, max or a number of tokens, "
        "as far as the model supports it.",
        flags=("--reasoning-effort",),
        metavar="LEVEL",
    )
    tools: tuple[Tool, ...] | None = option(
        made(_tools, "a list of Tool objects"), "Functions that the model may ask for."
    )
    tool_choice: str | None = option(
        _STRING, "Which tool to call: auto, none, required, or the name of one."
    )
    extra: Mapping[str, Any] | None = option(
        _JSON,
        "Fields that are merged into the body of a vendor's request as they are.",
        backends=Backend.CLOUD,
    )
    logit_bias: tuple[tuple[int | str, float], ...] | None = option(
        made(lambda _, value: biases_of(value), "a mapping of tokens to numbers, or pairs"),
        "Added to the logits of tokens before anything else looks at them; -100 forbids. A token "
        "is an id, or a text, all of whose tokens are meant. A mapping's keys may be ids as texts.",
        backends=Backend.LLAMA_CPP | Backend.SERVERS | Backend.OPENAI_CHAT,
    )
    logprobs: int | None = option(
        integer(0, 100),
        "Return each token's log-probability, and those of the N most likely.",
        flags=("--logprobs",),
        backends=Backend.LLAMA_CPP | Backend.SERVERS | Backend.OPENAI_CHAT,
    )
    typical_p: float | None = _engine(_FRACTION, "Only locally typical tokens; 1 turns it off.")
    top_n_sigma: float | None = _engine(
        _SINGLE,
        "Only tokens within so many standard deviations of the best; 0 turns it off.",
    )
    dynatemp_range: float | None = _engine(
        _SINGLE, "How far the temperature may move either way with the entropy."
    )
    dynatemp_exponent: float | None = _engine(
        _SINGLE, "How the temperature follows the entropy within dynatemp_range."
    )
    xtc_probability: float | None = _engine(
        _FRACTION,
        "How often XTC drops all but the least likely of the tokens above xtc_threshold; 0 turns "
        "it off.",
    )
    xtc_threshold: float | None = _engine(_FRACTION, "The probability above which XTC drops.")
    repeat_last_n: int | None = _engine(
        integer(0, 2**20), "How many tokens back the penalties look."
    )
    dry_multiplier: float | None = _engine(
        _SINGLE,
        "Above 0: DRY sampling against repeated passages.",
        flags=("--dry-multiplier",),
    )
    dry_base: float | None = _engine(
        number(1, SINGLE_PRECISION),
        "DRY subtracts dry_multiplier times this to the power of how much longer than "
        "dry_allowed_length a token would make a repetition.",
    )
    dry_allowed_length: int | None = _engine(
        integer(0, 2**20), "The longest repetition that DRY leaves alone, in tokens."
    )
    dry_sequence_breakers: tuple[str, ...] | None = _engine(
        TEXTS, "Texts at which a repetition ends for DRY."
    )
    mirostat: int | None = _engine(
        integer(0, 2),
        "Mirostat sampling, version 1 or 2.",
        "It takes the place of every other way to narrow the choice.",
        flags=("--mirostat",),
    )
    mirostat_tau: float | None = _engine(_SINGLE, "The surprise that Mirostat aims at.")
    mirostat_eta: float | None = _engine(_FRACTION, "The learning rate of Mirostat.")
    grammar: str | None = _engine(
        _STRING, "GBNF grammar that the answer must follow; its first rule is named root."
    )
    ignore_eos: bool | None = _engine(SWITCH, "Forbid the tokens that end an answer.")
    stop_tokens: tuple[int | str, ...] | None = _engine(
        made(tokens_of, "token ids or their strings"),
        "End at any of these tokens, each an id or the text of one token.",
    )
    priority: Priority | None = _scheduling(
        choice(*get_args(Priority)),
        "While there are interactive requests, which is the default, those in the background are "
        "served with what is left.",
    )
    on_full: OnFull | None = _scheduling(
        choice(*get_args(OnFull)),
        "What happens where the context is full: stop ends the answer, shift drops the older half "
        "of all that is behind the system message, and goes on.",
    )
    prompt_lookup: bool | None = _scheduling(
        SWITCH,
        "False never drafts tokens by what followed their like before; otherwise that is done as "
        "long as it saves time. The answer is the same.",
    )
    raw: bool | None = _local(
        SWITCH,
        "Continue the prompt, a text, without a chat template, as base models do; special tokens "
        "that are written out in it are read as such.",
    )
    stop_repetition: bool | None = _local(
        SWITCH,
        "False lets an answer go on that only repeats itself; otherwise it ends after a few "
        "hundred tokens of that, with FinishReason.REPETITION. An answer that a grammar or a "
        "schema binds, or that must not end by itself (ignore_eos), is ended only where this is "
        "True.",
        ignored_by=Backend.CLOUD,
    )
    adapters: tuple[tuple[str, float], ...] | None = _local(
        ADAPTERS,
        "LoRA adapters that the model was loaded with, each by its path or the name of its file; "
        "for this answer, all others are off.",
        "Without it they have the scales of the load. Requests with the same scales are answered "
        "together, others take turns.",
        flags=("--adapter",),
    )
    prompt_caching: bool | None = option(
        SWITCH,
        "False has Anthropic's models keep nothing of a prompt. Otherwise they keep it for five "
        "minutes, which makes each turn of a long conversation cost a tenth; other vendors keep "
        "prompts without being asked, and local models always do.",
        backends=Backend.ANTHROPIC,
        ignored_by=~Backend.ANTHROPIC,
        affects_answer=False,
    )
    cache: CacheMode | None = option(
        choice(*get_args(CacheMode), bare="on"),
        "Whether an answer that is kept is given out, and a new one kept: on does it at "
        "temperature 0 or with a seed, force always. Without it the manager's cache says so.",
        flags=("--cache",),
        sent=False,
        affects_answer=False,
    )
    connect_timeout: float | None = _waiting(
        _SECONDS, "How many seconds connecting may take; never sent."
    )
    first_token_timeout: float | None = _waiting(
        _SECONDS, "How many seconds the first token may take; never sent."
    )
    stall_timeout: float | None = _waiting(
        _SECONDS,
        "How many seconds each pause after the first token may take; never sent. For local "
        "models, how long their process may give no sign of life, or hang at one thing: 60 if "
        "nothing is said.",
        backends=Backend.EVERY,
        ignored_by=Backend.NONE,
    )
    max_retry_seconds: float | None = _waiting(
        seconds(0, math.inf),
        "For how many seconds after a request began a failure is answered by another attempt; "
        "0 for never. Never sent.",
    )

    def _check_together(self) -> None:
        if self.response_schema is not None and self.grammar is not None:
            raise InvalidOptionError("grammar", "cannot be combined with response_schema; drop one")
