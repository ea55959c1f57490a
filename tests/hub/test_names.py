"""What is typed behind ``%llm_pull``: taken apart, or refused with what to type instead."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbllm.core.errors import DownloadError, InvalidOptionError
from nbllm.core.model_manager import ModelManager
from nbllm.hub.names import HubName, WebName, parse_name
from nbllm.testing import fake_info

PATHS = [
    r"./file.gguf",
    r".\file.gguf",
    r"../models/file.gguf",
    r"~/file.gguf",
    r"~ann/file.gguf",
    r"/models/x.gguf",
    r"C:\x.gguf",
    r"c:/x.gguf",
    r"D:\models\x.gguf",
    r"\\server\share\x.gguf",
    r"models\x.gguf",
    r"/",
    r"~",
    r"file:///tmp/x.gguf",
    r"FILE:x.gguf",
]


@pytest.mark.parametrize("path", [*PATHS, "./my model.gguf", "C:\\my models\\x.gguf"])
def test_a_path_needs_no_download(path: str) -> None:
    with pytest.raises(InvalidOptionError, match="is a path, and what is on this machine needs no"):
        parse_name(path)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("", "it is empty. Write hf.co/OWNER/REPOSITORY"),
        ("file.gguf", "doesn't say where it is. Write hf.co/OWNER/REPOSITORY/file.gguf"),
        ("FILE.GGUF", "doesn't say where it is"),
        ("llama3", "has no owner.*search=llama3$"),
        ("llama3.2:1b", "has no owner.*search=llama3.2%201b$"),
        ("openai:gpt-4o", "has no owner.*search=openai%20gpt%204o$"),
        ("hf.co/owner", "names no repository. Write hf.co/OWNER/REPOSITORY"),
        ("huggingface.co", "names no repository"),
        ("https://huggingface.co/", "names no repository"),
        ("https://www.huggingface.co/owner/?x=1", "names no repository"),
        ("datasets/owner/repo", "is under datasets/ on Hugging Face, which has no models"),
        ("https://huggingface.co/spaces/owner/repo", "is under spaces/"),
        ("hf.co/collections/owner/list-1", "is under collections/"),
        ("https://ollama.com/library/llama3:8b", "only Ollama downloads.* !ollama pull llama3:8b;"),
        ("registry.ollama.ai/library/phi3", "!ollama pull phi3;"),
        ("github.com/ggml-org/llama.cpp", "an address of another host. Write all of it"),
        ("example.org/x.gguf", "an address of another host"),
        ("http://example.org/x.gguf", "http:// is not supported; write an https address"),
        ("https://example.org/x.bin", "'x.bin' is not a GGUF"),
        ("https://example.org/", "names no file"),
        ("owner/my model", "is neither a repository of Hugging Face nor an https address"),
        ("{name}", "is neither a repository of Hugging Face nor an https address"),
        ("owner/repo/../../x.gguf", "is absolute or leaves its folder"),
        ("owner/repo/nul.gguf", "Windows reserves it"),
        ("owner/repo/x.bin", r"'x.bin' is not a GGUF, and llama.cpp reads no.*search=repo$"),
        ("hf.co/o/my-repo/a/x.SafeTensors?download=true", "is not a GGUF.*search=my%20repo$"),
        ("https://huggingface.co/o/r/blob/main/model.onnx", "is not a GGUF"),
        ("owner/repo/Q4_K_M", "is not a model file of owner/repo. %llm_pull owner/repo --list"),
        ("owner/repo@v1/Q4_K_M/", "'Q4_K_M' is not a model file of owner/repo"),
        ("https://huggingface.co/o/r/tree/main/folder", "'folder' is not a model file of o/r"),
        ("https://huggingface.co/o/r/discussions/3", "'discussions/3' is not a model file"),
        ("https://huggingface.co/o/r/commits/main", "'commits/main' is not a model file"),
        ("owner/repo/README.md", "'README.md' is not a model file"),
        ("owner/repo/..", "is absolute or leaves its folder"),
        ("owner/..", "is not a valid repository name"),
        ("https://example.org/models/", "names no file"),
        ("https://example.org/index.html", "'index.html' is not a GGUF"),
        ("https://example.org/x.safetensors", "'x.safetensors' is not a GGUF"),
    ],
)
def test_what_is_no_download_is_told_with_what_to_type(name: str, told: str) -> None:
    with pytest.raises(InvalidOptionError, match=told):
        parse_name(name)


def test_a_page_of_a_branch_is_the_repository() -> None:
    for page in ("blob/main/", "tree/main/", "tree/main", "resolve/main/"):
        assert parse_name(f"https://huggingface.co/o/r/{page}") == HubName("o/r")
    assert parse_name("hf-mirror.com/o/r") == HubName("o/r")


def test_a_password_in_an_address_is_not_shown() -> None:
    with pytest.raises(InvalidOptionError, match=r"write https://example\.org/x\.gguf") as caught:
        parse_name("https://ann:s3cret@example.org/x.gguf")
    assert "s3cret" not in str(caught.value)


@given(st.text("ab/.:\\~@ {}%-#?\n\u202e\ud800", max_size=30))
def test_any_text_is_a_name_or_refused_in_one_line(text: str) -> None:
    with suppress(InvalidOptionError):
        assert isinstance(parse_name(text), HubName | WebName)
        return
    with pytest.raises(InvalidOptionError) as caught:
        parse_name(text)
    assert str(caught.value).isprintable()


async def test_what_can_be_loaded_as_it_is_is_not_downloaded() -> None:
    infos = [
        fake_info("mine", path="/models/mine.gguf"),
        fake_info("gpt", local=False, model_type="openai"),
    ]
    manager = ModelManager(infos)
    with pytest.raises(InvalidOptionError, match=r"is on this machine already.*%llm_load mine"):
        await manager.plan_pull("mine")
    with pytest.raises(InvalidOptionError, match=r"runs on a server.*%llm_load gpt"):
        await manager.plan_pull("gpt")


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("bundled", "pip uninstall"),
        ("ollama", "ollama rm mine"),
        ("lmstudio", "in LM Studio"),
        ("huggingface", "hf cache"),
        ("found", "Delete the file yourself"),
    ],
)
def test_who_deletes_what_no_pull_brought(source: str, told: str) -> None:
    manager = ModelManager([fake_info("mine", path="/models/mine.gguf", source=source)])
    with pytest.raises(DownloadError, match=f"was not downloaded by %llm_pull.*{told}"):
        manager.plan_deletion("mine")


def test_a_served_model_has_no_file_to_delete() -> None:
    manager = ModelManager([fake_info("gpt", local=False, model_type="openai")])
    with pytest.raises(DownloadError, match="runs on a server"):
        manager.plan_deletion("gpt")
