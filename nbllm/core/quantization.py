"""Quantization of local models: the types, what each would take, and what came of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from nbllm.core.errors import InvalidOptionError
from nbllm.core.suggest import did_you_mean
from nbllm.core.types import ModelInfo

__all__ = [
    "NEEDS_IMATRIX",
    "QUANTIZATION_TYPES",
    "Quality",
    "Quantization",
    "Quantized",
    "place_for",
    "quantization_type",
    "target_name",
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
    folded = re.sub(r"[\W_]+", "", word).upper()
    if folded in _FOLDED:
        return _FOLDED[folded]
    hint = did_you_mean(folded, QUANTIZATION_TYPES)
    raise InvalidOptionError(
        "type",
        f"{word[:40]!r} is not a quantization type.{hint} "
        f"The types are {', '.join(QUANTIZATION_TYPES)}",
    )


def target_name(source: Path, label: str) -> str:
    """What the quantized file is called: the source's name with its type replaced."""
    stem = re.sub(r"-\d{5}-of-\d{5}$", "", source.stem)
    return f"{_LABEL.sub('', stem) or stem}.{label}.gguf"


def place_for(source: ModelInfo, label: str, to: Path | None) -> Path:
    """Where the quantized file goes: ``to``, in the folder ``to``, or beside the source.

    A source that belongs to an installed package is not written beside: the current folder is
    used. Raises ``InvalidOptionError`` for a place that cannot be one.
    """
    if source.path is None:
        raise InvalidOptionError("model", f"{source.name} is not a local model; name one that is")
    name = target_name(source.path, label)
    if to is None:
        target = (Path.cwd() if source.source == "bundled" else source.path.parent) / name
    elif to.is_dir():
        target = to / name
    elif to.suffix.lower() != ".gguf":
        raise InvalidOptionError("to", f"{to} is neither a folder nor the name of a .gguf file")
    else:
        target = to
    if not target.parent.is_dir():
        raise InvalidOptionError("to", f"the folder {target.parent} does not exist; create it")
    return target.absolute()
