from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny_models import TINY, first_layers, small_llama, write, write_tiny

from nbllm.core.openers import LoadControl
from nbllm.core.types import LoadOptions, ModelInfo
from nbllm.local.llama_cpp_model import LlamaCppModel, open_model

Load = Callable[..., LlamaCppModel]


@pytest.fixture(scope="session")
def load(bundled_gguf: Path) -> Iterator[Load]:
    """Loads the bundled model with options; everything it loaded is closed at the end.

    One thread each: the other cores have tests of their own to run.
    """
    models: list[LlamaCppModel] = []

    def open_with(path: Path = bundled_gguf, **options: Any) -> LlamaCppModel:
        info = ModelInfo(
            name="smollm2",
            model_type="llama",
            local=True,
            path=path,
            load=LoadOptions(**{"context_length": 1024, "threads": 1, **options}),
        )
        models.append(open_model(info, LoadControl()))
        return models[-1]

    yield open_with
    for model in models:
        asyncio.run(model.aclose())


@pytest.fixture(scope="session")
def model(load: Load) -> LlamaCppModel:
    """The bundled model, shared by the tests that leave it as it is."""
    return load(context_length=4096)


@pytest.fixture(scope="session")
def short_model(load: Load, short_gguf: Path) -> LlamaCppModel:
    """As ``model``, of two layers."""
    return load(short_gguf, context_length=4096)


@pytest.fixture(scope="session")
def native(bundled_gguf: Path) -> Callable[..., Any]:
    """Call it for a model in the tests' own process, with settings of its context.

    It is the bundled one unless a ``path`` is given.
    """
    from nbllm.local.ipc.operations import LoadSettings
    from nbllm.local.llama.native import NativeModel

    def load_native(**changes: Any) -> Any:
        usual: dict[str, Any] = {
            "path": bundled_gguf,
            "context_length": 256,
            "parallel": 1,
            "threads": 1,
            "batch_tokens": 64,
            "max_outputs": 1,
            "batch_invariant": False,
        }
        values = usual | changes
        values["path"] = os.fsencode(values["path"])
        settings = LoadSettings(
            sequences=values["parallel"] + 2 * values["batch_invariant"],
            batch_threads=values["threads"],
            gpus=(),
            gpu_layers=0,
            tensor_split=(),
            kv_type="f16",
            flash_attention=None,
            **values,
        )
        return NativeModel(settings, lambda fraction: None)

    return load_native


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A GGUF with a header and a few weights, for the test alone."""
    return write(tmp_path / "tiny.gguf", small_llama)


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Models of many architectures, of some MiB each, which llama.cpp can run."""
    folder = tmp_path_factory.mktemp("tiny-models")
    return {name: write_tiny(name, folder) for name in TINY}


@pytest.fixture(scope="session")
def short_gguf(bundled_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled model's header, vocabulary and first two of thirty layers.

    It is real in all but the sense of what it writes, and four times as fast.
    """
    target = tmp_path_factory.mktemp("short") / bundled_gguf.name
    return first_layers(bundled_gguf, target, 2)
