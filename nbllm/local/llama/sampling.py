"""How the next token is chosen, wholly by llama.cpp's samplers.

Their order is that of its own programs: biases, penalties, DRY, top-n-sigma, top-k, typical,
top-p, min-p, XTC, temperature, draw. Mirostat replaces all from top-n-sigma on but the temperature,
and temperature 0 takes the likeliest token in place of all of them.
"""

from __future__ import annotations

import ctypes
import math
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import starmap
from typing import TYPE_CHECKING, Any

import llama_cpp.llama_cpp as lib
import numpy as np
from numpy.typing import NDArray

from nbllm.core.texts import shown
from nbllm.local.ipc.events import LogprobRecord
from nbllm.local.llama.grammar import Candidates, Grammar, grammar_text
from nbllm.local.llama.vocabulary import Vocabulary
from nbllm.local.reading.output_format import OutputFormat
from nbllm.local.request_refusals import RefusedOptionError

if TYPE_CHECKING:
    from nbllm.local.llama.native import NativeModel

__all__ = ["DEFAULTS", "Sampler"]

DEFAULTS: Mapping[str, Any] = {
    "temperature": 0.8,
    "dynatemp_range": 0.0,
    "dynatemp_exponent": 1.0,
    "top_k": 40,
    "top_p": 0.95,
    "min_p": 0.05,
    "typical_p": 1.0,
    "top_n_sigma": 0.0,
    "xtc_probability": 0.0,
    "xtc_threshold": 0.1,
    "repeat_last_n": 64,
    "repeat_penalty": 1.0,
    "frequency_penalty": 0.0,
    "presence_penalty": 0.0,
    "dry_multiplier": 0.0,
    "dry_base": 1.75,
    "dry_allowed_length": 2,
    "dry_sequence_breakers": ("\n", ":", '"', "*"),
    "mirostat": 0,
    "mirostat_tau": 5.0,
    "mirostat_eta": 0.1,
}
"""llama.cpp's own values."""

_SEEDS = 2**32 - 1  # llama.cpp takes the highest 32-bit number for "any seed"
_MIROSTAT_SAMPLE = 100  # what llama.cpp's programs estimate from; the paper's m
_LIKELIEST = 512
"""How many tokens are tried against a grammar before all are. Trying one takes about 1 µs."""


