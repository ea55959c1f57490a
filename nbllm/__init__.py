"""nbllm: every language model you have, one line away in a Jupyter notebook.

``%load_ext nbllm`` gives the magics; ``from nbllm import ModelManager`` the same in Python.
The names below are imported when they are first used, so that loading costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from nbllm.core.version import __version__

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from nbllm.core.api_keys import allow_key as allow_key
    from nbllm.core.api_keys import disallow_key as disallow_key
    from nbllm.core.budgets.budget import Budget as Budget
    from nbllm.core.errors import NbllmError as NbllmError
    from nbllm.core.messages import image as image
    from nbllm.core.model_interface import ModelInterface as ModelInterface
    from nbllm.core.model_manager import ModelManager as ModelManager
    from nbllm.core.model_manager import default_manager as default_manager
    from nbllm.core.resource_detector import ResourceDetector as ResourceDetector
    from nbllm.core.types import Completed as Completed
    from nbllm.core.types import Embeddings as Embeddings
    from nbllm.core.types import FinishReason as FinishReason
    from nbllm.core.types import GenerationOptions as GenerationOptions
    from nbllm.core.types import GenerationResult as GenerationResult
    from nbllm.core.types import LoadOptions as LoadOptions
    from nbllm.core.types import Message as Message
    from nbllm.core.types import ModelInfo as ModelInfo
    from nbllm.core.types import PromptProgress as PromptProgress
    from nbllm.core.types import ReasoningDelta as ReasoningDelta
    from nbllm.core.types import TextDelta as TextDelta
    from nbllm.core.types import Timings as Timings
    from nbllm.core.types import TokenLogprob as TokenLogprob
    from nbllm.core.types import Tool as Tool
    from nbllm.core.types import ToolCall as ToolCall
    from nbllm.core.types import ToolCallDelta as ToolCallDelta
    from nbllm.core.types import ToolResult as ToolResult
    from nbllm.core.types import Usage as Usage
    from nbllm.notebook.batch.frame import map_frame as map_frame
    from nbllm.notebook.dashboard.board import dashboard as dashboard
    from nbllm.notebook.loaded_model import load as load
    from nbllm.notebook.loop import run as run

_HOMES = {
    "nbllm.core.budgets.budget": ("Budget",),
    "nbllm.core.errors": ("NbllmError",),
    "nbllm.core.messages": ("image",),
    "nbllm.core.api_keys": ("allow_key", "disallow_key"),
    "nbllm.core.model_interface": ("ModelInterface",),
    "nbllm.core.model_manager": ("ModelManager", "default_manager"),
    "nbllm.core.resource_detector": ("ResourceDetector",),
    "nbllm.notebook.batch.frame": ("map_frame",),
    "nbllm.notebook.dashboard.board": ("dashboard",),
    "nbllm.core.types": (
        "Completed",
        "Embeddings",
        "FinishReason",
        "GenerationOptions",
        "GenerationResult",
        "LoadOptions",
        "Message",
        "ModelInfo",
        "PromptProgress",
        "ReasoningDelta",
        "TextDelta",
        "Timings",
        "TokenLogprob",
        "Tool",
        "ToolCall",
        "ToolCallDelta",
        "ToolResult",
        "Usage",
    ),
    "nbllm.notebook.loop": ("run",),
    "nbllm.notebook.loaded_model": ("load",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    *_HOME_OF,
    "__version__",
    "load_ipython_extension",
    "unload_ipython_extension",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Called by ``%load_ext nbllm``."""
    from nbllm.notebook.extension import load

    load(shell)


def unload_ipython_extension(shell: InteractiveShell) -> None:
    """Called by ``%unload_ext nbllm``."""
    from nbllm.notebook.extension import unload

    unload(shell)
