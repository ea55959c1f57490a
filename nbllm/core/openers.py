"""How a kind of model is described and opened, by functions imported when first needed.

This is the one seam between the manager and the engines: ``core`` names the modules that know a
kind of model and imports none of them.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

from nbllm.core.errors import ModelNotFoundError
from nbllm.core.fitting.fit_options import Fit
from nbllm.core.hardware.engine_devices import EngineDevices
from nbllm.core.hardware.resources import Resources
from nbllm.core.kinds import kind_of
from nbllm.core.measurements import Benchmark
from nbllm.core.model_interface import ModelInterface
from nbllm.core.placement import Placement
from nbllm.core.quantization import Quantization, Quantized, Tuning
from nbllm.core.types import LoadOptions, ModelInfo
from nbllm.core.vendors import VENDORS

__all__ = [
    "LoadControl",
    "Opener",
    "Planner",
    "complete_entry",
    "describe_file",
    "fit_model",
    "known_vendor_models",
    "make_imatrix",
    "measure_model",
    "open_model",
    "plan_model",
    "plan_quantizations",
    "price_of",
    "quantize_model",
    "quantized_plan",
    "running_models",
    "tune_model",
    "with_servers",
]


@dataclass(frozen=True, slots=True)
class LoadControl:
    """What an opener needs of the one who waits for it.

    ``cancelled`` is set when nobody waits any more: the opener then gives up and cleans up.
    ``progress`` takes the loaded fraction, from 0 to 1; it may be called from any thread.
    ``resources`` is the machine that the entry's placement was decided on, without what other
    loads have reserved; where it is None, the opener looks for itself.
    ``find`` and ``load`` get at other models of the manager by their names: the entry of one, and
    the loaded model, where the second argument is how many seconds it may wait for memory.
    """

    cancelled: threading.Event = field(default_factory=threading.Event)
    progress: Callable[[float], None] = lambda fraction: None
    resources: Resources | None = None
    find: Callable[[str], ModelInfo] = lambda name: _no_other(name)
    load: Callable[[str, float], Awaitable[ModelInterface]] = lambda name, wait: _no_other(name)


def _no_other(name: str) -> NoReturn:
    """There is no manager, and so no other model."""
    raise ModelNotFoundError(name)


Opener: TypeAlias = Callable[[ModelInfo, LoadControl], ModelInterface]
"""Opens a model, blocking; runs in a thread of its own. Raises ``ModelLoadError`` and kin."""

Planner: TypeAlias = Callable[[ModelInfo, Resources], Placement | None]
"""Says where a model would go on a machine, as ``plan_model`` does."""

_ENGINE = "nbllm.local.measuring.dry_runs"
_FILES, _PLANS = "nbllm.local.gguf.shape", "nbllm.local.plans"
_BENCH = "nbllm.local.measuring.bench"
_QUANTIZE = "nbllm.local.jobs.quantize"
_IMATRIX, _TUNE = "nbllm.local.jobs.imatrix", "nbllm.local.jobs.tune"
_PRICES = "nbllm.cloud.prices"
_CLOUD = "nbllm.cloud.cloud_model"
_SERVERS, _RUNNING = "nbllm.cloud.servers", "nbllm.cloud.servers"


def open_model(info: ModelInfo, control: LoadControl) -> ModelInterface:
    """Open any model, by the function of this name in the module that knows its kind."""
    opener: Opener = import_module(kind_of(info).opener).open_model
    return opener(info, control)


def complete_entry(info: ModelInfo) -> ModelInfo:
    """The entry of a model on a server that was named by its address or kind, told by its list.

    Blocks, for seconds at most. Raises ``ModelLoadError`` where the server has several and none
    was named, ``ModelNotFoundError`` where it has not the one that was, and ``ApiError``.
    """
    completed: ModelInfo = import_module(_SERVERS).complete_entry(info)
    return completed


async def running_models() -> list[ModelInfo]:
    """The models of servers that run on this machine; see ``nbllm.cloud.servers``."""
    running: list[ModelInfo] = await import_module(_RUNNING).running_models()
    return running


def plan_model(info: ModelInfo, resources: Resources) -> Placement | None:
    """Where a model goes on a machine with these resources, and what it takes there.

    None for a model of the cloud. The answer comes from the file's header within milliseconds;
    give resources with more free memory to ask what would be if another model were unloaded.

    Raises ``DoesNotFitError`` where it fits nowhere, or not where ``info.load`` wants it,
    ``InvalidOptionError`` where that names a device that is not there, and ``ModelFileError``.
    """
    if not kind_of(info).takes_memory:
        return None
    planner: Planner = import_module(_PLANS).plan_model
    return planner(info, resources)


def fit_model(info: ModelInfo, resources: Resources) -> Fit:
    """Every sensible way to load a local model on a machine with these resources.

    Raises ``ModelFileError``.
    """
    fit: Fit = import_module(_PLANS).fit_model(info, resources)
    return fit


def describe_file(path: Path) -> ModelInfo:
    """What the header of a model file tells. Raises ``ModelFileError``."""
    info: ModelInfo = import_module(_FILES).model_info_from_gguf(path)
    return info


async def measure_model(
    info: ModelInfo,
    resources: Resources,
    *,
    thorough: bool = False,
    progress: Callable[[float], None] = lambda fraction: None,
) -> Benchmark:
    """How fast a local model is on this machine; see ``nbllm.local.measuring.bench``."""
    measure = import_module(_BENCH).measure_model
    found: Benchmark = await measure(info, resources, thorough=thorough, progress=progress)
    return found


def bench_seconds(info: ModelInfo, resources: Resources, *, thorough: bool) -> float:
    """How long ``measure_model`` takes at most; see ``nbllm.local.measuring.bench``."""
    seconds: float = import_module(_BENCH).bench_seconds(info, resources, thorough=thorough)
    return seconds


async def plan_quantizations(
    info: ModelInfo, labels: Sequence[str], *, imatrix: Path | None = None
) -> list[Quantization]:
    """What quantizing would make of a local model; see ``nbllm.local.jobs.quantize``."""
    plan = import_module(_QUANTIZE).plan_quantizations
    plans: list[Quantization] = await plan(info, labels, imatrix=imatrix)
    return plans


async def quantize_model(
    info: ModelInfo, label: str, target: Path, resources: Resources, **settings: Any
) -> Quantized:
    """Quantize a local model's file; see ``nbllm.local.jobs.quantize``."""
    quantize = import_module(_QUANTIZE).quantize_model
    made: Quantized = await quantize(info, label, target, resources, **settings)
    return made


