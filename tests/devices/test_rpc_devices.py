"""Models on devices that are real to llama.cpp: what goes where, what it takes, what breaks."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from rpc_server import Server, StartServer
from tiny_models import write_tiny

from nbllm.core.errors import EngineCrashedError, ModelLoadError
from nbllm.core.fitting.planned_load import CPU
from nbllm.core.openers import LoadControl
from nbllm.core.placement import Placement
from nbllm.core.resource_detector import ResourceDetector
from nbllm.core.types import LoadOptions, ModelInfo, TextDelta
from nbllm.local.llama_cpp_model import LlamaCppModel, open_model
from nbllm.local.plans import make_plan, settled

HEADROOM = 256
"""What is left alone on a device, in MiB: its smallest share."""
SECONDS = 8.0
"""For a typed error on a busy machine; a process of Python starts within."""


class Loader:
    """Loads a model on servers."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.models: list[LlamaCppModel] = []

    def entry(self, *servers: Server, **load: Any) -> ModelInfo:
        options = {"context_length": 1024, "threads": 1, "parallel": 2, **load}
        rpc = tuple(server.endpoint for server in servers)
        return ModelInfo(
            name="smollm2",
            model_type="llama",
            local=True,
            path=self.path,
            load=LoadOptions(**options, rpc=rpc or None),
        )

    def __call__(self, *servers: Server, **load: Any) -> LlamaCppModel:
        self.models.append(open_model(self.entry(*servers, **load), LoadControl()))
        return self.models[-1]


@pytest.fixture
def load(bundled_gguf: Path) -> Iterator[Loader]:
    loader = Loader(bundled_gguf)
    yield loader
    for model in loader.models:
        model.kill()


async def text_of(model: LlamaCppModel) -> str:
    result = await model.generate("Name three colours.", max_tokens=24, temperature=0)
    return result.text


@pytest.fixture(scope="module")
def text_here(bundled_gguf: Path) -> str:
    """What the model writes on the CPU."""
    model = Loader(bundled_gguf)()
    try:
        return asyncio.run(text_of(model))
    finally:
        model.kill()


def predictions(loader: Loader, *servers: Server, **load: Any) -> tuple[Placement, Placement]:
    """Where the model would go, by arithmetic and by a dry run."""
    entry = loader.entry(*servers, **load)
    plan = make_plan(entry, ResourceDetector().detect())
    computed = plan.placement()
    return computed, settled(plan, computed, entry)


def check_memory(
    model: LlamaCppModel, computed: Placement, exact: Placement, rel: float = 0.01
) -> None:
    """The dry run told the buffers to a percent (``rel``), the arithmetic to five."""
    assert exact.exact
    assert not computed.exact
    assert model.buffer_bytes == pytest.approx(exact.buffer_bytes, rel=rel)
    assert model.buffer_bytes == pytest.approx(computed.buffer_bytes, rel=0.05)


def placement_of(model: LlamaCppModel) -> Placement:
    assert model.info.placement is not None
    return model.info.placement


async def test_a_model_goes_whole_on_a_server_and_writes_the_same(
    serve: StartServer, load: Loader, text_here: str
) -> None:
    server = serve(2048)
    predicted = predictions(load, server)
    model = load(server)
    placement = placement_of(model)
    assert (placement.device, placement.gpu_layers, placement.gpus) == (server.label, 31, (0,))
    check_memory(model, *predicted)
    assert placement.memory[server.label].overhead == 0
    assert await text_of(model) == text_here


