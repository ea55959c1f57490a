"""The scales of a model's LoRA adapters that one request asks for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nbllm.core.errors import InvalidOptionError

__all__ = ["scales_of"]

Adapters = Sequence[tuple[str, float]]


def scales_of(loaded: Adapters, wanted: Adapters) -> list[float]:
    """One scale for each loaded adapter, 0 for those that are not wanted.

    An adapter is named by its path, the name of its file, or that without its ending. Raises
    ``InvalidOptionError`` for a name that fits none of them, or several.
    """
    scales = [0.0] * len(loaded)
    for name, scale in wanted:
        scales[_place(name, [path for path, _ in loaded])] = scale
    return scales


def _place(name: str, paths: Sequence[str]) -> int:
    fitting = [place for place, path in enumerate(paths) if name == path] or [
        place
        for place, path in enumerate(paths)
        if Path(name).name in (Path(path).name, Path(path).stem)
    ]
    if len(fitting) == 1:
        return fitting[0]
    if not paths:
        problem = f"the model was loaded without {name}; load it with its adapters"
    elif fitting:
        problem = f"{name} matches several adapters; give the path: {', '.join(paths)}"
    else:
        problem = f"the model was loaded without {name}, only with {', '.join(paths)}"
    raise InvalidOptionError("adapters", problem)
