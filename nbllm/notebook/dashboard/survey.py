"""What the dashboard looks for now and then: models that can be loaded, and whether they fit."""

from __future__ import annotations

from collections.abc import Iterable

from nbllm.core.errors import DoesNotFitError, ModelLoadError, NbllmError
from nbllm.core.hardware.resources import Resources
from nbllm.core.kinds import place_of
from nbllm.core.model_manager import ModelManager
from nbllm.core.openers import plan_model
from nbllm.core.resource_detector import ResourceDetector
from nbllm.core.types import ModelInfo
from nbllm.core.words import size_words

__all__ = ["Survey"]


class Survey:
    """The last findings: ``available`` models, ``resources``, and in words what ``fits``.

    ``scan`` and ``plan`` read files, and belong into a thread.
    """

    def __init__(self, manager: ModelManager, detector: ResourceDetector) -> None:
        self._manager, self._detector = manager, detector
        self.available: list[ModelInfo] = []
        self.resources: Resources | None = None
        self.fits: dict[str, str] = {}

    @property
    def cpu_name(self) -> str:
        """What the processor is called; "" before the first scan."""
        resources = self.resources
        return (resources.cpu.model or resources.cpu.architecture) if resources else ""

    def scan(self) -> None:
        """Look for models and memory; what fits is planned anew."""
        self.resources = self._detector.detect()
        self.available = self._manager.list_available_models()
        self.fits = {}

    def unplanned(self, infos: Iterable[ModelInfo]) -> list[ModelInfo]:
        """Those of which is not known yet whether they fit."""
        return [info for info in infos if info.name not in self.fits]

    def plan(self, infos: Iterable[ModelInfo]) -> None:
        """Find out whether these fit."""
        if self.resources is not None:
            for info in infos:
                self.fits[info.name] = _fit_words(info, self.resources)


def _fit_words(info: ModelInfo, resources: Resources) -> str:
    try:
        placement = plan_model(info, resources)
    except DoesNotFitError as error:
        needed, there = size_words(error.needed_bytes), size_words(error.available_bytes)
        return f"needs {needed}, {there} free"
    except ModelLoadError as error:
        return error.problem.splitlines()[0]
    except NbllmError as error:
        return str(error).splitlines()[0].removeprefix(f"{info.name}: ")
    if placement is None:
        return place_of(info) or ""
    return f"fits {placement.device} · {size_words(placement.total_bytes)}"
