"""Configs of strangers ask for keys; a server at the other end looks at what it gets."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from nbllm.cloud.cloud_model import open_model
from nbllm.core.api_keys import PERMISSIONS_VARIABLE, allow_key
from nbllm.core.errors import AuthenticationError, NbllmError
from nbllm.core.model_config import load_config
from nbllm.core.model_manager import ModelManager
from nbllm.core.openers import LoadControl

SECRETS = {
    "OPENAI_API_KEY": "sk-proj-CANARY0123456789",
    "ANTHROPIC_API_KEY": "sk-ant-CANARY0123456789",
    "GEMINI_API_KEY": "AIzaCANARY0123456789",
    "GOOGLE_API_KEY": "AIzaCANARY9876543210",
    "OPENROUTER_API_KEY": "sk-or-CANARY0123456789",
    "AWS_SECRET_ACCESS_KEY": "awsCANARY0123456789",
    "GITHUB_TOKEN": "ghp_CANARY0123456789",
    "HF_TOKEN": "hf_CANARY0123456789",
    "DATABASE_API_KEY": "dbCANARY0123456789",
    "MINE_API_KEY": "mineCANARY0123456789",
    "EVIL_TOKEN": "evilCANARY0123456789",
}
TYPES = [
    "openai", "anthropic", "gemini", "openai-compatible", "vllm", "llama-server", "lm-studio",
    "ollama", "openrouter",
]  # fmt: skip


@pytest.fixture(autouse=True)
def secrets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv(PERMISSIONS_VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def evil(raw_server: Any, say: Any) -> Any:
    """A server that answers whatever it is asked, on any protocol, with what it got in return."""

    async def script(request: Any, connection: Any) -> None:
        if request.method == "GET":
            await connection.answer(200, {"data": [{"id": "m", "max_model_len": 512}]})
        else:
            await connection.stream(*say("Hello"))

    return raw_server(script)


def write(folder: Path, **entry: Any) -> Path:
    file = folder / "models.json"
    file.write_text(json.dumps({"name": "evil", "local": False, **entry}))
    return file


async def ask(file: Path) -> NbllmError | None:
    """Load the model of a config and ask it; the error, if there was one."""
    manager = ModelManager()
    try:
        manager.add_config(file)
        model, _ = await manager.load_model("evil")
        await model.generate("Hi", max_retry_seconds=0, first_token_timeout=5)
    except NbllmError as error:
        return error
    finally:
        await manager.aclose()
    return None


def nothing_was_taken(server: Any) -> None:
    for request in server.received:
        assert "CANARY" not in f"{request.headers} {request.path} {request.body!r}"


@pytest.mark.parametrize("variable", [None, *SECRETS])
@pytest.mark.parametrize("model_type", TYPES)
async def test_a_config_gets_no_key_by_its_own_word(
    evil: Any, tmp_path: Path, model_type: str, variable: str | None
) -> None:
    async with evil as server:
        named = {"api_key_env": variable} if variable else {}
        file = write(tmp_path, model_type=model_type, base_url=f"{server.url}/v1", **named)
        error = await ask(file)
        nothing_was_taken(server)
        if variable:
            assert isinstance(error, AuthenticationError)
            assert f'nbllm.allow_key("{variable}", "{server.url}")' in str(error)
            assert not server.received


@pytest.mark.parametrize("variable", [None, "OPENAI_API_KEY", "MINE_API_KEY"])
@pytest.mark.parametrize(
    "address",
    [
        "http://api.openai.com@127.0.0.1:{port}/v1",
        "http://api.openai.com\\@127.0.0.1:{port}/v1",
        "http://api.openai.com:443@127.0.0.1:{port}/v1",
        "http://127.0.0.1:{port}/https://api.openai.com/v1",
        "http://127.0.0.1:{port}#@api.openai.com/",
        "http://127.0.0.1:{port}?api.openai.com",
        "HTTP://127.0.0.1:{port}\\api.openai.com/v1",
        "http://LOCALHOST:{port}/v1",
        "http://127.1:{port}/v1",
        "http://0x7f.0.0.1:{port}/v1",
        "http://api.openai.com.localhost:{port}/v1",
        "http://localhost.:{port}",
    ],
)
async def test_however_the_address_is_written(
    evil: Any, tmp_path: Path, address: str, variable: str | None
) -> None:
    async with evil as server:
        named = {"api_key_env": variable} if variable else {}
        url = address.format(port=server.port)
        await ask(write(tmp_path, model_type="openai", base_url=url, **named))
        nothing_was_taken(server)


async def test_a_redirect_takes_no_key_along(raw_server: Any, evil: Any, tmp_path: Path) -> None:
    async with evil as other:

        async def script(request: Any, connection: Any) -> None:
            await connection.answer(int(request.path[-3:]), {}, location=f"{other.url}/v1")

        async with raw_server(script) as first:
            allow_key("MINE_API_KEY", first.url)
            for status in (301, 302, 303, 307, 308):
                file = write(
                    tmp_path,
                    model_type="openai-compatible",
                    base_url=first.url,
                    model="m",
                    context_length=9,
                    api_key_env="MINE_API_KEY",
                )
                entry = json.loads(file.read_text())
                entry["base_url"] = f"{first.url}/{status}"
                file.write_text(json.dumps(entry))
                await ask(file)
            assert not other.received


async def test_a_word_for_one_address_is_none_for_another(evil: Any, tmp_path: Path) -> None:
    async with evil as server:
        for address in (
            f"http://localhost:{server.port}",
            "http://127.0.0.1:1",
            "https://127.0.0.1",
        ):
            allow_key("MINE_API_KEY", address)
        allow_key("HF_TOKEN", server.url)
        entry = {"model_type": "vllm", "base_url": f"{server.url}/v1"}
        error = await ask(write(tmp_path, **entry, api_key_env="MINE_API_KEY"))
        assert isinstance(error, AuthenticationError)
        nothing_was_taken(server)
        allow_key("MINE_API_KEY", server.url)
        assert await ask(write(tmp_path, **entry, api_key_env="MINE_API_KEY")) is None
        assert server.received[-1].headers["authorization"] == f"Bearer {SECRETS['MINE_API_KEY']}"


async def test_nothing_of_a_cloned_folder_is_the_readers_word(
    evil: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a .env file nor a list of allowed keys beside the config."""
    async with evil as server:
        monkeypatch.delenv("MINE_API_KEY")
        pair = f"OPENAI_API_KEY@{server.url}"
        (tmp_path / ".env").write_text(f"{PERMISSIONS_VARIABLE}={pair}\nMINE_API_KEY=CANARY-mine\n")
        (tmp_path / "allowed_keys.json").write_text(json.dumps({"OPENAI_API_KEY": [server.url]}))
        for variable in ("OPENAI_API_KEY", "MINE_API_KEY"):
            file = write(tmp_path, model_type="openai", base_url=server.url, api_key_env=variable)
            assert isinstance(await ask(file), AuthenticationError)
        assert not server.received


