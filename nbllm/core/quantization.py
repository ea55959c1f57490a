"""Quantization of local models: the types, what each takes, and which of them suits a machine."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

from nbllm.core.errors import InvalidOptionError
from nbllm.core.hardware.resources import CpuInfo
from nbllm.core.measurements import ANSWER_TOKENS, PROMPT_TOKENS, Benchmark, read_tuned
from nbllm.core.suggest import did_you_mean
from nbllm.core.types import ModelInfo

__all__ = [
    "NEEDS_IMATRIX",
    "QUANTIZATION_TYPES",
    "Quality",
    "Quantization",
    "Quantized",
    "TunedType",
    "Tuning",
    "best_type",
    "pareto",
    "place_for",
    "quantization_type",
    "target_name",
    "tuned_entry",
]

QUANTIZATION_TYPES = MappingProxyType(
    {
        "F32": 32.0,
        "F16": 16.0,
        "BF16": 16.0,
        "Q8_0": 8.5,
        "Q6_K": 6.56,
        "Q5_1": 6.0,
        "Q5_K_M": 5.67,
        "Q5_K_S": 5.52,
        "Q5_0": 5.5,
        "Q4_1": 5.0,
        "Q4_K_M": 4.83,
        "Q4_K_S": 4.58,
        "Q4_0": 4.5,
        "IQ4_NL": 4.5,
        "IQ4_XS": 4.25,
        "Q3_K_L": 4.03,
        "Q3_K_M": 3.74,
        "IQ3_M": 3.66,
        "Q3_K_S": 3.41,
        "IQ3_S": 3.44,
        "IQ3_XS": 3.3,
        "IQ3_XXS": 3.06,
        "Q2_K": 3.35,
        "IQ2_M": 2.7,
        "IQ2_S": 2.5,
        "Q2_K_S": 2.79,
        "IQ2_XS": 2.31,
        "IQ2_XXS": 2.06,
        "TQ2_0": 2.06,
        "TQ1_0": 1.69,
        "IQ1_M": 1.75,
        "IQ1_S": 1.56,
    }
)
"""What a file can be quantized to, with the bits per weight as llama-quantize lists them."""

NEEDS_IMATRIX = frozenset(
    {"IQ1_M", "IQ1_S", "IQ2_M", "IQ2_S", "IQ2_XS", "IQ2_XXS", "IQ3_XS", "IQ3_XXS", "Q2_K_S"}
)
"""Types with tensors that llama.cpp quantizes with an importance matrix only."""

_FOLDED = {
    **{label.replace("_", ""): label for label in QUANTIZATION_TYPES},
    "FP32": "F32",
    "FP16": "F16",
    "Q2": "Q2_K",
    "Q3": "Q3_K_M",
    "Q4": "Q4_K_M",
    "Q5": "Q5_K_M",
    "Q6": "Q6_K",
    "Q8": "Q8_0",
    "Q3K": "Q3_K_M",
    "Q4K": "Q4_K_M",
    "Q5K": "Q5_K_M",
    "INT8": "Q8_0",
    "8BIT": "Q8_0",
    "INT4": "Q4_K_M",
    "4BIT": "Q4_K_M",
}
"""Types by how they are written without underscores, and by what else they are called."""
_LABEL = re.compile(
    r"[.\-_](?:ud-)?(?:i?q\d+_[a-z0-9]+(?:_[a-z]+)?|tq\d_\d|mxfp4(?:_moe)?|b?f(?:16|32)|fp(?:16|32))$",
    re.IGNORECASE,
)


_PART = re.compile(r"-\d{5}-of-\d{5}$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantization:
    """What quantizing a model to ``label`` makes of it, before or after it was done.

    ``size_bytes`` is the size of the file. ``tensor_types`` has each tensor's new type, such as
    "Q5_0"; ``fallbacks`` counts tensors by what was meant and what they got, where their rows do
    not divide into the blocks of the type.
    """

    label: str
    size_bytes: int
    bits_per_weight: float
    tensor_types: Mapping[str, str] = field(repr=False)
    fallbacks: Mapping[tuple[str, str], int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantized:
    """A model that was quantized: the entry of the new file, and what was made of ``source``."""

    info: ModelInfo
    source: ModelInfo
    quantization: Quantization
    seconds: float

    def __repr__(self) -> str:
        return f"<Quantized {self.source.name!r} to {self.quantization.label}: {self.info.path}>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """How far a model's predictions are from those of the model that it was quantized from.

    Over ``tokens`` tokens of a text: the mean Kullback-Leibler divergence of the next token's
    distribution with its standard error, and the divergence that one token in a thousand exceeds,
    all in nats; and the share of tokens whose likeliest successor is the same.
    """

    tokens: int
    mean_divergence: float
    divergence_error: float
    divergence_999: float
    same_first: float


def quantization_type(word: str) -> str:
    """The label that ``word`` means, such as "Q4_K_M" for "q4_k_m", "Q4_K" or "q4-k-m".

    Raises ``InvalidOptionError`` with the closest ones.
    """
    folded = re.sub(r"[\W_]+", "", word).upper() if isinstance(word, str) else ""
    if folded in _FOLDED:
        return _FOLDED[folded]
    hint = did_you_mean(folded, QUANTIZATION_TYPES)
    raise InvalidOptionError(
        "type",
        f"{str(word)[:40]!r} is not a quantization type.{hint} "
        f"The types are {', '.join(QUANTIZATION_TYPES)}",
    )


def target_name(source: Path, label: str) -> str:
    """What the quantized file is called: the source's name with its type replaced."""
    stem = _PART.sub("", source.stem)
    return f"{_LABEL.sub('', stem) or stem}.{label}.gguf"


