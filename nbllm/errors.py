"""Every error that nbllm raises: ``from nbllm.errors import ModelLoadError``."""

from __future__ import annotations

from nbllm.core import errors as _errors
from nbllm.core.errors import *  # noqa: F403 - the list of public errors is kept there

__doc__ = _errors.__doc__  # the tree of the classes, for ``help(nbllm.errors)``
__all__ = _errors.__all__