async def test_a_saved_and_a_listed_entry_are_not_trusted_more(evil: Any, tmp_path: Path) -> None:
    async with evil as server:
        file = write(tmp_path, model_type="openai", base_url=server.url, api_key_env="GITHUB_TOKEN")
        manager = ModelManager.from_config(file)
        manager.save_config(tmp_path / "copy.json")
        for info in (*load_config(tmp_path / "copy.json"), *manager.list_available_models()):
            if info.api_key_env:
                with pytest.raises(AuthenticationError, match="GITHUB_TOKEN"):
                    await asyncio.to_thread(open_model, info, LoadControl())
        await manager.aclose()
        assert not server.received


async def test_a_refusal_says_that_no_key_was_sent_and_how_to_allow_it(
    raw_server: Any, tmp_path: Path
) -> None:
    async def script(request: Any, connection: Any) -> None:
        await connection.answer(401, {"error": {"message": "no key"}})

    async with raw_server(script) as server:
        error = await ask(write(tmp_path, model_type="openai", base_url=server.url))
        assert isinstance(error, AuthenticationError)
        assert str(error).count("No key was sent") == 1
        assert f'nbllm.allow_key("OPENAI_API_KEY", "{server.url}")' in str(error)
        nothing_was_taken(server)


def test_clear_text_over_a_network_is_told(tmp_path: Path) -> None:
    for address, told in [
        ("http://10.1.2.3:8000", True),
        ("https://10.1.2.3:8000", False),
        ("http://localhost:8000", False),
    ]:
        file = write(tmp_path, model_type="vllm", base_url=address, api_key_env="MINE_API_KEY")
        (info,) = load_config(file)
        with pytest.raises(AuthenticationError) as caught:
            open_model(info, LoadControl())
        assert ("over the network unencrypted" in str(caught.value)) is told
