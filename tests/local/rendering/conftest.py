from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from nbllm.local.rendering.client import Renderer


@pytest.fixture
def renderer() -> Iterator[Callable[..., Renderer]]:
    """Makes renderers of templates; their processes are ended with the test."""
    made: list[Renderer] = []

    def make(source: str, marks: tuple[str, ...] = ()) -> Renderer:
        made.append(Renderer())
        made[-1].set_up(source, bos="<s>", eos="</s>", marks=marks, own=())
        return made[-1]

    yield make
    for each in made:
        each.close()
