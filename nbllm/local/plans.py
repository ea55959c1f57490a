"""Plans for loading GGUF files: headers and the machine put together."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from nbllm.core.errors import ModelFileError
from nbllm.core.model_shape import ModelShape
from nbllm.core.placement import Placement
from nbllm.core.placing import DEFAULT_CONTEXT, Plan
from nbllm.core.resources import Resources
from nbllm.core.types import ModelInfo
from nbllm.local.gguf import read_shape

__all__ = ["cached_shape", "make_plan", "plan_model"]


def plan_model(info: ModelInfo, resources: Resources) -> Placement:
    """Where the model goes, from its header; see ``nbllm.core.openers.plan_model``."""
    return make_plan(info, resources).placement()


def make_plan(info: ModelInfo, resources: Resources) -> Plan:
    """The search for a place. Raises ``ModelFileError``."""
    if info.path is None:
        raise ModelFileError(info.name, "its entry names no file; give it a path")
    shape = cached_shape(info.path)
    return Plan(
        name=info.name,
        shape=shape,
        resources=resources,
        wish=info.load,
        usual_context=_usual_context(info, shape),
    )


def cached_shape(path: Path) -> ModelShape:
    """The shape of the model in a file, read again when the file has changed.

    Raises ``ModelFileError``.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise ModelFileError(str(path), error.strerror or "cannot be read") from None
    return _read(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=32)
def _read(path: Path, mtime_ns: int, size: int) -> ModelShape:
    return read_shape(path)


def _usual_context(info: ModelInfo, shape: ModelShape) -> int:
    """What a config says; else what the model was trained for, within reason."""
    trained = info.context_length or shape.context_length or DEFAULT_CONTEXT
    return trained if info.source == "config" else min(trained, DEFAULT_CONTEXT)
