"""Where a key comes from: the environment, a ``.env`` file, the keyring; never a config.

Where it may go is decided by ``nbllm.core.api_keys``, before it is looked for.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path

import httpx

from nbllm.cloud.secrets import Secret
from nbllm.cloud.transport.connections import is_loopback
from nbllm.core.api_keys import is_allowed
from nbllm.core.errors import AuthenticationError, ModelError, PermissionDeniedError
from nbllm.core.paths import current_folder
from nbllm.core.types import ModelInfo

__all__ = [
    "KEYRING_SERVICE",
    "KeySource",
    "address_of",
    "find_key",
    "key_source",
    "key_variables",
]

KEYRING_SERVICE = "nbllm"
"""The service under which ``keyring set nbllm OPENAI_API_KEY`` stores a key."""

_ALSO = {"GEMINI_API_KEY": ("GOOGLE_API_KEY",)}


def key_variables(info: ModelInfo, usual: str | None) -> tuple[str, ...]:
    """The variables that may hold the key, first choice first; ``usual`` is the vendor's."""
    if info.api_key_env:
        return (info.api_key_env,)
    return (usual, *_ALSO.get(usual, ())) if usual else ()


def address_of(url: httpx.URL) -> str:
    """The scheme, host and port of a URL as httpx reads it, which is what it connects to."""
    return f"{url.scheme}://{url.netloc.decode('ascii')}"


class KeySource:
    """The key of a model, as it is now: one that was set anew in the environment counts at once.

    It is given out for ``address`` only. ``withheld`` are the variables that may not go there.
    """

    def __init__(
        self,
        model: str,
        address: str,
        variables: Sequence[str],
        secret: Secret | None,
        withheld: Sequence[str] = (),
    ) -> None:
        self._model, self._address, self._variables = model, address, tuple(variables)
        self._secret, self._withheld = secret, tuple(withheld)

    def current(self, address: str) -> Secret | None:
        """The key to send to ``address``; None where none is needed, or none may go there.

        Raises ``AuthenticationError`` for one that cannot be sent.
        """
        if address != self._address:
            return None
        found = key_from_environment(self._variables)
        if found is not None:
            self._secret = found
        if self._secret is not None and not _fits_a_header(self._secret):
            raise AuthenticationError(
                self._model,
                f"the key in {self._variables[0]} has a space, a line break or a character outside "
                "ASCII, so it was not copied correctly. Set it again.",
            )
        return self._secret

    def in_use(self) -> Secret | None:
        """The key that was sent last, to be kept out of what is shown."""
        return self._secret

    def explain(self, error: ModelError) -> None:
        """Say in a refusal that no key was sent, and how to allow it; once."""
        if not self._withheld or "nbllm.allow_key" in str(error):
            return
        if isinstance(error, AuthenticationError | PermissionDeniedError):
            error.args = (
                f"{error} No key was sent: {_not_allowed(self._withheld, self._address)}",
            )


def key_source(info: ModelInfo, usual: str | None, base_url: str) -> KeySource:
    """Where the model's key comes from; may block while the system's keyring is unlocked.

    ``usual`` is the vendor's variable, ``base_url`` where requests go. Raises
    ``AuthenticationError`` that says how to set the key where one is needed (by a vendor, and by
    a server that names one), and how to allow it where it may not go there.
    """
    variables, address = key_variables(info, usual), address_of(httpx.URL(base_url))
    allowed = [variable for variable in variables if is_allowed(variable, address)]
    if info.api_key_env and not allowed:
        raise AuthenticationError(info.name, _not_allowed(variables, address))
    config = info.config_file
    folders = filter(None, (config and config.parent, current_folder()))
    secret = find_key(allowed, folders)
    if secret is None and allowed and (info.base_url is None or info.api_key_env):
        raise AuthenticationError(info.name, _how_to_set(allowed))
    source = KeySource(info.name, address, allowed, secret, [] if allowed else variables)
    source.current(address)
    return source


def _not_allowed(variables: Sequence[str], address: str) -> str:
    name = variables[0]
    risk = " It would be sent over the network unencrypted." if _in_clear_text(address) else ""
    return (
        f"the key in {name} is sent to {address} only if you allow it, because only the "
        f"model's entry says that it belongs there.{risk} If it does, allow it once:\n"
        f'    import nbllm; nbllm.allow_key("{name}", "{address}")\n'
        f"or %llm_config --allow-key {name}={address}\n"
        "and load the model again."
    )


def _in_clear_text(address: str) -> bool:
    url = httpx.URL(address)
    return url.scheme == "http" and not is_loopback(url.host)


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
