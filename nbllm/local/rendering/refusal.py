"""The error of a conversation that a chat template does not render."""

from __future__ import annotations

__all__ = ["TemplateRefusalError"]


class TemplateRefusalError(Exception):
    """The template does not render this conversation; the text says why."""
