"""nbllm's own folder of files that were downloaded from addresses; see ``nbllm.hub.places``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from nbllm.core.catalogue.programs import ModelFolders

__all__ = ["DOWNLOADS", "downloads_folder"]


def downloads_folder() -> Path:
    """The folder; each file lies in one of its own in it."""
    from platformdirs import user_data_path

    return user_data_path("nbllm") / "downloads"


def _folders() -> Iterable[Path]:
    return [downloads_folder()]


DOWNLOADS = ModelFolders("downloads", "downloads", _folders)
