"""The files of a repository as variants of models, and which of them this machine takes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from nbllm.core.downloads import RemoteFile, Variant
from nbllm.core.errors import DownloadError
from nbllm.core.fitting.machine_room import SizeFit
from nbllm.core.texts import shown
from nbllm.core.words import size_words

__all__ = ["Chosen", "Found", "choose", "chosen_companions", "find_variants"]

_PART = re.compile(r"-(\d{5})-of-(\d{5})(?=\.gguf$)", re.IGNORECASE)
_LABEL = re.compile(
    r"(?:^|[-._/])((?:UD-)?(?:I?Q\d[A-Z0-9]*(?:_[A-Z0-9]+)*|TQ\d_\d|MXFP4(?:_MOE)?|NVFP4|BF16|F16|F32))"
    r"(?=[-._/]|$)",
    re.IGNORECASE,
)
_COMPANION = re.compile(r"(?:^|[-._/])(mmproj|draft|eagle\d?|dflash)(?=[-._/]|$)", re.IGNORECASE)
_NO_MODEL = re.compile(r"(?:^|[-._/])(imatrix|lora|adapter|vocab|control-vector)(?=[-._/]|$)", re.I)
_UNQUANTIZED = frozenset({"BF16", "F16", "F32"})
_USUAL = "Q4_K_M"
_LEAST_TOKENS_PER_SECOND = 10.0
"""Slower than this is slower than most people read."""
_MMPROJ_ORDER = ("F16", "BF16", "Q8_0", "F32")
_MOST_LISTED = 20


@dataclass(frozen=True, slots=True)
class Found:
    """Models of a repository by variant, the smallest first, and companion files.

    ``incomplete`` names split models of which parts are missing.
    """

    variants: tuple[Variant, ...]
    companions: tuple[RemoteFile, ...]
    incomplete: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Chosen:
    """All ``variants`` with how they fit, the one that is taken, and a sentence on why."""

    variants: tuple[Variant, ...]
    variant: Variant
    reason: str


def find_variants(files: Iterable[RemoteFile], named: str | None = None) -> Found:
    """The models among the files. Nothing is said yet of how they fit.

    The file that was ``named`` counts as a model, whatever it is.
    """
    groups: dict[str, list[RemoteFile]] = {}
    companions: list[RemoteFile] = []
    for file in files:
        stem = _stem(file.path)
        if file.path == named or not (_NO_MODEL.search(stem) or _COMPANION.search(stem)):
            groups.setdefault(_PART.sub("", file.path), []).append(file)
        elif _COMPANION.search(stem):
            companions.append(file)
    whole = {path: _whole(parts) for path, parts in groups.items()}
    labels = _labels([path for path, parts in whole.items() if parts])
    variants = [
        Variant(label=labels[path], files=parts, memory_bytes=0, fits=False)
        for path, parts in whole.items()
        if parts
    ]
    return Found(
        tuple(sorted(variants, key=lambda each: (each.size_bytes, each.label))),
        tuple(sorted(companions, key=lambda file: file.path)),
        tuple(path for path, parts in whole.items() if not parts),
    )


def _stem(path: str) -> str:
    return _PART.sub("", path)[:-5]


def _whole(parts: list[RemoteFile]) -> tuple[RemoteFile, ...]:
    """The parts in their order; none where one is missing."""
    parts = sorted(parts, key=lambda file: file.path)
    numbers = [found.groups() for file in parts if (found := _PART.search(file.path))]
    if not numbers:
        return tuple(parts[:1])
    count = int(numbers[0][1])
    expected = [(f"{number:05}", f"{count:05}") for number in range(1, count + 1)]
    return tuple(parts) if numbers == expected else ()


def _labels(paths: Sequence[str]) -> dict[str, str]:
    """What each is called: its quantization; its path where that is not told or not unique."""
    labels = {path: _label(path) for path in paths}
    counts = [label.casefold() for label in labels.values()]
    return {
        path: label if label and counts.count(label.casefold()) == 1 else path
        for path, label in labels.items()
    }


def _label(path: str) -> str:
    folder, _, name = _stem(path).rpartition("/")
    found = _LABEL.findall(name) or _LABEL.findall(folder)
    return found[-1].upper() if found else ""


# ---------------------------------------------------------------- which is taken


def choose(
    where: str, found: Found, fits: Sequence[SizeFit], quant: str | None, file: str | None
) -> Chosen:
    """The variant that was asked for, else the best that fits. Raises ``DownloadError``.

    ``fits`` are in the order of ``found.variants``.
    """
    variants = _with_fits(found.variants, fits)
    if not variants:
        raise DownloadError(where, _nothing(found))
    if file is not None:
        return Chosen(variants, _named(where, variants, file), "It was named.")
    if quant is not None:
        return Chosen(variants, _asked(where, variants, quant), f"{quant} was requested.")
    return _best(where, variants)


def _named(where: str, variants: Sequence[Variant], file: str) -> Variant:
    for variant in variants:
        if any(part.path == file for part in variant.files):
            return variant
    raise DownloadError(where, f"it has no complete model {shown(file)}. {_listed(variants)}")


def _with_fits(variants: Sequence[Variant], fits: Sequence[SizeFit]) -> tuple[Variant, ...]:
    """The same variants with what is known of this machine."""
    return tuple(
        replace(
            each,
            memory_bytes=fit.memory_bytes,
            fits=fit.device is not None,
            device=fit.device,
            tokens_per_second=fit.tokens_per_second,
        )
        for each, fit in zip(variants, fits, strict=True)
    )


def _nothing(found: Found) -> str:
    if found.incomplete:
        return f"its model {shown(found.incomplete[0])} is incomplete: parts of it are missing"
    return (
        "it has no GGUF files, and llama.cpp reads no others. Search for a GGUF of it: "
        "https://huggingface.co/models?library=gguf"
    )


def _asked(where: str, variants: Sequence[Variant], quant: str) -> Variant:
    wanted = quant.strip().casefold()
    exact = [each for each in variants if each.label.casefold() == wanted]
    within = [each for each in variants if _is_named(each, wanted)]
    alike = exact or within
    if len(alike) == 1:
        return alike[0]
    problem = "matches several variants" if alike else "matches no variant"
    raise DownloadError(where, f"{shown(quant)} {problem}. {_listed(alike or variants)}")


def _is_named(variant: Variant, wanted: str) -> bool:
    """Whether a word is part of its name, such as ``q4_k_m``, ``q4`` or a file's name."""
    name = variant.files[0].path.casefold()
    return wanted in variant.label.casefold() or wanted in (name, name.rpartition("/")[2])