async def test_two_servers_share_by_what_is_free_where_none_has_room_for_all(
    serve: StartServer, load: Loader, text_here: str
) -> None:
    large, small = serve(HEADROOM + 110), serve(HEADROOM + 65)
    predicted = predictions(load, small, large)
    model = load(small, large)
    placement = placement_of(model)
    assert placement.device == f"{small.label} + {large.label}"
    assert (placement.gpu_layers, placement.gpus) == (31, (0, 1))
    assert sum(placement.tensor_split) == 31
    there, here = (placement.memory[server.label] for server in (large, small))
    kept = there.weights + there.kv, here.weights + here.kv
    assert kept[0] / sum(kept) == pytest.approx(110 / 175, abs=0.03)  # a layer is 2.5 %
    # Without allocation llama.cpp counts one input of the pipeline more on the last device.
    check_memory(model, *predicted, rel=0.03)
    assert predicted[1].buffer_bytes >= model.buffer_bytes
    assert await text_of(model) == text_here


async def test_what_does_not_fit_on_a_server_stays_here(
    serve: StartServer, load: Loader, text_here: str
) -> None:
    server = serve(HEADROOM + 70)
    predicted = predictions(load, server)
    model = load(server)
    placement = placement_of(model)
    assert placement.device == f"{server.label} + {CPU}"
    assert 0 < placement.gpu_layers < 31
    check_memory(model, *predicted)
    assert await text_of(model) == text_here


async def test_a_server_that_dies_while_it_computes(serve: StartServer, load: Loader) -> None:
    server = serve(2048)
    model = load(server)

    async def ask() -> None:
        stream = model.stream("Count to a thousand.", max_tokens=500, temperature=0)
        async for event in stream:
            if isinstance(event, TextDelta):
                server.kill()

    with pytest.raises(EngineCrashedError, match=server.endpoint) as caught:
        await ask()
    assert caught.value.partial_text
    assert "was lost" in str(caught.value)
    assert not model.usable
    assert await text_of(load())


def test_a_server_that_dies_while_the_model_is_loaded(serve: StartServer, load: Loader) -> None:
    server, other = serve(HEADROOM + 110), serve(HEADROOM + 110)
    entry = load.entry(server, other)

    def progress(fraction: float) -> None:
        server.kill()

    start = time.monotonic()
    with pytest.raises(ModelLoadError, match=f"{server.endpoint} was lost") as caught:
        open_model(entry, LoadControl(progress=progress))
    assert other.endpoint not in caught.value.problem
    assert time.monotonic() - start < SECONDS + 4


def failed_load(load: Loader, *servers: Server) -> tuple[str, float]:
    """The message of a load that fails, and how long it took."""
    start = time.monotonic()
    with pytest.raises(ModelLoadError) as caught:
        load(*servers)
    return str(caught.value), time.monotonic() - start


def test_a_server_that_is_gone_is_named_within_seconds(serve: StartServer, load: Loader) -> None:
    gone, there = serve(2048), serve(2048)
    gone.kill()
    message, seconds = failed_load(load, there, gone)
    assert gone.endpoint in message
    assert there.endpoint not in message
    assert "ggml-rpc-server" in message
    assert seconds < SECONDS
    assert load(there).usable


def test_a_server_that_another_model_uses_is_told_so(serve: StartServer, load: Loader) -> None:
    server = serve(2048)
    first = load(server)
    message, seconds = failed_load(load, server)
    assert f"{server.endpoint} accepts connections but does not answer" in message
    assert "one program at a time" in message
    assert seconds < SECONDS + 4
    assert first.usable


def test_a_server_that_is_frozen_before_a_load(serve: StartServer, load: Loader) -> None:
    server = serve(2048)
    server.freeze()
    message, seconds = failed_load(load, server)
    assert f"{server.endpoint} accepts connections but does not answer" in message
    assert seconds < SECONDS + 4


def test_a_server_that_freezes_in_a_load(serve: StartServer, load: Loader) -> None:
    server = serve(2048)
    entry = load.entry(server)
    start = time.monotonic()
    with pytest.raises(ModelLoadError, match=f"{server.endpoint} stopped responding"):
        open_model(entry, LoadControl(progress=lambda _: server.freeze()))
    assert time.monotonic() - start < 30 + SECONDS


