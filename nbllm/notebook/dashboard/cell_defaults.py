"""What holds for the cells of this kernel: how they load models, and which one answers them."""

from __future__ import annotations

from collections.abc import Sequence

from IPython.core.getipython import get_ipython

from nbllm.core.loading.loads import ModelStatus
from nbllm.core.model_manager import ModelManager
from nbllm.core.types import LoadOptions
from nbllm.notebook.session import NotebookSession, SessionMagics

__all__ = ["CellDefaults"]


class CellDefaults:
    """The defaults of the cells that use ``manager``.

    The extension may come and go while a dashboard is shown, so its session is looked for each
    time; without one the model used last answers.
    """

    def __init__(self, manager: ModelManager) -> None:
        self._manager = manager

    def load_options(self) -> LoadOptions:
        """How ``%llm_load`` loads where no flag says otherwise."""
        session = self._session()
        return session.load_options() if session else LoadOptions()

    def magic(self) -> str:
        """What ``%%llm`` is called."""
        session = self._session()
        return session.magic_name("llm") if session else "llm"

    def model(self, statuses: Sequence[ModelStatus]) -> str | None:
        """The name of the model that answers where a cell names none, of those in ``statuses``.

        None where that is one that is yet to be loaded.
        """
        names = [status.info.name for status in statuses if status.state == "loaded"]
        session = self._session()
        if session and session.settings.model:
            chosen = session.settings.model
            alike = [name for name in names if name.casefold().startswith(chosen.casefold())]
            return chosen if chosen in names else alike[0] if len(alike) == 1 else None
        used = max(statuses, key=lambda status: status.used, default=None)
        return used.info.name if used and used.info.name in names else None

    def choose(self, name: str) -> None:
        """Have a loaded model answer from now on where a cell names none.

        Without a setting that is the one used last. Raises ``ModelNotFoundError``.
        """
        self._manager.get_model(name)
        session = self._session()
        if session and session.settings.model:
            session.settings.model = name

    def _session(self) -> NotebookSession | None:
        shell = get_ipython()
        registry = shell.magics_manager.registry.values() if shell else ()
        sessions = (magics.session for magics in registry if isinstance(magics, SessionMagics))
        return next((each for each in sessions if each.manager is self._manager), None)
