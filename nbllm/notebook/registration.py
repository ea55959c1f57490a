"""How magics come into a shell and leave it: under a prefix, and without harm to others' magics."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from nbllm.notebook.session import SessionMagics

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

__all__ = ["Registration"]

OWN_PREFIX = "llm"


class Registration:
    """Groups of magics in a shell, under names of the reader's choice.

    A magic of somebody else that had one of the names stands there again after ``take_back``.
    """

    def __init__(self, shell: InteractiveShell, groups: Sequence[SessionMagics]) -> None:
        self._shell, self._groups = shell, groups
        self._named = {group: group.magics for group in groups}
        self._displaced: dict[tuple[str, str], Callable[..., Any]] = {}

    def put(self, prefix: str) -> dict[str, str]:
        """Register the magics with ``prefix`` in place of "llm".

        Returns the names that were taken, with the package that had them.
        """
        self.take_back()
        for group in self._groups:
            group.magics = {
                kind: {prefix + name.removeprefix(OWN_PREFIX): magic for name, magic in row.items()}
                for kind, row in self._named[group].items()
            }
            self._displaced.update(self._taken(group))
            self._shell.register_magics(group)
        return {name: _package(magic) for (_, name), magic in self._displaced.items()}

    def take_back(self) -> None:
        """Leave the shell as it was. What somebody has put over one of the magics stays."""
        manager = self._shell.magics_manager
        for group in self._groups:
            manager.registry.pop(type(group).__name__, None)
            for kind, row in group.magics.items():
                # Only under our names: looking at others would load IPython's lazy magics.
                for name in [
                    name for name in row if _owner(manager.magics[kind].get(name)) is group
                ]:
                    del manager.magics[kind][name]
        for (kind, name), magic in self._displaced.items():
            manager.magics[kind].setdefault(name, magic)
        self._displaced.clear()

    def _taken(self, group: SessionMagics) -> Iterator[tuple[tuple[str, str], Callable[..., Any]]]:
        for kind, row in group.magics.items():
            known = self._shell.magics_manager.magics[kind]
            yield from (((kind, name), known[name]) for name in row if name in known)


def _owner(magic: object) -> object:
    return getattr(magic, "__self__", None)


def _package(magic: Callable[..., Any]) -> str:
    return magic.__module__.partition(".")[0]