def _listed(variants: Sequence[Variant]) -> str:
    if not variants:
        return "It has no GGUF models."
    names = [f"{each.label} ({size_words(each.size_bytes)})" for each in variants[:_MOST_LISTED]]
    more = f" and {len(variants) - _MOST_LISTED} more" if len(variants) > _MOST_LISTED else ""
    return f"It has {', '.join(names)}{more}."


def _best(where: str, variants: tuple[Variant, ...]) -> Chosen:
    """The largest that fits and is fast enough; see the reasons for the order of preferences."""
    fitting = [each for each in variants if each.fits]
    if not fitting:
        least = variants[0]
        raise DownloadError(
            where,
            f"nothing of it fits on this machine: its smallest variant, {least.label}, needs about "
            f"{size_words(least.memory_bytes)} of memory. Choose a smaller model, or name "
            f"a variant to download it all the same: --quant {least.label}",
        )
    quantized = [each for each in fitting if each.label not in _UNQUANTIZED] or fitting
    quick = [each for each in quantized if _is_quick(each)]
    if quick:
        best = quick[-1]
        return Chosen(variants, best, f"{_what(best)}: {_why_quick(best, variants)}.")
    usual = [each for each in quantized if each.label == _USUAL] or quantized[:1]
    return Chosen(
        variants,
        usual[0],
        f"{_what(usual[0])}: it fits {_on(usual[0])}. No variant is expected to decode at "
        f"{_LEAST_TOKENS_PER_SECOND:g} tokens/s here{_speed(usual[0])}.",
    )


def _is_quick(variant: Variant) -> bool:
    speed = variant.tokens_per_second
    return speed is None or speed >= _LEAST_TOKENS_PER_SECOND


def _what(variant: Variant) -> str:
    return f"{variant.label} ({size_words(variant.size_bytes)})"


def _on(variant: Variant) -> str:
    return f"on {variant.device}" if variant.device else "on this machine"


def _speed(variant: Variant) -> str:
    speed = variant.tokens_per_second
    return f" (about {speed:,.0f} tokens/s)" if speed else ""


def _why_quick(best: Variant, variants: Sequence[Variant]) -> str:
    """Why none that is larger was taken."""
    larger = variants[variants.index(best) + 1 :]
    if not larger:
        return f"the largest, and it fits {_on(best)}{_speed(best)}"
    after = larger[0]
    if not after.fits:
        what = f"{after.label} needs about {size_words(after.memory_bytes)} of memory"
    elif after.label in _UNQUANTIZED:
        what = f"{after.label} is larger, but hardly better"
    else:
        what = f"{after.label} would be too slow{_speed(after)}"
    return f"the best that fits {_on(best)}{_speed(best)}; {what}"


# ---------------------------------------------------------------- companions


def chosen_companions(found: Found) -> tuple[RemoteFile, ...]:
    """One projector for images and one draft model, of those that there are."""
    mmproj = [each for each in found.companions if "mmproj" in each.path.casefold()]
    drafts = [each for each in found.companions if each not in mmproj]
    return (*sorted(mmproj, key=_mmproj_rank)[:1], *sorted(drafts, key=_size)[:1])


def _mmproj_rank(file: RemoteFile) -> tuple[int, str]:
    label = _label(file.path)
    is_known = label in _MMPROJ_ORDER
    return _MMPROJ_ORDER.index(label) if is_known else len(_MMPROJ_ORDER), file.path


def _size(file: RemoteFile) -> int:
    return file.size_bytes
