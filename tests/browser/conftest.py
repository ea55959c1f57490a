"""A real JupyterLab or Notebook on a loopback port, and a real Chromium that looks at it.

A test module that wants Notebook 7 has a fixture ``application`` of its own.
``NBLLM_ARTIFACTS`` names the folder for screenshots; without it none are taken.
Playwright's async API is used because its sync one keeps a loop running, which breaks async tests.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import nbformat
import pytest
import pytest_asyncio
from playwright.async_api import (
    Browser,
    BrowserContext,
    Locator,
    Page,
    ViewportSize,
    async_playwright,
)
from playwright.async_api import Error as PlaywrightError

CHROMIUM_FLAGS = [
    "--no-sandbox",  # Chromium's sandbox refuses to start as root
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
]
VIEWPORT: ViewportSize = {"width": 1280, "height": 800}
Theme = Literal["JupyterLab Light", "JupyterLab Dark"]
THEMES: tuple[Theme, ...] = get_args(Theme)
QUIET_NEWS = {"fetchNews": "false", "checkForUpdates": False}


@dataclass(frozen=True)
class Application:
    """A front end: the module that starts it, and where it shows a notebook."""

    module: str
    page: str


APPLICATIONS = {
    "lab": Application("jupyterlab", "lab/tree/{name}?reset&token={token}"),
    "notebook": Application("notebook", "notebooks/{name}?token={token}"),
}


@dataclass(frozen=True)
class JupyterServer:
    """A running server with its front end; ``folder`` is what its file browser shows."""

    application: Application
    url: str
    token: str
    folder: Path

    def add_notebook(self, name: str, sources: list[str]) -> None:
        """Write a notebook of code cells."""
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(s) for s in sources])
        notebook.metadata.kernelspec = {
            "name": "python3",
            "display_name": "Python 3",
            "language": "python",
        }
        nbformat.write(notebook, self.folder / name)

    def page(self, name: str) -> str:
        """The address of a notebook in the front end."""
        return f"{self.url}/{self.application.page.format(name=name, token=self.token)}"


class OpenNotebook:
    """One notebook in a page, driven through the front end's own commands and buttons."""

    def __init__(self, page: Page, file: Path, artifacts: Path | None) -> None:
        self.page, self.file, self.artifacts = page, file, artifacts

    async def command(self, name: str, **args: Any) -> None:
        """Execute one of the front end's commands and wait for its end."""
        await self.page.evaluate(
            "([name, args]) => window.jupyterapp.commands.execute(name, args).then(() => null)",
            [name, args],
        )

    async def select(self, index: int) -> None:
        """Make the cell the active one."""
        await self.page.evaluate(
            "(index) => { window.jupyterapp.shell.currentWidget.content.activeCellIndex = index }",
            index,
        )

    async def run(self, index: int) -> None:
        """Run one cell and wait for its end."""
        await self.select(index)
        await self.command("notebook:run-cell")

    async def start(self, index: int) -> asyncio.Task[None]:
        """Run one cell; the task ends with it."""
        await self.select(index)
        return asyncio.create_task(self.command("notebook:run-cell"))

    async def press_stop(self) -> None:
        """Click the toolbar's ■."""
        await self.page.locator('[data-command="notebook:interrupt-kernel"]:visible').click()

    def output(self, index: int) -> Locator:
        """The outputs of a cell."""
        return self.page.locator(".jp-Notebook .jp-Cell").nth(index).locator(".jp-OutputArea")

    async def watch_lengths(self, index: int) -> None:
        """From now on, note how long the text of a cell's output is at every change."""
        await self.page.evaluate(
            """(index) => {
                const cell = document.querySelectorAll('.jp-Notebook .jp-Cell')[index];
                const output = cell.querySelector('.jp-Cell-outputWrapper');
                window.seenLengths = [];
                new MutationObserver(() => window.seenLengths.push(output.textContent.length))
                    .observe(output, {childList: true, subtree: true, characterData: true});
            }""",
            index,
        )

    async def lengths(self) -> list[int]:
        """The lengths noted so far, in order."""
        seen: list[int] = await self.page.evaluate("window.seenLengths")
        return seen

    async def wait_for_kernel(self, status: Literal["idle", "busy"], seconds: float = 60) -> None:
        """Wait until the kernel reports this state."""
        await self.page.wait_for_function(
            """(status) => window.jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel
                ?.status === status""",
            arg=status,
            timeout=seconds * 1000,
        )

    async def saved(self) -> Any:
        """Save, and read the file as it is on the disk."""
        await self.command("docmanager:save")
        return nbformat.read(self.file, as_version=4)

    async def scroll_to(self, index: int) -> None:
        """Bring a cell to the top of the window."""
        cell = self.page.locator(".jp-Notebook .jp-Cell").nth(index)
        await cell.evaluate("(cell) => cell.scrollIntoView({block: 'start'})")

    async def hide_left_area(self) -> None:
        """Leave the notebook the whole width of the window."""
        await self.page.evaluate("window.jupyterapp.shell.collapseLeft()")

    async def use_theme(self, name: Theme) -> None:
        """Switch the colours of the whole page."""
        await self.command("apputils:change-theme", theme=name)
        await self.page.wait_for_selector(
            f'body[data-jp-theme-name="{name}"]', state="attached", timeout=10_000
        )
        await self.page.wait_for_selector("#jupyterlab-splash", state="detached", timeout=10_000)

    @property
    def themes(self) -> tuple[Theme, ...]:
        """Those to take pictures in, if anybody wants them."""
        return THEMES if self.artifacts else ()

    async def picture(self, name: str) -> None:
        """A screenshot of the window, if anybody wants it."""
        if self.artifacts:
            await self.page.wait_for_timeout(500)  # cells are drawn when they come into sight
            await self.page.screenshot(path=self.artifacts / f"{name}.png")

    async def close(self) -> None:
        """End the kernel, so that it and its models do not outlive the test, and close it."""
        await self.page.evaluate("window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")
        await self.command("docmanager:save")  # else a dialog asks whether to
        await self.command("application:close-all")
        await self.page.wait_for_selector(".jp-Notebook", state="detached", timeout=10_000)


