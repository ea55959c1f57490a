"""What was measured of a model on this machine, and the settings that came out best.

``%llm_bench`` measures; later loads of the same file on the same machine use what it found. It is
kept in one JSON file in the user's cache folder, written by a benchmark alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from nbllm.core import saved_files
from nbllm.core.hardware.resources import CpuInfo
from nbllm.core.paths import read_text
from nbllm.core.placement import ContextSettings, ThreadCounts

__all__ = [
    "ANSWER_TOKENS",
    "PROMPT_TOKENS",
    "Benchmark",
    "ContextMeasurement",
    "Measurement",
    "MeasurementKind",
    "Tuned",
    "best_context",
    "best_threads",
    "forget_tuned",
    "has_tuned",
    "machine_key",
    "model_key",
    "read_context",
    "read_threads",
    "read_tuned",
    "store_file",
    "tuned_folder",
    "write_measured",
    "write_tuned",
]

MeasurementKind: TypeAlias = Literal["prefill", "decode"]
"""Whether a speed is that of processing a prompt or that of generating tokens."""

_VERSION = 1
_NOISE = 1.02  # a count of threads that is faster by less is taken for as fast
_CONTEXT_NOISE = 1.05  # the same of settings, which a quick benchmark measures once

PROMPT_TOKENS, ANSWER_TOKENS = 512, 256
"""The request by whose time settings of a context, and quantization types, are compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One speed, in tokens a second: the median of several runs.

    ``kind`` is "prefill", where ``batch`` tokens of a prompt were processed at a time, or
    "decode", where ``sequences`` answers grew together; the speed is that of all of them.
    """

    kind: MeasurementKind
    threads: int
    batch: int
    sequences: int
    tokens_per_second: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextMeasurement:
    """The speeds with ``settings``, in tokens a second, as medians of several runs.

    ``prefill`` is that of a prompt of ``behind`` tokens, and ``decode`` that of an answer behind
    it, each with the thread count that is fastest for it.
    """

    settings: ContextSettings
    behind: int
    prefill: float
    decode: float

    @property
    def request_seconds(self) -> float:
        """The time of a request of ``PROMPT_TOKENS`` and ``ANSWER_TOKENS``."""
        return PROMPT_TOKENS / self.prefill + ANSWER_TOKENS / self.decode


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuned:
    """The file that loads of a model use in place of its own, in the quantization ``label``."""

    label: str
    path: Path
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """All that was measured of a model at one time.

    ``other_cores`` is how many processors everything else on the machine kept busy meanwhile.
    Where that is much the speeds are ``noisy``: fewer threads seem to be faster than they are, so
    later loads do not go by them. Nor do they where other devices than the CPU took part;
    ``device`` is that of the model's placement. ``contexts`` compares the settings of a context
    where the load left them open.
    """

    measured: tuple[Measurement, ...]
    other_cores: float
    noisy: bool
    device: str = "CPU"
    contexts: tuple[ContextMeasurement, ...] = ()

    @property
    def threads(self) -> ThreadCounts:
        """The fastest counts."""
        return best_threads(self.measured)

    @property
    def context(self) -> ContextSettings | None:
        """The settings with which a request takes the least time; None where none were compared."""
        return best_context(self.contexts)


def best_threads(measured: Iterable[Measurement]) -> ThreadCounts:
    """The fastest thread counts for one answer; of counts that are as fast, the least.

    Raises ``ValueError`` where a kind was not measured.
    """
    rows = list(measured)
    alone = [row for row in rows if row.sequences == 1]
    decode, batch = (
        _fastest([row for row in alone if row.kind == kind]) for kind in ("decode", "prefill")
    )
    return ThreadCounts(decode, batch)


def best_context(measured: Sequence[ContextMeasurement]) -> ContextSettings | None:
    """The settings of the shortest request; of those that take as long, the first."""
    least = min((row.request_seconds for row in measured), default=0.0)
    able = (row.settings for row in measured if row.request_seconds <= least * _CONTEXT_NOISE)
    return next(able, None)


def _fastest(rows: list[Measurement]) -> int:
    speed = max(row.tokens_per_second for row in rows)
    return min(row.threads for row in rows if row.tokens_per_second * _NOISE >= speed)


# ---------------------------------------------------------------- the store


def machine_key(cpu: CpuInfo) -> str:
    """What the speeds depend on besides the model."""
    return f"{cpu.model or cpu.architecture}, {cpu.usable_cores:g} of {cpu.logical_cores} cores"


def model_key(path: Path) -> str:
    """A file's name and size: enough to tell models and quantizations apart, and free to ask."""
    return f"{path.name}, {path.stat().st_size} bytes"


def store_file() -> Path:
    """Where settings are kept: a file in the user's cache folder."""
    from platformdirs import user_cache_path

    return user_cache_path("nbllm") / "measured.json"


def read_threads(path: Path, cpu: CpuInfo, *, file: Path | None = None) -> ThreadCounts | None:
    """The thread counts found earlier for the model at ``path`` on this machine, if any.

    What cannot be read counts as not measured: the counts only make a model faster.
    """
    best = _mapping(_found(path, cpu, file).get("best"))
    try:
        return ThreadCounts(_count(best["decode"]), _count(best["batch"]))
    except (KeyError, ValueError):
        return None


