"""``map_frame`` on a Dask cluster."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from nbllm.core.errors import (
    InvalidOptionError,
    MissingDependencyError,
    ModelFileError,
    ModelNotFoundError,
)
from nbllm.core.model_interface import ModelInterface
from nbllm.core.model_manager import default_manager
from nbllm.core.texts import shown

if TYPE_CHECKING:
    from distributed import Client

    from nbllm.batches.cluster.cluster_model import ClusterModel
    from nbllm.core.model_manager import ModelManager
    from nbllm.core.types import ModelInfo
    from nbllm.notebook.batch.frame_run import FrameRun
    from nbllm.notebook.loaded_model import LoadedModel

__all__ = ["cluster_model", "told_of_workers", "worker_notes"]

_SAME_ANYWHERE = ("bundled", "vendor", "server")
"""What a name alone means on every machine; a server's address may be another one there."""


def cluster_model(
    client: Client,
    model: str | os.PathLike[str] | ModelInterface | LoadedModel | None,
    manager: ModelManager | None,
) -> ClusterModel:
    """The model on the workers of a cluster, which are not asked yet.

    ``model`` is loaded here only where it is already. What it takes of budgets counts in those of
    the ``manager``. Raises ``InvalidOptionError`` for what is not a client that can be waited for.
    """
    _check(client)
    from nbllm.batches.cluster.cluster_model import ClusterModel

    used = manager or default_manager()
    name, entry = _wanted(model, used)
    found = ClusterModel(client, name, entry)
    found.spend_from(used.budgets)
    found.report_to(used.activity)
    return found


def _check(client: object) -> None:
    try:
        from distributed import Client
    except ImportError:
        raise MissingDependencyError("distributed", purpose="client=…", extra="dask") from None
    if not isinstance(client, Client):
        raise InvalidOptionError(
            "client", f"must be a Client of dask.distributed (got {shown(client)})"
        )
    if client.asynchronous:
        raise InvalidOptionError(
            "client", "must not be asynchronous, as map_frame waits for it; make it with Client(…)"
        )
    if client.status != "running":
        raise InvalidOptionError(
            "client", f"is not connected to a scheduler (it is {client.status}); make a new one"
        )


def _wanted(
    model: str | os.PathLike[str] | ModelInterface | LoadedModel | None, manager: ModelManager
) -> tuple[str, ModelInfo | None]:
    """The model's name, and what this machine knows of it."""
    if model is None:
        try:
            model = manager.get_model()
        except ModelNotFoundError:
            return manager.bundled_model().name, None
    if not isinstance(model, str | os.PathLike):
        info = model.info
        return info.name, info
    try:
        entry = manager.find_model(str(model))
    except (ModelNotFoundError, ModelFileError):  # the workers may have it
        return str(model), None
    return (str(model), None) if entry.source in _SAME_ANYWHERE else (entry.name, entry)


@contextmanager
def told_of_workers(run: FrameRun) -> Iterator[None]:
    """Warn of the workers that were not asked, however the run ended."""
    try:
        yield
    finally:
        for note in worker_notes(run):
            warnings.warn(note, stacklevel=5)


def worker_notes(run: FrameRun) -> list[str]:
    """Which workers of a cluster were not asked, and why."""
    cluster = sys.modules.get("nbllm.batches.cluster.cluster_model")
    if cluster is None or not isinstance(run.model, cluster.ClusterModel):
        return []
    return [*run.model.notes]
