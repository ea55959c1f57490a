"""How a model's file is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from nbllm.core.errors import ModelFileError
from nbllm.local.gguf.shape import read_shape


def failure(path: Path) -> str:
    """The message of the refusal, which names the file."""
    with pytest.raises(ModelFileError) as caught:
        read_shape(path)
    assert caught.value.model == str(path)
    assert str(path) in str(caught.value)
    return str(caught.value)
