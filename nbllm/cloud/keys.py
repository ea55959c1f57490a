"""Where a key comes from: the environment, a ``.env`` file, the keyring; never a config."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from nbllm.cloud.secrets import Secret
from nbllm.core.errors import AuthenticationError
from nbllm.core.paths import current_folder
from nbllm.core.types import ModelInfo

__all__ = ["KEYRING_SERVICE", "KeySource", "find_key", "key_source", "key_variables"]

KEYRING_SERVICE = "nbllm"
"""The service under which ``keyring set nbllm OPENAI_API_KEY`` stores a key."""

_ALSO = {"GEMINI_API_KEY": ("GOOGLE_API_KEY",)}
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


def key_variables(info: ModelInfo, usual: str | None) -> tuple[str, ...]:
    """The variables that may hold the model's key, first choice first.

    ``usual`` is the vendor's own one. It is not used for a server that is reached in clear text
    over a network: that one gets a key only where ``api_key_env`` says which.
    """
    if info.api_key_env:
        return (info.api_key_env,)
    address = urlsplit(info.base_url or "https:")
    if usual is None or (address.scheme == "http" and address.hostname not in _LOOPBACK):
        return ()
    return (usual, *_ALSO.get(usual, ()))


class KeySource:
    """The key of a model, as it is now: one that was set anew in the environment counts at once."""

    def __init__(self, model: str, variables: Sequence[str], secret: Secret | None) -> None:
        self._model, self._variables, self._secret = model, tuple(variables), secret

    def current(self) -> Secret | None:
        """The key to send; None where none is needed.

        Raises ``AuthenticationError`` for one that cannot be sent.
        """
        found = key_from_environment(self._variables)
        if found is not None:
            self._secret = found
        if self._secret is not None and not _fits_a_header(self._secret):
            raise AuthenticationError(
                self._model,
                f"the key in {self._variables[0]} has a blank, a line break or a character outside "
                "ASCII in it, so it was not copied whole or holds too much.",
            )
        return self._secret

    def in_use(self) -> Secret | None:
        """The key that was sent last, to be kept out of what is shown."""
        return self._secret


def key_source(info: ModelInfo, usual: str | None) -> KeySource:
    """Where the model's key comes from; may block while the system's keyring is unlocked.

    ``usual`` is the vendor's variable. Raises ``AuthenticationError`` that says how to set the
    key where one is needed: by a vendor, and by a server that names one.
    """
    variables = key_variables(info, usual)
    config = info.config_file
    folders = filter(None, (config and config.parent, current_folder()))
    secret = find_key(variables, folders)
    if secret is None and variables and (info.base_url is None or info.api_key_env):
        raise AuthenticationError(info.name, _how_to_set(variables))
    source = KeySource(info.name, variables, secret)
    source.current()
    return source


def _fits_a_header(secret: Secret) -> bool:
    """Decided here so that no frame of an error holds the key."""
    key = secret.reveal()
    return key.isascii() and key.isprintable() and " " not in key


def find_key(variables: Iterable[str], folders: Iterable[Path] = ()) -> Secret | None:
    """The first key found: in the environment, else in ``folders``' ``.env``, else in the keyring.

    May block for as long as the system's keyring takes to be unlocked.
    """
    names = list(variables)
    return key_from_environment(names) or _from_files(names, folders) or _from_keyring(names)


def key_from_environment(variables: Iterable[str]) -> Secret | None:
    """The first of the variables that is set to something."""
    return _first(os.environ.get(name) for name in variables)


def _first(values: Iterable[str | None]) -> Secret | None:
    stripped = (value.strip() for value in values if value)
    return next((Secret(value) for value in stripped if value), None)


def _from_files(names: list[str], folders: Iterable[Path]) -> Secret | None:
    for file in (folder / ".env" for folder in folders):
        if names and os.path.isfile(file):  # noqa: PTH113 - a folder that may not be read is no error
            secret = _first(map(_read(file).get, names))
            if secret is not None:
                return secret
    return None


def _read(file: Path) -> dict[str, str | None]:
    from dotenv import dotenv_values

    try:
        return dotenv_values(file, interpolate=False)
    except (OSError, UnicodeDecodeError):  # unreadable is as good as absent: the error names it
        return {}


def _from_keyring(names: list[str]) -> Secret | None:
    if not names or find_spec("keyring") is None:
        return None
    import keyring
    import keyring.errors

    try:
        return _first(keyring.get_password(KEYRING_SERVICE, name) for name in names)
    except keyring.errors.KeyringError:  # locked, or no keyring runs here
        return None


def _how_to_set(variables: Sequence[str]) -> str:
    name = variables[0]
    others = "".join(f" (or {other})" for other in variables[1:])
    return (
        f"no key was found: the environment variable {name}{others} is not set. Set it without "
        f'showing it:\n    import getpass, os; os.environ["{name}"] = getpass.getpass("{name}: ")\n'
        f"or write the line {name}=… into a file named .env beside the config or in the current "
        f"folder, or store it with: keyring set {KEYRING_SERVICE} {name}"
    )
