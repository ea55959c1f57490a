"""Why a worker does not do what a request asks: errors that end the request and nothing else."""

from __future__ import annotations

__all__ = ["RefusedOptionError", "TemplateRefusalError", "unforeseen"]


class TemplateRefusalError(Exception):
    """The chat template does not render this conversation; the text says why."""


class RefusedOptionError(ValueError):
    """The model cannot follow a request's ``option``; the text says why."""

    def __init__(self, option: str, problem: str) -> None:
        self.option = option
        super().__init__(problem)


def unforeseen(error: Exception) -> str:
    """The problem of a request that ended with an error which nobody foresaw."""
    return f"it failed in this request ({type(error).__name__}: {error}); others are not affected"