@pytest.fixture(scope="session")
def artifacts() -> Path | None:
    """Where screenshots go; None where nobody wants any."""
    folder = os.environ.get("NBLLM_ARTIFACTS")
    if not folder:
        return None
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    return path


@pytest.fixture(scope="module")
def application() -> Literal["lab", "notebook"]:
    """The front end that the tests of a module use."""
    return "lab"


class Servers:
    """The servers that run: one for each front end, started when a test first asks for it."""

    def __init__(self, ends: ExitStack) -> None:
        self._running: dict[str, JupyterServer] = {}
        self._ends = ends

    def get(self, application: str, folders: pytest.TempPathFactory) -> JupyterServer:
        if application not in self._running:
            server = self._ends.enter_context(_serving(application, folders))
            self._running[application] = server
        return self._running[application]


@pytest.fixture(scope="package")
def servers() -> Iterator[Servers]:
    """No server outlives this folder's tests: others count and kill their child processes."""
    with ExitStack() as ends:
        yield Servers(ends)


@pytest.fixture(scope="module")
def server(
    servers: Servers,
    application: Literal["lab", "notebook"],
    tmp_path_factory: pytest.TempPathFactory,
) -> JupyterServer:
    """A server of the tests' own, without news, with a token."""
    return servers.get(application, tmp_path_factory)


