"""Models of other programs, in folders as those programs write them."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from nbllm import ModelManager
from nbllm.core.catalogue import headers, listing
from nbllm.core.catalogue.hugging_face import hub_cache
from nbllm.core.catalogue.listing import STORES, store_called
from nbllm.core.catalogue.ollama import OllamaStore
from nbllm.core.errors import InvalidOptionError, ModelNotFoundError

DIGEST = "a" * 64


@pytest.fixture(scope="session")
def tiny_gguf(bundled_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled model's header, and nothing else of it: a sparse file of the whole size."""
    file = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    with bundled_gguf.open("rb") as source, file.open("wb") as target:
        target.write(source.read(4 * 2**20))
        target.truncate(bundled_gguf.stat().st_size)
    return file


def put(file: Path, model: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    os.link(model, file)
    return file


def hugging_face(cache: Path, repository: str, file: str, model: Path, digest: str = "b") -> Path:
    """A download as huggingface_hub keeps it."""
    folder = cache / f"models--{repository.replace('/', '--')}"
    blob = put(folder / "blobs" / (digest * 64), model)
    snapshot = folder / "snapshots" / "abc123" / file
    snapshot.parent.mkdir(parents=True, exist_ok=True)
    snapshot.symlink_to(os.path.relpath(blob, snapshot.parent))
    (folder / "refs").mkdir(exist_ok=True)
    (folder / "refs" / "main").write_text("abc123")
    return snapshot


def ollama(models: Path, name: str, model: Path, digest: str = DIGEST) -> Path:
    """A model as ``ollama pull`` keeps it; ``name`` is HOST/NAMESPACE/MODEL/TAG."""
    manifest = models / "manifests" / name
    manifest.parent.mkdir(parents=True, exist_ok=True)
    layers = [
        {"mediaType": "application/vnd.ollama.image.model", "digest": f"sha256:{digest}"},
        {"mediaType": "application/vnd.ollama.image.license", "digest": "sha256:" + "c" * 64},
    ]
    manifest.write_text(json.dumps({"schemaVersion": 2, "layers": layers}))
    return put(models / "blobs" / f"sha256-{digest}", model)


def stored(source: str | None = None) -> dict[str, Any]:
    found = ModelManager().search_all_models(source)
    return {info.name: info for info in found.models if info.source != "bundled"}


def test_a_machine_with_nothing_has_the_bundled_model_only(home: Path) -> None:
    assert stored() == {}
    assert ModelManager().search_all_models().notes == ()


def test_each_program_s_models_are_found(home: Path, copies: Any) -> None:
    hugging_face(
        home / ".cache/huggingface/hub", "owner/repo-GGUF", "m-hf.Q4_K_M.gguf", copies("hf")
    )
    put(home / ".lmstudio/models/owner/repo/m-lm.gguf", copies("lm"))
    put(home / ".cache/llama.cpp/owner_repo_m-llama.gguf", copies("llama"))
    put(home / ".local/share/nomic.ai/GPT4All/m-gpt4all.gguf", copies("gpt4all"))
    put(home / ".local/share/Jan/data/llamacpp/models/owner/m-jan/model.gguf", copies("jan"))
    ollama(home / ".ollama/models", "registry.ollama.ai/library/llama3.2/1b", copies("ollama"))
    found = stored()
    assert {name: info.source for name, info in found.items()} == {
        "m-hf.Q4_K_M": "huggingface",
        "m-lm": "lmstudio",
        "owner_repo_m-llama": "llama.cpp",
        "m-gpt4all": "gpt4all",
        "owner/m-jan": "jan",
        "llama3.2:1b": "ollama",
    }
    assert found["llama3.2:1b"].quantization == "q4_1"
    assert stored("LM Studio") == {"m-lm": found["m-lm"]}
    assert [*stored("ollama")] == ["llama3.2:1b"]


def test_a_model_is_loaded_by_any_of_its_names(home: Path, copies: Any) -> None:
    path = hugging_face(
        home / ".cache/huggingface/hub", "owner/repo-GGUF", "m.Q4_K_M.gguf", copies("hf")
    )
    blob = ollama(home / ".ollama/models", "registry.ollama.ai/me/mine/latest", copies("ollama"))
    manager = ModelManager()
    for name in ("m.Q4_K_M", "m.q4", "owner/repo-GGUF:Q4_K_M", "hf.co/owner/repo-GGUF:Q4_K_M"):
        assert manager.find_model(name).path == path, name
    for name in ("owner/repo-GGUF", "hf.co/owner/repo-GGUF", "huggingface:m.Q4_K_M"):
        assert manager.find_model(name).path == path, name
    for name in ("me/mine:latest", "me/mine", "ollama:me/mine:latest"):
        assert manager.find_model(name).path == blob, name
    with pytest.raises(ModelNotFoundError):
        manager.find_model("nothing-like-it")


def test_one_file_is_one_entry_however_many_have_it(home: Path, copies: Any) -> None:
    file = put(home.parent / "here" / "mine.gguf", copies("one"))
    put(home / ".lmstudio/models/owner/repo/theirs.gguf", file)
    ollama(home / ".ollama/models", "registry.ollama.ai/library/ours/latest", file)
    (home / ".cache/llama.cpp").mkdir(parents=True)
    (home / ".cache/llama.cpp/link.gguf").symlink_to(file)
    [(name, info)] = stored().items()
    assert (name, info.source, info.path) == ("mine", "found", file)
    manager = ModelManager()
    for other in ("theirs", "link", "ours:latest", "ours"):
        assert manager.find_model(other).path == file, other


def test_different_files_of_one_name_are_told_apart(home: Path, copies: Any) -> None:
    first = put(home.parent / "here" / "same.gguf", copies("one"))
    second = put(home / ".lmstudio/models/owner/repo/same.gguf", copies("two"))
    third = put(home / ".lmstudio/models/owner/other/same.gguf", copies("three"))
    found = stored()
    assert {name: info.path for name, info in found.items()} == {
        "same": first,
        "lmstudio:same": third,
        "lmstudio:same (2)": second,
    }
    assert ModelManager().find_model("same").path == first
    assert ModelManager().find_model("lmstudio:same").path == third


def test_variables_lead_elsewhere(
    home: Path, copies: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = {name: tmp_path / name for name in ("HF_HUB_CACHE", "OLLAMA_MODELS", "LLAMA_CACHE")}
    for name, folder in places.items():
        monkeypatch.setenv(name, str(folder))
    monkeypatch.setenv("NBLLM_MODEL_FOLDERS", os.pathsep.join([str(tmp_path / "own"), "", "~/own"]))
    hugging_face(places["HF_HUB_CACHE"], "a/b", "one.gguf", copies("1"))
    ollama(places["OLLAMA_MODELS"], "hf.co/a/two/Q4_0", copies("2"))
    put(places["LLAMA_CACHE"] / "three.gguf", copies("3"))
    put(tmp_path / "own" / "four.gguf", copies("4"))
    put(home / "own" / "deep" / "five.gguf", copies("5"))
    assert [*stored()] == ["four", "five", "one", "three", "hf.co/a/two:Q4_0"]
    monkeypatch.setenv("HF_HUB_CACHE", "")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    assert hub_cache() == tmp_path / "hf" / "hub"


@pytest.mark.parametrize(
    "manifest",
    [
        "",
        "{",
        "[]",
        "null",
        "[" * 100_000,
        '{"layers": 5}',
        '{"layers": [5]}',
        '{"layers": [{"mediaType": "application/vnd.ollama.image.model"}]}',
        '{"layers": [{"mediaType": "application/vnd.ollama.image.model", "digest": 5}]}',
        json.dumps(
            {
                "layers": [
                    {
                        "mediaType": "application/vnd.ollama.image.model",
                        "digest": "sha256:../../../../etc/passwd",
                    }
                ]
            }
        ),
        " " * 2**21,
    ],
)
def test_a_manifest_leads_nowhere_else(home: Path, copies: Any, manifest: str) -> None:
    models = home / ".ollama/models"
    ollama(models, "registry.ollama.ai/library/good/latest", copies("good"))
    file = models / "manifests/registry.ollama.ai/library/bad/latest"
    file.parent.mkdir()
    file.write_text(manifest)
    assert [found.name for found in OllamaStore().files()] == ["good:latest"]


def test_links_to_nothing_loops_and_half_downloads_are_passed_over(home: Path, copies: Any) -> None:
    cache = home / ".cache/huggingface/hub"
    good = hugging_face(cache, "a/b", "good.gguf", copies("good"))
    (good.parent / "gone.gguf").symlink_to("../../blobs/nothing")
    (good.parent / "loop").symlink_to(good.parent)
    (good.parent / "loop.gguf").symlink_to("loop.gguf")
    (good.parent / "part-00002-of-00003.gguf").symlink_to(good)
    (cache / "models--a--b/blobs/x.incomplete").write_bytes(b"GGUF")
    (cache / "models--empty--x").mkdir()
    (cache / "datasets--a--b").mkdir()
    (cache / "models--file").write_text("")
    assert [*stored()] == ["good"]


def test_what_is_no_language_model_is_a_companion(home: Path, copies: Any) -> None:
    folder = home / ".lmstudio/models/owner/repo"
    put(folder / "m.gguf", copies("m"))
    (folder / "mmproj-m.gguf").write_bytes(b"not even a GGUF")
    found = ModelManager().search_all_models("lmstudio")
    assert [info.name for info in found.models] == ["m"]
    assert "LM Studio: One file was not listed because of errors" in found.notes[0]


def test_headers_are_read_once_for_all_processes(
    home: Path, copies: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        put(home / f".lmstudio/models/a/b/m{number}.gguf", copies(str(number)))
    before = stored()
    monkeypatch.setattr(headers, "HEADERS", headers.Headers(headers.HEADERS._store()))
    monkeypatch.setattr(listing, "HEADERS", headers.HEADERS)
    real = headers.describe_file
    read: list[Path] = []
    monkeypatch.setattr(headers, "describe_file", lambda path: read.append(path) or real(path))
    assert stored() == before
    assert not [path for path in read if path.is_relative_to(home)]


@pytest.mark.parametrize("content", ["{", '{"version": 2, "files": {"a": 5}}', "[]", "null"])
def test_a_damaged_memory_of_headers_is_made_anew(home: Path, copies: Any, content: str) -> None:
    put(home / ".lmstudio/models/a/b/m.gguf", copies("m"))
    headers.HEADERS._store().write_text(content)
    assert [*stored()] == ["m"]
    assert json.loads(headers.HEADERS._store().read_text())["version"] == 3


def test_an_unknown_source_is_refused(home: Path) -> None:
    with pytest.raises(InvalidOptionError, match=r"source must be one of .*Did you mean 'ollama'"):
        ModelManager().search_all_models("olama")
    assert ModelManager().search_all_models("bundled").models[0].name.startswith("SmolLM2")
    assert {store_called(store.title) for store in STORES} == set(STORES)


@pytest.fixture
def copies(tiny_gguf: Path, tmp_path: Path) -> Any:
    """Files of their own with a model in each."""

    def copy(name: str) -> Path:
        file = tmp_path / "copies" / name
        file.parent.mkdir(exist_ok=True)
        with tiny_gguf.open("rb") as source, file.open("wb") as target:
            target.write(source.read(4 * 2**20))
            target.truncate(tiny_gguf.stat().st_size)
        return file

    return copy


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such files")
def test_what_only_looks_like_a_file_is_neither_read_nor_waited_for(
    home: Path, copies: Any
) -> None:
    cache = home / ".cache/huggingface/hub"
    good = hugging_face(cache, "a/b", "good.gguf", copies("good"))
    branch = cache / "models--a--b/refs/main"
    branch.unlink()
    os.mkfifo(branch)
    (good.parent / "null.gguf").symlink_to("/dev/zero")
    folder = home / ".lmstudio/models/o/r"
    folder.mkdir(parents=True)
    os.mkfifo(folder / "pipe.gguf")
    (folder / "folder.gguf").mkdir()
    (folder / "deep").symlink_to("/")
    blobs = home / ".ollama/models/blobs"
    ollama(home / ".ollama/models", "registry.ollama.ai/library/x/latest", copies("x"))
    (blobs / f"sha256-{DIGEST}").unlink()
    os.mkfifo(blobs / f"sha256-{DIGEST}")
    os.mkfifo(home / ".ollama/models/manifests/registry.ollama.ai/library/x/pipe")
    os.mkfifo(home / ".lmstudio-home-pointer")
    began = time.monotonic()
    assert [*stored()] == ["good"]
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("value", ["~nobody_at_all/x", "", " ", "x" * 5000, "relative"])
@pytest.mark.parametrize(
    "variable", ["HF_HOME", "HF_HUB_CACHE", "OLLAMA_MODELS", "NBLLM_MODEL_FOLDERS", "LLAMA_CACHE"]
)
def test_a_variable_that_names_no_folder_is_harmless(
    home: Path, copies: Any, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    put(home / ".lmstudio/models/o/r/good.gguf", copies("good"))
    monkeypatch.setenv(variable, value)
    assert "good" in stored()


def test_names_that_cannot_be_shown_are_made_readable(home: Path, copies: Any) -> None:
    try:
        ollama(home / ".ollama/models", "registry.ollama.ai/library/a\u202eb/x\ny", copies("x"))
    except OSError:
        pytest.skip("this system has no such names")
    (info,) = stored("ollama").values()
    assert info.name == "a\ufffdb:x\ufffdy"
