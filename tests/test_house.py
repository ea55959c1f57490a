"""The script that measures the package's structure counts what it says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / ".ci" / "house.py"
SOURCES = {
    "__init__.py": "",
    "first.py": "def f():\n    'Documented.'\n    from nbllm.second import g\n",
    "second.py": "from nbllm.room import other\ndef g(): ...\n",
    "room/__init__.py": "",
    "room/other.py": "from nbllm import first\n",
    "room/typed.py": "if TYPE_CHECKING:\n    from nbllm.room import alone\n",
    "room/alone.py": "from nbllm.room import typed\n",
    "shed/__init__.py": "",
    "shed/other.py": "def long():\n    'Documented.'\n" + "    x = 1\n" * 60,
}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the script prints of a small package."""
    root = tmp_path_factory.mktemp("house")
    for name, text in SOURCES.items():
        path = root / "nbllm" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    command = [sys.executable, str(SCRIPT), "--no-prompt", "--names", "--root", str(root)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    "line",
    [
        "6  modules\n",
        "4  modules with one importer\n",
        "1  module names that repeat  (at most 3)\n             other x2\n",
        "0  files over 350 lines",
        "1  functions over 50 lines  (at most 0)\n             nbllm.shed.other.long 62\n",
        "1  import circles, local imports counted",
        "             nbllm.first <-> nbllm.room.other <-> nbllm.second\n",
        "3  public functions, classes and methods\n",
        "1  of these without a docstring  (at most 0)\n             nbllm.second.g\n",
    ],
)
def test_the_table_tells(table: str, line: str) -> None:
    assert line in table


def test_a_limit_that_is_exceeded_fails_the_check(tmp_path: Path) -> None:
    (tmp_path / "nbllm").mkdir()
    (tmp_path / "nbllm" / "first.py").write_text("def bare(): ...\n")
    command = [sys.executable, str(SCRIPT), "--no-prompt", "--check", "--root", str(tmp_path)]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 1
