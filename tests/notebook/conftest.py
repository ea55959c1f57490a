"""A front end that keeps what it is sent, and real kernels."""

from __future__ import annotations

import atexit
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager
from traitlets.config import Config


class FrontEnd:
    """Stands where IPython's display publisher does, and applies messages as notebooks do."""

    def __init__(self) -> None:
        self.outputs: list[tuple[str | None, dict[str, str]]] = []
        self.messages = 0
        self.bytes_sent = 0
        self._clear_next = False

    def publish(
        self,
        data: dict[str, str],
        metadata: dict[str, Any],
        *,
        transient: dict[str, str] | None = None,
        update: bool = False,
    ) -> None:
        self.messages += 1
        self.bytes_sent += sum(len(part.encode()) for part in data.values())
        if self._clear_next:
            self.outputs.clear()
            self._clear_next = False
        display_id = (transient or {}).get("display_id")
        if update:
            self.outputs = [
                (known, data if known == display_id else old) for known, old in self.outputs
            ]
        else:
            self.outputs.append((display_id, data))

    def clear_output(self, *, wait: bool) -> None:
        assert wait, "without waiting the page would jump"
        self._clear_next = True

    @property
    def shown(self) -> list[str]:
        return [data["text/plain"] for _, data in self.outputs]


@pytest.fixture
def front_end() -> FrontEnd:
    return FrontEnd()


@pytest.fixture
def shell() -> Iterator[InteractiveShell]:
    """A shell of the test's own, without history and files."""
    InteractiveShell.clear_instance()
    shell = InteractiveShell.instance(config=Config({"HistoryManager": {"enabled": False}}))
    yield shell
    shell.run_line_magic("unload_ext", "nbllm")
    InteractiveShell.clear_instance()
    atexit.unregister(shell.atexit_operations)  # it collects all garbage, for each shell once more


@dataclass(slots=True)
class Ran:
    """What a cell sent until the kernel was idle again; times are seconds since its start."""

    reply: dict[str, Any]
    messages: list[tuple[float, dict[str, Any]]] = field(default_factory=list)
    interrupt_to_idle_seconds: float | None = None

    def contents(self, *kinds: str) -> list[dict[str, Any]]:
        return [message["content"] for _, message in self.messages if message["msg_type"] in kinds]

    @property
    def answers(self) -> list[str]:
        """The texts of answers, whole or growing; notes and reasoning have other elements."""
        shown = [c["data"] for c in self.contents("display_data", "update_display_data")]
        answers = [d for d in shown if not d.get("text/html", "<div").startswith(("<d", "<style"))]
        return [data["text/plain"] for data in answers]

    @property
    def result(self) -> str:
        (content,) = self.contents("execute_result")
        return str(content["data"]["text/plain"])


class Kernel:
    """A real kernel in a process of its own."""

    def __init__(self) -> None:
        self._manager = KernelManager()
        self._manager.start_kernel()
        self._client: BlockingKernelClient = self._manager.client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=60)

    def run(
        self,
        code: str,
        *,
        interrupt_when_shown: str | None = None,
        cell: str | None = None,
        is_typed: bool = False,
    ) -> Ran:
        """Run a cell, and interrupt it as soon as it has shown the given text.

        ``cell`` is its id, as JupyterLab tells it to the kernel. One that ``is_typed`` is from
        a person, who can be asked for input.
        """
        began = time.monotonic()
        request = self._send(code, cell, is_typed=is_typed)
        messages: list[tuple[float, dict[str, Any]]] = []
        interrupted: float | None = None
        while True:
            message = self._client.get_iopub_msg(timeout=60)
            if message["parent_header"].get("msg_id") != request:
                continue
            now = time.monotonic()
            messages.append((now - began, message))
            content = message["content"]
            if content.get("execution_state") == "idle":
                break
            shown = content.get("data", {}).get("text/plain", "")
            if interrupted is None and interrupt_when_shown and interrupt_when_shown in shown:
                interrupted = time.monotonic()
                self._manager.interrupt_kernel()
        return Ran(self._reply(request), messages, now - interrupted if interrupted else None)

    def _reply(self, request: str) -> dict[str, Any]:
        """The reply to this request; one that an earlier test did not wait for is passed over."""
        while True:
            message = self._client.get_shell_msg(timeout=10)
            if message["parent_header"].get("msg_id") == request:
                return dict(message["content"])

    def _send(self, code: str, cell: str | None, *, is_typed: bool) -> str:
        content = {
            "code": code,
            "silent": False,
            "store_history": True,
            "user_expressions": {},
            "allow_stdin": is_typed,
            "stop_on_error": False,  # else a cell sent soon after one that failed is given up
        }
        metadata = {"cellId": cell} if cell else {}
        message = self._client.session.msg("execute_request", content, metadata=metadata)
        self._client.shell_channel.send(message)
        return str(message["header"]["msg_id"])

    def ok(self, code: str, *, cell: str | None = None) -> Ran:
        ran = self.run(code, cell=cell)
        assert ran.reply["status"] == "ok", ran.contents("error", "stream")
        return ran

    def close(self) -> None:
        self._client.stop_channels()
        self._manager.shutdown_kernel()


@pytest.fixture(scope="session")
def new_kernel() -> type[Kernel]:
    """Call it for a kernel, which the caller closes."""
    return Kernel


@pytest.fixture(scope="module")
def kernel() -> Iterator[Kernel]:
    kernel = Kernel()
    yield kernel
    kernel.close()
