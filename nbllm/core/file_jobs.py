"""What a manager does with the files of local models, beside loading them."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from pathlib import Path

from nbllm.core import openers
from nbllm.core.hardware.resources import Resources
from nbllm.core.quantization import (
    QUANTIZATION_TYPES,
    Quantization,
    Quantized,
    place_for,
    quantization_type,
)
from nbllm.core.types import ModelInfo

__all__ = ["FileJobs"]


class FileJobs(ABC):
    """The part of a manager that works on model files, each job in a process of its own."""

    @abstractmethod
    def find_model(self, name: str) -> ModelInfo:
        """The entry that ``name`` means."""

    @abstractmethod
    def detect_resources(self) -> Resources:
        """What the machine has at this moment."""

    async def plan_quantizations(
        self,
        name: str,
        types: Iterable[str] = QUANTIZATION_TYPES,
        *,
        imatrix: str | os.PathLike[str] | None = None,
    ) -> list[Quantization]:
        """What each of the ``types`` would make of a local model's file; nothing is written.

        Types that need an importance matrix are left out without one. Takes about a second.
        Raises as ``quantize_model`` does.
        """
        labels = [quantization_type(word) for word in types]
        return await openers.plan_quantizations(
            self.find_model(name), labels, imatrix=_path(imatrix)
        )

    async def quantize_model(
        self,
        name: str,
        type: str,  # noqa: A002 - the field's word for it
        *,
        to: str | os.PathLike[str] | None = None,
        imatrix: str | os.PathLike[str] | None = None,
        replace: bool = False,
        on_plan: Callable[[Quantization], None] = lambda plan: None,
        progress: Callable[[float], None] = lambda fraction: None,
    ) -> Quantized:
        """Write the file of a local model anew, quantized to ``type``, such as "q4_k_m".

        Without ``to``, a file or a folder, it goes beside the source, or into the current folder
        where the source belongs to an installed package. llama.cpp quantizes in a process of its
        own; the file appears when it is whole, so a cancelled run leaves nothing. ``imatrix`` is a
        file with llama.cpp's importance matrix; ``on_plan`` gets the size first, ``progress`` the
        finished fraction, 0 to 1.

        Raises ``InvalidOptionError`` for an unknown type, a type that needs an importance matrix
        and a file that exists unless ``replace`` is set; ``QuantizationError`` where the disk has
        no room or llama.cpp fails; ``ModelNotFoundError``, ``ModelFileError`` and
        ``MissingDependencyError``.
        """
        label, info = quantization_type(type), self.find_model(name)
        return await openers.quantize_model(
            info,
            label,
            place_for(info, label, _path(to)),
            self.detect_resources(),
            imatrix=_path(imatrix),
            replaces=replace,
            on_plan=on_plan,
            progress=progress,
        )


def _path(given: str | os.PathLike[str] | None) -> Path | None:
    return None if given is None else Path(given).expanduser()
