"""Build the installed version of llama.cpp with its RPC backend into a folder of its own.

    python tests/devices/build_rpc.py FOLDER [--source llama_cpp_python-X.tar.gz] [--jobs N]

FOLDER then has a package ``llama_cpp``, which is used instead of the installed one where FOLDER is
first in ``PYTHONPATH``. Beside its libraries are ``ggml-rpc-server``, ``llama-bench`` and
``device_memory.so``, with which a server claims to have less memory. The tests of devices find it
by ``NBLLM_RPC_BUILD=FOLDER``. It takes about six minutes of two cores. For Linux.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

_TARGETS = ("llama", "ggml-rpc-server", "llama-bench")
_CMAKE_OPTIONS = (
    "-DCMAKE_BUILD_TYPE=Release",
    "-DBUILD_SHARED_LIBS=ON",
    "-DGGML_RPC=ON",
    "-DLLAMA_CURL=OFF",
    "-DLLAMA_BUILD_SERVER=OFF",
    "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF",
    "-DLLAMA_BUILD_APP=OFF",
    "-DCMAKE_BUILD_WITH_INSTALL_RPATH=ON",
    "-DCMAKE_INSTALL_RPATH=$ORIGIN",
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--source", type=Path, help="the sdist, where it is here already")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        sdist = arguments.source or _downloaded(work)
        with tarfile.open(sdist) as archive:
            archive.extractall(work, filter="data")
        (source,) = work.glob("llama_cpp_python-*/")
        binaries = _built(source / "vendor" / "llama.cpp", work / "build", arguments.jobs)
        _install(source / "llama_cpp", binaries, arguments.folder / "llama_cpp")
    print(f"export NBLLM_RPC_BUILD={arguments.folder.resolve()}")


def _downloaded(work: Path) -> Path:
    version = importlib.metadata.version("llama-cpp-python")
    pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", ":all:"]
    subprocess.run([*pip, "--dest", str(work), f"llama-cpp-python=={version}"], check=True)
    (sdist,) = work.glob("llama_cpp_python-*.tar.gz")
    return sdist


def _built(source: Path, build: Path, jobs: int) -> Path:
    """The folder with the libraries and programs."""
    subprocess.run(["cmake", "-S", source, "-B", build, *_CMAKE_OPTIONS], check=True)
    targets = [argument for target in _TARGETS for argument in ("--target", target)]
    subprocess.run(["cmake", "--build", build, "-j", str(jobs), *targets], check=True)
    return build / "bin"


def _install(package: Path, binaries: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(package, target, ignore=shutil.ignore_patterns("lib"))
    shutil.copytree(binaries, target / "lib")
    limiter = Path(__file__).with_name("device_memory.c")
    library = target / "lib" / "device_memory.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, limiter, "-ldl"], check=True)


if __name__ == "__main__":
    main()