class Sampler:
    """Chooses the tokens of one answer; ``seed`` is the one it draws with.

    ``form`` is that of the answer, whose reasoning no schema binds.
    ``logprobs`` records the log-probabilities where they are asked for; ``stop_tokens`` end the
    answer besides those of the vocabulary. Raises ``ValueError`` for options that no sampler
    can follow.
    """

    def __init__(
        self,
        options: Mapping[str, Any],
        model: NativeModel,
        prompt: Sequence[int],
        form: OutputFormat = OutputFormat(),  # noqa: B008 - a value
    ) -> None:
        vocabulary = model.vocabulary
        self._model = model
        self._values = {**DEFAULTS, **options}
        self.seed = int(options.get("seed", secrets.randbelow(_SEEDS))) % _SEEDS
        self.stop_tokens = frozenset(_stop_tokens(options.get("stop_tokens", ()), vocabulary))
        top = options.get("logprobs")
        self.logprobs = None if top is None else Logprobs(vocabulary, top)
        text = grammar_text(options, form)
        if text is not None and (options.get("ignore_eos") or not vocabulary.ends):
            raise RefusedOptionError(
                "ignore_eos", "cannot be combined with a grammar or schema; drop one"
            )
        biases = _biases(options, vocabulary)
        with ExitStack() as made:  # what llama.cpp has made is freed where a later part fails
            self._grammar = None if text is None else Grammar(text, vocabulary)
            self._shape = _chain(_shaping(self._values, biases, vocabulary, prompt))
            made.callback(lib.llama_sampler_free, self._shape)
            self._choice = _chain(_choosing(self._values, vocabulary, self.seed))
            made.pop_all()
        self._whole = _chain([self._shape, self._choice])
        self._is_shaped = lib.llama_sampler_chain_n(self._shape) > 0
        self._is_greedy = self._values["temperature"] == 0

    def close(self) -> None:
        """Free the samplers."""
        lib.llama_sampler_free(self._whole)

    def choose(self, row: int) -> int:
        """The token behind ``row`` of the batch that was decoded last.

        It counts as written from now on. Where a grammar leaves nothing to write, the answer ends.
        Raises ``GrammarError`` where a grammar is too ambiguous.
        """
        logits = self._model.logits(row)
        token = self._drawn(logits, row) if self._grammar is None else self._following(logits)
        if self.logprobs is not None:
            self.logprobs.add(logits, token)
        return token

    def _drawn(self, logits: NDArray[np.float32], row: int) -> int:
        if self._is_greedy and not self._is_shaped:
            return int(logits.argmax())  # a tenth of a greedy sampler's time
        return self._model.sample(self._whole, row)

    # ------------------------------------------------------------ grammars

    def _following(self, logits: NDArray[np.float32]) -> int:
        """A token that the grammar allows.

        As in llama.cpp's programs, one is drawn freely first, and only if it is not allowed a
        second time from those that are: trying all tokens costs as much as half a step of a small
        model. A seed gives the same answer each time, though not the one of its first draws alone.
        """
        assert self._grammar is not None  # noqa: S101 - for the type checker
        token = self._free_draw(logits)
        if not self._grammar.allows(token):
            again = self._allowed_draw(logits, self._grammar)
            if again is None:
                return self._model.vocabulary.ends[0]
            token = again
        self._grammar.accept(token)
        lib.llama_sampler_accept(self._whole, token)
        return token

    def _free_draw(self, logits: NDArray[np.float32]) -> int:
        if self._is_greedy and not self._is_shaped:
            return int(logits.argmax())
        token = self._shaped(logits).apply(self._choice)
        assert token is not None  # noqa: S101 - the last link of the chain always chooses
        return token

    def _shaped(self, logits: NDArray[np.float32]) -> Candidates:
        candidates = Candidates(np.arange(len(logits), dtype=np.int32), logits)
        if self._is_shaped:
            candidates.apply(self._shape)
        return candidates

    def _allowed_draw(self, logits: NDArray[np.float32], grammar: Grammar) -> int | None:
        shaped = self._shaped(logits).logits
        count = min(_LIKELIEST, len(shaped))
        ids = np.argpartition(shaped, -count)[-count:].astype(np.int32)
        ids = ids[grammar.allowed(ids) & np.isfinite(shaped[ids])]
        if not self._suffices(len(ids)):
            ids = grammar.all_allowed()
            ids = ids[np.isfinite(shaped[ids])]
        return Candidates(ids, shaped[ids]).apply(self._choice) if len(ids) else None

    def _suffices(self, count: int) -> bool:
        """Whether the choice out of so many of the likeliest is the choice out of all."""
        values = self._values
        if self._is_greedy:
            return count > 0
        cuts_first = values["top_k"] and not values["mirostat"] and not values["top_n_sigma"]
        return bool(cuts_first) and count >= values["top_k"]


def _chain(links: Iterable[Any]) -> Any:
    params = lib.llama_sampler_chain_default_params()
    params.no_perf = True
    chain = lib.llama_sampler_chain_init(params)
    try:
        for link in links:
            lib.llama_sampler_chain_add(chain, link)
    except BaseException:
        lib.llama_sampler_free(chain)
        raise
    return chain


def _shaping(
    values: Mapping[str, Any],
    biases: Sequence[tuple[int, float]],
    vocabulary: Vocabulary,
    prompt: Sequence[int],
) -> Iterator[Any]:
    """What changes logits by the tokens before; the end of the prompt counts among them."""
    if biases:
        pairs = (lib.llama_logit_bias * len(biases))(*starmap(lib.llama_logit_bias, biases))
        yield lib.llama_sampler_init_logit_bias(vocabulary.size, len(biases), pairs)
    window = values["repeat_last_n"]
    recent = prompt[-window:] if window else ()
    penalties = [values[f"{kind}_penalty"] for kind in ("repeat", "frequency", "presence")]
    if recent and penalties != [1.0, 0.0, 0.0]:
        link = lib.llama_sampler_init_penalties(vocabulary.size, window, *penalties)
        yield _told(link, recent)
    if recent and values["dry_multiplier"]:
        yield _told(_dry(values, vocabulary), recent)


def _dry(values: Mapping[str, Any], vocabulary: Vocabulary) -> Any:
    breakers = [text.encode() for text in values["dry_sequence_breakers"]]
    return lib.llama_sampler_init_dry(
        vocabulary.raw,
        values["dry_multiplier"],
        values["dry_base"],
        values["dry_allowed_length"],
        values["repeat_last_n"],
        (ctypes.c_char_p * len(breakers))(*breakers),
        len(breakers),
    )