async def test_a_server_that_freezes_after_a_load(serve: StartServer, load: Loader) -> None:
    frozen, well = serve(HEADROOM + 110), serve(HEADROOM + 65)
    model = load(frozen, well)
    frozen.freeze()
    start = time.monotonic()
    with pytest.raises(EngineCrashedError, match=f"{frozen.endpoint} stopped responding") as caught:
        await model.generate(80 * "and so on ", max_tokens=24)
    assert well.endpoint not in str(caught.value).partition("Last lines")[0]
    assert time.monotonic() - start < 15 + 60
    assert await text_of(load())


def answers(*messages: bytes) -> Callable[[socket.socket], None]:
    """Answers requests so, one after the other, and is silent from then on."""

    def serve(connection: socket.socket) -> None:
        for message in messages:
            connection.recv(4096)
            connection.sendall(message)

    return serve


def told(*bytes_: int) -> bytes:
    return struct.pack("<Q", len(bytes_)) + bytes(bytes_)


@pytest.mark.parametrize(
    "answer",
    [
        answers(),
        answers(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"),
        answers(random.Random(0).randbytes(4096)),
        answers(told(99, 0, 0)),
        answers(told(*bytes(3)), told(1, 0, 0, 0)),
        socket.socket.close,
    ],
    ids=["silent", "http", "garbage", "another version", "an old one", "closes"],
)
def test_what_is_no_server_of_this_llama_cpp_is_refused(
    answer: Callable[[socket.socket], None], load: Loader, serve: StartServer
) -> None:
    connections = []

    def accept(listening: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connections.append(listening.accept()[0])
                with suppress(OSError):
                    answer(connections[-1])

    with socket.create_server(("127.0.0.1", 0)) as listening:
        Thread(target=accept, args=(listening,), daemon=True).start()
        endpoint = f"127.0.0.1:{listening.getsockname()[1]}"
        message, seconds = failed_load(load, Server(endpoint, serve(64).process))
    assert f"the RPC server {endpoint}" in message
    assert seconds < 15 + SECONDS


def test_what_listens_but_is_no_rpc_server_is_refused(load: Loader, serve: StartServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        endpoint = f"127.0.0.1:{other.getsockname()[1]}"
        message, seconds = failed_load(load, Server(endpoint, serve(64).process))
    assert endpoint in message
    assert seconds < SECONDS + 4


# ---------------------------------------------------------------- mixtures of experts


@pytest.fixture(params=["mixtral", "qwen3moe"])
def load_experts(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Loader]:
    loader = Loader(write_tiny(request.param, tmp_path))
    yield loader
    for model in loader.models:
        model.kill()


@pytest.mark.parametrize("cpu_experts", [-1, 2])
async def test_experts_stay_here_as_asked_and_the_text_is_the_same(
    cpu_experts: int, serve: StartServer, load_experts: Loader
) -> None:
    server = serve(2048)
    wish = {"gpu_layers": -1, "cpu_experts": cpu_experts}
    predicted = predictions(load_experts, server, **wish)
    model = load_experts(server, **wish)
    placement = placement_of(model)
    assert placement.device == f"{server.label} + {CPU}"
    assert (placement.gpu_layers, placement.cpu_experts) == (5, 4 if cpu_experts < 0 else 2)
    check_memory(model, *predicted)
    for device, parts in predicted[1].memory.items():
        computed = predicted[0].memory[device]
        assert computed.weights == parts.weights
        assert computed.buffers == pytest.approx(parts.buffers, rel=0.05)
    texts = {await text_of(each) for each in (model, load_experts())}
    assert len(texts) == 1


async def test_experts_stay_here_where_all_else_fits_on_the_server(
    serve: StartServer, load_experts: Loader
) -> None:
    model = load_experts(serve(HEADROOM + 10))
    placement = placement_of(model)
    assert (placement.gpu_layers, placement.cpu_experts) == (5, 3)
    assert "the experts of 3 stay in main memory" in placement.reason
    assert placement.is_compromise
    assert await text_of(model) == await text_of(load_experts())
