"""The vendors, by the ``model_type`` of a model's config."""

from __future__ import annotations

from nbllm.cloud.adapter import Adapter
from nbllm.cloud.anthropic_model import AnthropicAdapter
from nbllm.cloud.gemini_model import GeminiAdapter
from nbllm.cloud.openai_model import OpenAIAdapter
from nbllm.core.errors import InvalidOptionError
from nbllm.core.types import ModelInfo

__all__ = ["adapter_for"]


def adapter_for(info: ModelInfo) -> Adapter:
    """The vendor that ``info.model_type`` names."""
    match info.model_type:
        case "openai":
            return OpenAIAdapter()
        case "anthropic":
            return AnthropicAdapter()
        case "gemini":
            return GeminiAdapter()
        case other:
            raise InvalidOptionError(
                "model_type", f"must be openai, anthropic or gemini (got {other!r})"
            )
