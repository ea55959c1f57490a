"""llama.cpp's own things, in the processes that run it; llama_cpp is imported nowhere else.

``llama_cpp`` itself imports its high-level classes, and they numpy, Jinja and many a module; every
worker would wait for them, and none needs more than the submodules of the low-level bindings. So
its ``__init__`` runs only once somebody asks for one of its own attributes.
"""

import importlib.util
import sys
from typing import Any

__all__: list[str] = []


def _defer_package(name: str) -> None:
    """Have the package's submodules imported without its ``__init__``, if nothing has been yet."""
    spec = importlib.util.find_spec(name)
    if name in sys.modules or spec is None or spec.loader is None:
        return
    package, loader = importlib.util.module_from_spec(spec), spec.loader

    def attribute(asked: str) -> Any:
        del package.__dict__["__getattr__"]
        loader.exec_module(package)
        return getattr(package, asked)

    package.__dict__["__getattr__"] = attribute
    sys.modules[name] = package


_defer_package("llama_cpp")