def read_context(path: Path, cpu: CpuInfo, *, file: Path | None = None) -> ContextSettings | None:
    """The settings of a context that were found fastest, as ``read_threads`` finds the counts."""
    best = _mapping(_found(path, cpu, file).get("context"))
    try:
        return ContextSettings(best["flash_attention"] is True, _count(best["batch_tokens"]))
    except (KeyError, ValueError):
        return None


def write_measured(path: Path, cpu: CpuInfo, found: Benchmark, *, file: Path | None = None) -> None:
    """Keep what was measured of the model at ``path``.

    A noisy result is kept as such, beside the one that loads go by. What other processes measured
    meanwhile stays. Raises ``OSError``.
    """
    rows: dict[str, Any] = {"measured": [asdict(row) for row in found.measured]}
    if found.contexts:
        rows["contexts"] = [_context_row(row) for row in found.contexts]
    if found.noisy:
        _change(path, cpu, {"noisy": {**rows, "other_cores": found.other_cores}}, file=file)
        return
    best: dict[str, Any] = {"best": found.threads._asdict()}
    if found.context is not None:
        best["context"] = found.context._asdict()
    _change(path, cpu, {**best, **rows, "noisy": None}, file=file)


def _context_row(row: ContextMeasurement) -> dict[str, Any]:
    return {**asdict(row), "settings": row.settings._asdict()}


def tuned_folder() -> Path:
    """Where files are kept that loads use in place of a model's own."""
    from platformdirs import user_cache_path

    return user_cache_path("nbllm") / "tuned"


def has_tuned(path: Path, *, file: Path | None = None) -> bool:
    """Whether loads of the model at ``path`` use another file on some machine."""
    return any("tuned" in _entry(models, path) for models in _stored(file).values())


def read_tuned(path: Path, cpu: CpuInfo, *, file: Path | None = None) -> Tuned | None:
    """The file to load in place of ``path`` on this machine, if it is there as it was written."""
    try:
        tuned = _found(path, cpu, file)["tuned"]
        found = Tuned(
            label=str(tuned["label"]),
            path=Path(str(tuned["path"])),
            size_bytes=_count(tuned["size_bytes"]),
        )
        is_there = found.path.stat().st_size == found.size_bytes
    except (OSError, KeyError, TypeError, ValueError):
        return None
    return found if is_there else None


def write_tuned(path: Path, cpu: CpuInfo, tuned: Tuned | None, *, file: Path | None = None) -> None:
    """Have later loads of ``path`` use another file; None takes that back. Raises ``OSError``."""
    row = tuned and {"label": tuned.label, "path": str(tuned.path), "size_bytes": tuned.size_bytes}
    _change(path, cpu, {"tuned": row}, file=file)


def forget_tuned(path: Path, cpu: CpuInfo, *, file: Path | None = None) -> bool:
    """Have loads of ``path`` use it again, and remove what they used; whether they did."""
    tuned = read_tuned(path, cpu, file=file)
    if tuned is None:
        return False
    write_tuned(path, cpu, None, file=file)
    if tuned.path.is_relative_to(tuned_folder()):
        tuned.path.unlink()
    return True


def _change(path: Path, cpu: CpuInfo, values: Mapping[str, Any], *, file: Path | None) -> None:
    """Set values of a model's entry, take out those that are None; the rest stays."""
    machine, model = machine_key(cpu), model_key(path)

    def changed(text: str | None) -> str:
        try:
            machines = _machines(text or "")
        except (TypeError, ValueError, KeyError):
            machines = {}
        models = dict(_mapping(machines.get(machine)))
        entry = {**_mapping(models.get(model)), **values}
        models[model] = {key: value for key, value in entry.items() if value is not None}
        content = {"version": _VERSION, "machines": {**machines, machine: models}}
        return json.dumps(content, indent=1)

    saved_files.update(file or store_file(), changed)


def _stored(file: Path | None) -> Mapping[str, Mapping[str, Any]]:
    """What is stored, by machine; what cannot be read counts as nothing."""
    try:
        return _machines(read_text(file or store_file(), saved_files.MOST_BYTES))
    except (OSError, KeyError, TypeError, ValueError):
        return {}


def _found(path: Path, cpu: CpuInfo, file: Path | None) -> Mapping[str, Any]:
    """What is stored of a model on this machine; nothing where that cannot be read."""
    return _entry(_stored(file).get(machine_key(cpu)), path)


def _entry(models: object, path: Path) -> Mapping[str, Any]:
    try:
        return _mapping(_mapping(models).get(model_key(path)))
    except OSError:
        return {}


def _mapping(value: object) -> Mapping[str, Any]:
    """What may have been damaged counts as nothing."""
    return value if isinstance(value, Mapping) else {}


def _machines(text: str) -> dict[str, Mapping[str, Any]]:
    content = json.loads(text)
    if content["version"] != _VERSION:
        raise ValueError(f"version {content['version']} is unknown")
    return dict(content["machines"])


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{value!r} is not a number of 1 or more")
    return value