def _told(link: Any, tokens: Sequence[int]) -> Any:
    for token in tokens:
        lib.llama_sampler_accept(link, token)
    return link


def _choosing(values: Mapping[str, Any], vocabulary: Vocabulary, seed: int) -> Iterator[Any]:
    """What narrows the choice and makes it."""
    if values["temperature"] == 0:
        yield lib.llama_sampler_init_greedy()
        return
    if values["mirostat"]:
        yield lib.llama_sampler_init_temp(values["temperature"])
        yield _mirostat(values, vocabulary, seed)
        return
    if values["top_n_sigma"] > 0:
        yield lib.llama_sampler_init_top_n_sigma(values["top_n_sigma"])
    if values["top_k"] > 0:
        yield lib.llama_sampler_init_top_k(int(values["top_k"]))
    if values["typical_p"] < 1:
        yield lib.llama_sampler_init_typical(values["typical_p"], 1)
    if values["top_p"] < 1:
        yield lib.llama_sampler_init_top_p(values["top_p"], 1)
    if values["min_p"] > 0:
        yield lib.llama_sampler_init_min_p(values["min_p"], 1)
    if values["xtc_probability"] > 0:
        xtc = values["xtc_probability"], values["xtc_threshold"]
        yield lib.llama_sampler_init_xtc(*xtc, 1, seed)
    heat = values["temperature"], values["dynatemp_range"], values["dynatemp_exponent"]
    yield lib.llama_sampler_init_temp_ext(*heat)
    yield lib.llama_sampler_init_dist(seed)


def _mirostat(values: Mapping[str, Any], vocabulary: Vocabulary, seed: int) -> Any:
    tau, eta = values["mirostat_tau"], values["mirostat_eta"]
    if values["mirostat"] == 1:
        return lib.llama_sampler_init_mirostat(vocabulary.size, seed, tau, eta, _MIROSTAT_SAMPLE)
    return lib.llama_sampler_init_mirostat_v2(seed, tau, eta)


def _biases(options: Mapping[str, Any], vocabulary: Vocabulary) -> list[tuple[int, float]]:
    biases = [
        (token, bias)
        for wanted, bias in options.get("logit_bias", ())
        for token in _tokens_of("logit_bias", wanted, vocabulary)
    ]
    forbidden = [*vocabulary.suppressed, *(vocabulary.ends if options.get("ignore_eos") else ())]
    return biases + [(token, -np.inf) for token in forbidden]


def _stop_tokens(wanted: Iterable[int | str], vocabulary: Vocabulary) -> Iterator[int]:
    for value in wanted:
        tokens = _tokens_of("stop_tokens", value, vocabulary)
        if len(tokens) != 1:
            raise RefusedOptionError(
                "stop_tokens",
                f"{shown(value)} is {len(tokens)} tokens in this model, not one; use "
                "stop, which accepts any string",
            )
        yield tokens[0]


def _tokens_of(option: str, value: int | str, vocabulary: Vocabulary) -> list[int]:
    """A token by its id, or the tokens of a text."""
    if isinstance(value, str):
        return vocabulary.tokenize(value, add_special=False, parse_special=True)
    if value not in vocabulary:
        problem = f"{value} is not a token id of this model (0 to {vocabulary.size - 1:,})"
        raise RefusedOptionError(option, problem)
    return [value]


class Logprobs:
    """Collects a record for each token: itself and the ``top`` likeliest, each with its bytes.

    The probabilities are the model's own: the softmax of the logits before any sampler, bias or
    grammar changes them, as in llama.cpp's server. ``records`` is sent with the answer's end.
    """

    def __init__(self, vocabulary: Vocabulary, top: int) -> None:
        self._vocabulary = vocabulary
        self._top = min(top, vocabulary.size)
        self.records: list[LogprobRecord] = []

    def add(self, logits: NDArray[np.float32], token: int) -> None:
        """Note that ``token`` was chosen where the model said ``logits``."""
        highest = logits.max()
        total = float(highest) + float(np.log(np.exp(logits - highest, dtype=np.float64).sum()))
        likeliest = np.argpartition(logits, -self._top)[-self._top :] if self._top else ()
        ranked = sorted(map(int, likeliest), key=lambda other: (-logits[other], other))
        top = [self._entry(other, float(logits[other]) - total) for other in ranked]
        self.records.append(LogprobRecord(*self._entry(token, float(logits[token]) - total), top))

    def _entry(self, token: int, logprob: float) -> tuple[bytes, float | None]:
        return self._vocabulary.text(token), logprob if math.isfinite(logprob) else None
