"""Models behind HTTP, vendors' and servers'."""

from __future__ import annotations

import sys
from types import ModuleType


class _CommandLine(ModuleType):
    """Stands for ``httpx._main``, the command line that httpx imports with itself.

    It brings rich, click and pygments where they are installed: a third of the time until the
    first request is on its way. Whoever does call ``httpx.main`` gets the real one.
    """

    @staticmethod
    def main(*arguments: object) -> None:
        """Run httpx's command line."""
        from importlib import import_module

        sys.modules.pop("httpx._main", None)
        import_module("httpx._main").main(*arguments)


if "httpx" not in sys.modules:
    sys.modules["httpx._main"] = _CommandLine("httpx._main")