def quantized_plan(info: ModelInfo, plan: Quantization, resources: Resources) -> Placement:
    """Where the model would go if it were quantized; see ``plan_model``."""
    placement: Placement = import_module(_PLANS).quantized_plan(info, plan, resources)
    return placement


async def make_imatrix(
    info: ModelInfo, text: Path, target: Path, resources: Resources, **settings: Any
) -> int:
    """Write the importance matrix of a local model; see ``nbllm.local.jobs.imatrix``."""
    chunks: int = await import_module(_IMATRIX).make_imatrix(
        info, text, target, resources, **settings
    )
    return chunks


async def tune_model(info: ModelInfo, resources: Resources, **settings: Any) -> Tuning:
    """Find the fastest quantization of a local model; see ``nbllm.local.jobs.tune``."""
    tuning: Tuning = await import_module(_TUNE).tune_model(info, resources, **settings)
    return tuning


def known_vendor_models() -> list[str]:
    """Names of vendors' models to suggest: those in the table of prices. Asks no network.

    Raises ``ConfigError`` where the user's own table cannot be read.
    """
    table = import_module(_PRICES).load_prices()
    return [name for vendor in VENDORS for name in table.models.get(vendor, ())]


def price_of(info: ModelInfo) -> tuple[float, float] | None:
    """US dollars for a million tokens read and written; None where the table has no price of it.

    Raises ``ConfigError`` where the user's own table cannot be read.
    """
    price: tuple[float, float] | None = import_module(_CLOUD).price_of(info)
    return price


def with_servers(resources: Resources, options: LoadOptions) -> Resources:
    """The machine with the devices of the RPC servers that the options name.

    Takes about half a second, and some seconds where a server does not answer. Raises
    ``ModelLoadError`` then, and where llama.cpp has no RPC; ``InvalidOptionError`` for a server
    that is not to be trusted.
    """
    found: Resources = import_module(_ENGINE).with_servers("llama.cpp", resources, options)
    return found


def engine_devices() -> EngineDevices | None:
    """What the installed llama.cpp can compute on; None where there is none.

    Takes about half a second when first asked, in a process that ends at once.
    """
    devices: EngineDevices | None = import_module(_ENGINE).engine_devices()
    return devices
