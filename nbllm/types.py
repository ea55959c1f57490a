"""The types of what nbllm's public functions and methods take and return, for annotations.

What is constructed in everyday code (``Message``, ``GenerationOptions``, ``LoadOptions``, …) can be
imported from ``nbllm`` too. Errors are in ``nbllm.errors``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nbllm.batches.batch import Batch
from nbllm.batches.batch_rows import BatchProgress, BatchRow, BatchTick
from nbllm.core import types as _types
from nbllm.core.budgets.budget import Amount, Budget, Per, Unit
from nbllm.core.budgets.budgets import Budgets, BudgetStatus
from nbllm.core.caching.answer_stores import CachedAnswer, CacheStore
from nbllm.core.caching.cache import ResultCache
from nbllm.core.catalogue.listing import Listing
from nbllm.core.downloads import (
    Deletion,
    PullPhase,
    PullPlan,
    PullProgress,
    PullReport,
    RemoteFile,
    Variant,
)
from nbllm.core.generation import Generation, Phase
from nbllm.core.hardware.engine_devices import EngineDevice, EngineDevices
from nbllm.core.hardware.machine import Machine, MachineMemory, Processors
from nbllm.core.hardware.resource_sample import CpuLoad, GpuSample, ResourceSample
from nbllm.core.hardware.resources import (
    CpuInfo,
    GpuFindings,
    GpuInfo,
    GpuProcess,
    GpuSource,
    MemoryInfo,
    Resources,
)
from nbllm.core.history import GenerationLog, GenerationRecord
from nbllm.core.layers.activity import Activity
from nbllm.core.layers.layer import Events, Layer, Next, Place
from nbllm.core.loading.model_loads import ModelState, ModelStatus, Progress
from nbllm.core.loading.model_registry import Survey
from nbllm.core.manager_events import EventKind, Listener, ManagerEvent
from nbllm.core.measurements import (
    Benchmark,
    ContextMeasurement,
    Measurement,
    MeasurementKind,
)
from nbllm.core.openers import LoadControl, Opener, Planner
from nbllm.core.options import CacheMode, OnFull, Priority
from nbllm.core.placement import ContextSettings, KvType, MemoryParts, Placement, ThreadCounts
from nbllm.core.quantization import Quality, Quantization, Quantized, TunedType, Tuning
from nbllm.core.routing.health import HealthState
from nbllm.core.routing.members import MemberReport
from nbllm.core.routing.route import Route, RouteTry
from nbllm.core.routing.router_settings import (
    MemberPrice,
    RouterMember,
    RouterSettings,
    Strategy,
)
from nbllm.core.runs import Run, VendorBatch, VendorBatches, VendorOutcome, VendorRow
from nbllm.core.schemas.answer_schemas import AnswerSchema
from nbllm.core.schemas.decision_questions import Question
from nbllm.core.types import *  # noqa: F403 - the list of these types is kept there
from nbllm.notebook.loaded_model import AnswerStream, Chat, LoadedModel

if TYPE_CHECKING:
    from nbllm.notebook.dashboard.board import Dashboard as Dashboard

__all__ = [
    *_types.__all__,
    "Strategy",
    "RouterSettings",
    "RouterMember",
    "RouteTry",
    "Route",
    "MemberReport",
    "MemberPrice",
    "HealthState",
    "Activity",
    "Amount",
    "AnswerSchema",
    "AnswerStream",
    "Batch",
    "BatchProgress",
    "BatchRow",
    "BatchTick",
    "Benchmark",
    "Budget",
    "BudgetStatus",
    "Budgets",
    "CacheMode",
    "CacheStore",
    "CachedAnswer",
    "Chat",
    "CpuInfo",
    "CpuLoad",
    "Dashboard",
    "Deletion",
    "EngineDevice",
    "EngineDevices",
    "EventKind",
    "Events",
    "Generation",
    "GenerationLog",
    "GenerationRecord",
    "GpuFindings",
    "GpuInfo",
    "GpuProcess",
    "GpuSample",
    "GpuSource",
    "KvType",
    "Layer",
    "Listener",
    "Listing",
    "LoadControl",
    "LoadedModel",
    "Machine",
    "MachineMemory",
    "ManagerEvent",
    "ContextMeasurement",
    "ContextSettings",
    "Measurement",
    "MeasurementKind",
    "MemoryInfo",
    "MemoryParts",
    "ModelState",
    "ModelStatus",
    "Next",
    "OnFull",
    "Opener",
    "Per",
    "Phase",
    "Place",
    "Placement",
    "Planner",
    "Priority",
    "Processors",
    "Progress",
    "PullPhase",
    "PullPlan",
    "PullProgress",
    "PullReport",
    "Quality",
    "Quantization",
    "Quantized",
    "Question",
    "RemoteFile",
    "ResourceSample",
    "Resources",
    "ResultCache",
    "Run",
    "Survey",
    "ThreadCounts",
    "TunedType",
    "Tuning",
    "Unit",
    "Variant",
    "VendorBatch",
    "VendorBatches",
    "VendorOutcome",
    "VendorRow",
]


def __getattr__(name: str) -> Any:
    if name != "Dashboard":  # which needs ipywidgets
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from nbllm.notebook.dashboard.board import Dashboard

    return Dashboard


def __dir__() -> list[str]:
    return sorted(__all__)
