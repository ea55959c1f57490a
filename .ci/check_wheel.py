"""Checks the built packages, where only the wheel is installed: check_wheel.py DIST MODEL.gguf.

DIST holds the wheel and the sdist; no extra of nbllm may be installed.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import importlib.util
import sys
import tarfile
import warnings
import zipfile
from pathlib import Path, PurePosixPath

IN_SDIST = {
    *("nbllm", "notebooks", "tests", "binder", "docs"),
    *("pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE", "PKG-INFO"),
    *("CONTRIBUTING.md", "SECURITY.md", "noxfile.py"),
}
JUPYTER_SETTINGS = ("jupyter_nbconvert_config.json", "jupyter_server_config.d/nbllm.json")


def check_wheel_contents(wheel: Path) -> None:
    """The package, its type marker, its licence and Jupyter's settings; nothing beside them."""
    names = zipfile.ZipFile(wheel).namelist()
    tops = {PurePosixPath(name).parts[0] for name in names}
    release = wheel.name.rsplit("-", 3)[0]
    assert tops == {"nbllm", f"{release}.dist-info", f"{release}.data"}, tops
    data = {name for name in names if name.startswith(f"{release}.data/")}
    assert data == {f"{release}.data/data/etc/jupyter/{name}" for name in JUPYTER_SETTINGS}, data
    assert "nbllm/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not [name for name in names if "__pycache__" in name or name.endswith(".gguf")]


def check_sdist_contents(sdist: Path) -> None:
    """What the tree tracks, and no leftover of a developer's."""
    with tarfile.open(sdist) as archive:
        tops = {PurePosixPath(name).parts[1] for name in archive.getnames()}
    surplus = {top for top in tops - IN_SDIST if not top.startswith(".")}
    assert not surplus, surplus


def check_bare_import() -> None:
    """Importing costs no optional package, and the version is the wheel's."""
    import nbllm

    assert "site-packages" in str(nbllm.__file__), nbllm.__file__
    assert importlib.util.find_spec("llama_cpp") is None
    assert nbllm.__version__ == importlib.metadata.version("nbllm")
    for name in nbllm.__all__:
        getattr(nbllm, name)


def check_extension() -> None:
    """``%load_ext nbllm`` works in a plain IPython."""
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell.instance()
    shell.run_line_magic("load_ext", "nbllm")
    missing = {"llm", "llm_load", "llm_unload", "llm_models", "llm_devices"} - set(
        shell.magics_manager.magics["line"]
    )
    assert not missing, missing


def check_missing_engine(gguf: Path) -> None:
    """A local model without llama-cpp-python: the error names the line that installs it."""
    from nbllm import ModelManager
    from nbllm.core.errors import MissingDependencyError

    try:
        asyncio.run(ModelManager().load_model(str(gguf)))
    except MissingDependencyError as error:
        message = str(error)
    assert 'pip install "nbllm[local]"' in message, message


def main(dist: Path, gguf: Path) -> None:
    """Run all checks; an assertion ends them."""
    warnings.simplefilter("error")
    (wheel,), (sdist,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
    check_wheel_contents(wheel)
    check_sdist_contents(sdist)
    check_bare_import()
    check_extension()
    check_missing_engine(gguf)
    print(
        f"{wheel.name} and {sdist.name}: contents, import, extension and missing engine are right"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
