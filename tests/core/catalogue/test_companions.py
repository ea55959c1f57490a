"""Projectors and draft models belong to models, and are none of their own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from nbllm import ModelManager
from nbllm.core.catalogue.companions import with_companions
from nbllm.core.catalogue.source import StoredFile
from nbllm.core.errors import ModelFileError
from nbllm.core.types import ModelInfo
from nbllm.local.gguf import model_info_from_gguf, read_shape
from nbllm.local.gguf.header_keys import check_model
from tests.local.bare_gguf import bare_gguf

GEMMA, QWEN = "llama/default/262208", "gpt2/qwen2/151936"
MMPROJ = {"architecture": "clip"}


def served(files: Mapping[str, tuple[str, float, str]]) -> dict[str, list[str]]:
    """By the path of each model its companions; a file is its type, its size and its tokenizer."""
    found = [
        (
            StoredFile(Path(path)),
            ModelInfo(
                name=Path(path).stem,
                model_type=kind,
                local=True,
                path=Path(path),
                parameters=billions,
                tokenizer=tokenizer,
            ),
        )
        for path, (kind, billions, tokenizer) in files.items()
    ]
    return {
        str(file.path): [each.name for each in info.companions]
        for file, info in with_companions(found)
    }


@pytest.mark.parametrize(
    ("model", "projector"),
    [
        ("repo/gemma-3-4b-it-Q4_K_M.gguf", "repo/mmproj-F16.gguf"),
        ("repo/gemma-3-4b-it-UD-Q4_K_XL.gguf", "repo/mmproj-gemma-3-4b-it-bf16.gguf"),
        ("repo/gemma-3-4b-it.Q8_0.gguf", "repo/gemma-3-4b-it.mmproj-Q8_0.gguf"),
        ("repo/ggml-model-q4_k.gguf", "repo/mmproj-model-f16.gguf"),
        ("repo/anything.gguf", "repo/projector.gguf"),
        ("repo/BF16/gemma-3-27b-BF16-00001-of-00002.gguf", "repo/mmproj-BF16.gguf"),
        (
            "c/ggml-org_gemma-3-4b-it-GGUF_gemma-3-4b-it-Q4_K_M.gguf",
            "c/ggml-org_gemma-3-4b-it-GGUF_mmproj-model-f16.gguf",
        ),
    ],
)
def test_a_projector_serves_the_model_beside_it(model: str, projector: str) -> None:
    found = served({model: ("gemma3", 4, GEMMA), projector: ("mmproj", 0.4, "")})
    assert found == {model: [Path(projector).name]}


def test_names_tell_projectors_of_one_folder_apart() -> None:
    files = {
        "m/Qwen2.5-VL-7B-Instruct-Q4_K_M.gguf": ("qwen2vl", 7.0, QWEN),
        "m/Qwen2.5-VL-72B-Instruct-Q4_K_M.gguf": ("qwen2vl", 72.0, QWEN),
        "m/mmproj-Qwen2.5-VL-7B-Instruct-f16.gguf": ("mmproj", 0.7, ""),
        "m/mmproj-f16.gguf": ("mmproj", 0.7, ""),
    }
    assert served(files) == {
        "m/Qwen2.5-VL-7B-Instruct-Q4_K_M.gguf": ["mmproj-Qwen2.5-VL-7B-Instruct-f16.gguf"],
        "m/Qwen2.5-VL-72B-Instruct-Q4_K_M.gguf": [],
    }


def test_a_projector_alone_is_no_model() -> None:
    assert served({"m/mmproj.gguf": ("mmproj", 0.4, "")}) == {}


@pytest.mark.parametrize(
    "draft",
    ["Qwen3-0.6B-draft-Q8_0.gguf", "qwen3-32b-eagle3.gguf", "Qwen3-32B-mtp.gguf", "draft.gguf"],
)
def test_a_small_model_that_is_named_a_draft_serves_the_large_one(draft: str) -> None:
    model, other = "m/Qwen3-32B-Q4_K_M.gguf", "m/gemma-3-27b-it-Q4_K_M.gguf"
    files = {
        model: ("qwen3", 32.0, QWEN),
        other: ("gemma3", 27.0, GEMMA),
        f"m/{draft}": ("qwen3", 0.6, "gpt2/qwen2/152064"),
    }
    assert served(files) == {model: [draft], other: []}


@pytest.mark.parametrize(
    ("draft", "billions", "tokenizer"),
    [
        ("Qwen3-0.6B-Q8_0.gguf", 0.6, QWEN),
        ("Qwen3-32B-MTP-Q8_0.gguf", 32.0, QWEN),
        ("other-draft.gguf", 0.6, "gpt2/qwen2/100000"),
        ("other-draft.gguf", 0.6, GEMMA),
        ("aircraft-drafting-1b.gguf", 1.0, QWEN),
    ],
)
def test_what_could_be_a_model_of_its_own_is_one(
    draft: str, billions: float, tokenizer: str
) -> None:
    model = "m/Qwen3-32B-Q4_K_M.gguf"
    files = {model: ("qwen3", 32.0, QWEN), f"m/{draft}": ("qwen3", billions, tokenizer)}
    assert served(files) == {model: [], f"m/{draft}": []}


def test_a_header_says_what_serves_another(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(bare_gguf())
    (tmp_path / "a.gguf").write_bytes(bare_gguf(**MMPROJ))
    (tmp_path / "b.gguf").write_bytes(bare_gguf(general__type="mmproj"))
    (tmp_path / "c.gguf").write_bytes(bare_gguf(architecture="eagle3"))
    kinds = [model_info_from_gguf(tmp_path / f"{name}.gguf").model_type for name in "abc"]
    assert kinds == ["mmproj", "mmproj", "draft"]
    with pytest.raises(ModelFileError, match="only drafts for another model"):
        check_model(tmp_path / "c.gguf", read_shape(tmp_path / "c.gguf"))
    (found,) = ModelManager(folder=tmp_path).search_models().models[1:]
    assert [path.name for path in found.companions] == ["a.gguf", "b.gguf", "c.gguf"]
    assert "a.gguf, b.gguf, c.gguf" in found._repr_html_()


def test_ollama_says_which_projector_a_model_has(home: Path) -> None:
    store = home / ".ollama/models"
    manifest = store / "manifests/registry.ollama.ai/library/gemma3/4b"
    manifest.parent.mkdir(parents=True)
    layers = [("model", "a"), ("projector", "b"), ("projector", "../../x"), ("projector", "d")]
    entries = [
        {"mediaType": f"application/vnd.ollama.image.{kind}", "digest": f"sha256:{digit * 64}"}
        for kind, digit in layers
    ]
    manifest.write_text(json.dumps({"layers": entries}))
    (store / "blobs").mkdir()
    (store / "blobs" / f"sha256-{'a' * 64}").write_bytes(bare_gguf())
    (store / "blobs" / f"sha256-{'b' * 64}").write_bytes(bare_gguf(**MMPROJ))
    (found,) = ModelManager().search_all_models("ollama").models
    assert [path.name for path in found.companions] == [f"sha256-{'b' * 64}"]