@contextmanager
def _serving(application: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterServer]:
    folder = tmp_path_factory.mktemp(application)
    settings = Path(os.environ["JUPYTERLAB_SETTINGS_DIR"]) / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True, exist_ok=True)
    (settings / "notification.jupyterlab-settings").write_text(json.dumps(QUIET_NEWS))
    port, token = _free_port(), secrets.token_hex(16)
    server = JupyterServer(APPLICATIONS[application], f"http://127.0.0.1:{port}", token, folder)
    log = tmp_path_factory.mktemp(f"{application}-log") / "jupyter.log"
    with log.open("w") as out:
        process = subprocess.Popen(_command(server, port), stdout=out, stderr=out)
    try:
        _wait_until_up(server, process, log)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Window:
    """A browser's one page of a front end, which shows one notebook after the other.

    Loading JupyterLab takes ten times the processor time of opening a notebook in it.
    """

    def __init__(self, context: BrowserContext, artifacts: Path | None) -> None:
        self._context, self._artifacts = context, artifacts
        self._page: Page | None = None
        self._shown: OpenNotebook | None = None

    async def open(self, server: JupyterServer, name: str) -> OpenNotebook:
        """The notebook alone in the page as it is at first, its kernel idle."""
        await self.clear()
        if self._page is None:
            self._page = await self._context.new_page()
        page = self._page
        notebook = self._shown = OpenNotebook(page, server.folder / name, self._artifacts)
        await page.set_viewport_size(VIEWPORT)
        if page.url.startswith(f"{server.url}/lab"):
            await page.evaluate("window.jupyterapp.shell.expandLeft()")
            await notebook.command("docmanager:open", path=name)
        else:
            await page.goto(server.page(name))
        await page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=60_000)
        await notebook.wait_for_kernel("idle")
        return notebook

    async def clear(self) -> None:
        """Close what is shown, and end its kernel."""
        shown, self._shown = self._shown, None
        if shown is None:
            return
        try:
            await shown.close()
        except PlaywrightError:  # Notebook 7 closes none; or a failed test left it in disorder
            await shown.page.close()
            self._page = None


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def browser() -> AsyncIterator[Browser]:
    """Debian's Chromium; the builds that Playwright would download are not needed."""
    chromium = shutil.which("chromium")
    if chromium is None:
        complain = pytest.fail if os.environ.get("CI") else pytest.skip
        complain("no chromium on the PATH; install it with: apt-get install chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_FLAGS)
        yield browser
        await browser.close()


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def window(browser: Browser, artifacts: Path | None) -> AsyncIterator[Window]:
    """The page in which all notebooks of these tests are opened."""
    async with await browser.new_context(viewport=VIEWPORT) as context:
        yield Window(context, artifacts)


@pytest_asyncio.fixture(loop_scope="package")
async def open_notebook(
    window: Window, server: JupyterServer
) -> AsyncIterator[Callable[[str], Any]]:
    """Call it with a file's name: the notebook in the front end, its kernel idle.

    What was open before is closed.
    """
    yield partial(window.open, server)
    await window.clear()


@pytest_asyncio.fixture(scope="module", loop_scope="package")
async def open_shared_notebook(
    window: Window, server: JupyterServer
) -> AsyncIterator[Callable[[str], Any]]:
    """The same for a notebook that stays open for all tests of a module."""
    yield partial(window.open, server)
    await window.clear()


def _command(server: JupyterServer, port: int) -> list[str]:
    return [
        *(sys.executable, "-m", server.application.module),
        "--no-browser",
        "--allow-root",
        "--expose-app-in-browser",
        "--LabApp.news_url=None",
        "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0",
        f"--IdentityProvider.token={server.token}",
        f"--ServerApp.root_dir={server.folder}",
    ]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _wait_until_up(server: JupyterServer, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while not _answers(f"{server.url}/api"):
        if time.monotonic() > deadline or process.poll() is not None:
            raise AssertionError(
                f"{server.application.module} did not come up:\n{log.read_text()[-3000:]}"
            )
        time.sleep(0.2)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except (urllib.error.URLError, ConnectionError):
        return False
