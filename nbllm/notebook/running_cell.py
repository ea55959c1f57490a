"""Which cell runs now, so that running it again can be told from asking something new."""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

__all__ = ["Cell", "cell_source", "running_cell"]


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell by its ``id``, in one run of it: the ``execution`` has a name of its own."""

    id: str
    execution: str


def running_cell(shell: InteractiveShell) -> Cell:
    """The cell that runs now.

    JupyterLab, Notebook, VS Code and Colab tell its id. Where a kernel's front end tells none
    (nbclient, papermill, consoles) cells with the same source are the same. In a terminal nothing
    is ever run again, so that each input is a cell of its own.
    """
    request = _request(shell)
    header = request.get("header") or {}
    execution = str(header.get("msg_id") or uuid.uuid4().hex)
    metadata = request.get("metadata") or {}
    colab = metadata.get("colab")
    told = metadata.get("cellId") or (colab.get("cell_id") if isinstance(colab, dict) else None)
    if told:
        return Cell(str(told), execution)
    source = cell_source(shell)
    digest = hashlib.sha256(source.encode(errors="replace")).hexdigest()[:16]
    return Cell(f"source-{digest}" if source else execution, execution)


def cell_source(shell: InteractiveShell) -> str:
    """The source of the cell that the front end runs now; "" where the kernel does not tell."""
    content = _request(shell).get("content")
    return str(content.get("code", "")) if isinstance(content, dict) else ""


def _request(shell: InteractiveShell) -> dict[str, Any]:
    get_parent = getattr(shell, "get_parent", None)
    request = get_parent() if get_parent is not None else None
    return request if isinstance(request, dict) else {}
