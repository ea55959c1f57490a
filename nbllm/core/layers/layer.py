"""``Layer``: what stands around a model's own stream, and the order in which layers stand."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable
from enum import IntEnum
from functools import partial
from typing import Protocol, TypeAlias

from nbllm.core.types import Event, GenerationRequest

__all__ = ["Events", "Layer", "Next", "Place", "composed"]

Events: TypeAlias = AsyncGenerator[Event, None]
"""The events of one answer. ``Completed`` is the last one of a stream that does not fail."""

Next: TypeAlias = Callable[[GenerationRequest], Events]
"""The layers further in, and the model's own stream as the innermost. It can be called more than
once; each call is an answer of its own."""


class Place(IntEnum):
    """The order of all layers, the outermost first."""

    ACTIVITY = 1
    """What is watched, stopped and recorded is what the caller gets, whoever produces it."""
    CACHE = 2
    """A kept answer costs no use of the model, which need not even be able to answer."""
    USES = 3
    """From here on inwards the model itself works, so that it must not be unloaded."""
    SCHEMA = 4
    """The result of whichever attempt succeeds gets the schema of the request."""
    RETRY = 5
    """Each attempt passes through everything further in once more."""
    REFUSED_OPTIONS = 6
    """What a vendor refuses is left out at once; that is no attempt that a delay could help."""
    BUDGET = 7
    """Whatever goes out is reserved and settled, whoever sends it again."""


class Layer(Protocol):
    """Passes a request on to the layers further in, and their events back.

    It may change the request, answer it without passing it on, pass it on several times, and
    change, add or drop events. A layer is shared by all streams of a model, which may run on
    several event loops at once: what belongs to one stream is kept in that stream's generator. An
    implementation closes the generator that it iterates (``contextlib.aclosing``), so that closing
    the outermost one stops the model at once.
    """

    @property
    def place(self) -> Place:
        """Where it stands; of two layers at one place the newer one counts."""
        ...

    def __call__(self, request: GenerationRequest, following: Next, /) -> Events:
        """The events of the answer to ``request``."""
        ...


def composed(layers: Iterable[Layer], innermost: Next) -> Next:
    """One function for all ``layers`` around ``innermost``, ordered by their places."""
    by_place = {layer.place: layer for layer in layers}
    stream = innermost
    for place in sorted(by_place, reverse=True):
        stream = partial(_pass, by_place[place], stream)
    return stream


def _pass(layer: Layer, following: Next, request: GenerationRequest) -> Events:
    return layer(request, following)
