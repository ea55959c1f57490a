"""How many requests a run's model takes at a time, on this machine or on several."""

from __future__ import annotations

from abc import abstractmethod

from nbllm.batches.brake import Brake
from nbllm.core.model_interface import ModelInterface
from nbllm.core.option_checks import check_number
from nbllm.core.types import GenerationRequest

__all__ = ["SpreadModel", "brake_of", "check_concurrency", "width_of"]

_CLOUD_CONCURRENCY = 8
_MOST_CONCURRENCY = 1_000


class SpreadModel(ModelInterface):
    """A model on several machines. It can be asked between ``open`` and ``close``."""

    @property
    @abstractmethod
    def width(self) -> int:
        """How many requests all machines take at a time; 1 before ``open``."""

    @abstractmethod
    async def open(self, concurrency: int | None) -> Brake:
        """Load the model where it is asked, and return how many requests it takes at a time.

        ``concurrency`` is the user's wish for all machines together. Raises ``BatchError`` where
        no machine has the model.
        """

    @abstractmethod
    async def close(self) -> None:
        """End what is still asked. The machines keep the model."""

    @abstractmethod
    def key_of(self, request: GenerationRequest, sample: int = 0) -> str:
        """As ``request_key``; the model's file is not on this machine."""


async def brake_of(model: ModelInterface, concurrency: int | None) -> Brake:
    """The brake of a run of ``model``. Raises ``InvalidOptionError`` as ``width_of`` does."""
    width = width_of(model, concurrency)
    return await model.open(concurrency) if isinstance(model, SpreadModel) else Brake(width)


def width_of(model: ModelInterface, concurrency: int | None) -> int:
    """How many requests a run has under way at most. Raises ``InvalidOptionError``."""
    if concurrency is None:
        if isinstance(model, SpreadModel):
            return model.width
        placement = model.info.placement
        return placement.parallel if placement else _CLOUD_CONCURRENCY
    check_concurrency(concurrency)
    return concurrency


def check_concurrency(concurrency: int | None) -> None:
    """Raise ``InvalidOptionError`` unless it is None or a number of requests at a time."""
    check_number("concurrency", concurrency, 1, _MOST_CONCURRENCY, whole=True)
