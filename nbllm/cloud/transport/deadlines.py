"""How long each part of a request may take, and what is said when it takes longer."""

from __future__ import annotations

from dataclasses import dataclass

from nbllm.core.types import GenerationOptions

__all__ = ["Deadlines"]


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds for connecting, for the first token, and for silence after it.

    The first token has as long as the vendors' own libraries give it: a reasoning model thinks
    for minutes without a word. Silence means no byte at all, keep-alive comments included.
    """

    connect: float = 10.0
    first_token: float = 600.0
    stall: float = 120.0

    @classmethod
    def of(cls, options: GenerationOptions) -> Deadlines:
        """Those that ``options`` set, and the usual ones."""
        usual = cls()
        return cls(
            connect=options.connect_timeout or usual.connect,
            first_token=options.first_token_timeout or usual.first_token,
            stall=options.stall_timeout or usual.stall,
        )