def place_for(source: ModelInfo, label: str, to: Path | None) -> Path:
    """Where the quantized file goes: ``to``, in the folder ``to``, or beside the source.

    A source that belongs to an installed package is not written beside: the current folder is
    used. Raises ``InvalidOptionError`` for a place that cannot be one.
    """
    path = source.path or Path(source.name)
    name = target_name(path, label)
    if to is None:
        target = (Path.cwd() if source.source == "bundled" else path.parent) / name
    elif to.is_dir():
        target = to / name
    elif to.suffix.lower() != ".gguf":
        raise InvalidOptionError("to", f"{to} is neither a folder nor the name of a .gguf file")
    elif _PART.search(to.stem):
        problem = f"{to.name} is the name of a part of a split model, and the new model is one file"
        raise InvalidOptionError("to", f"{problem}; name it {_PART.sub('', to.stem)}.gguf")
    else:
        target = to
    return target.absolute()


@dataclass(frozen=True, slots=True, kw_only=True)
class TunedType:
    """One quantization as it was measured; of the source itself ``quality`` is None.

    Speeds are in tokens a second: prefill of one prompt, decode of one answer.
    """

    label: str
    size_bytes: int
    bits_per_weight: float
    quality: Quality | None
    benchmark: Benchmark

    @property
    def prefill(self) -> float:
        """The fastest of the thread counts."""
        return self._fastest("prefill")

    @property
    def decode(self) -> float:
        """The fastest of the thread counts."""
        return self._fastest("decode")

    @property
    def request_seconds(self) -> float:
        """The time of a request of ``PROMPT_TOKENS`` and ``ANSWER_TOKENS``."""
        return PROMPT_TOKENS / self.prefill + ANSWER_TOKENS / self.decode

    @property
    def changed(self) -> float:
        """The share of tokens whose likeliest successor is another than the source's."""
        return 1 - self.quality.same_first if self.quality else 0.0

    @property
    def divergence(self) -> float:
        """The mean divergence from the source, in nats."""
        return self.quality.mean_divergence if self.quality else 0.0

    def _fastest(self, kind: str) -> float:
        rows = self.benchmark.measured
        return max(row.tokens_per_second for row in rows if row.kind == kind and row.sequences == 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """What was measured of a model's quantizations, the source first, and what was chosen.

    ``best`` is the fastest type that changes at most the share ``max_changed`` of the likeliest
    tokens, the source where none is faster. ``path`` is the file that later loads use; where the
    measurement was ``noisy`` nothing was kept, and it is the model's own.
    """

    info: ModelInfo
    types: tuple[TunedType, ...]
    max_changed: float
    best: TunedType
    path: Path
    noisy: bool

    @property
    def source(self) -> TunedType:
        """The model as it was."""
        return self.types[0]

    def __repr__(self) -> str:
        return f"<Tuning of {self.info.name!r}: {self.best.label} of {len(self.types)} types>"


def best_type(types: Sequence[TunedType], max_changed: float) -> TunedType:
    """The fastest within the rule; the first, the source, is always within it."""
    able = [row for row in types if row.changed <= max_changed]
    return min(able, key=lambda row: row.request_seconds)


def pareto(types: Sequence[TunedType]) -> list[TunedType]:
    """Those that no other one is both faster and nearer to the source than."""
    return [
        row
        for row in types
        if not any(
            other.request_seconds < row.request_seconds and other.divergence < row.divergence
            for other in types
        )
    ]


def tuned_entry(info: ModelInfo, cpu: CpuInfo) -> ModelInfo:
    """The entry with the file that ``%llm_tune`` chose for it on this machine, if it did."""
    if info.path is None:
        return info
    tuned = read_tuned(info.path, cpu)
    if tuned is None:
        return info
    return replace(
        info,
        path=tuned.path,
        quantization=tuned.label.lower(),
        size_bytes=tuned.size_bytes,
        tuned_from=info.path,
    )
