"""What a model has that is asked on several machines at once."""

from __future__ import annotations

from abc import abstractmethod

from nbllm.batches.brake import Brake
from nbllm.core.model_interface import ModelInterface
from nbllm.core.types import GenerationRequest

__all__ = ["SpreadModel"]


class SpreadModel(ModelInterface):
    """It can be asked between ``open`` and ``close``, which a run calls."""

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
    def key_of(self, request: GenerationRequest) -> str:
        """As ``request_key``; the model's file is not on this machine."""
