"""The settings of the magics, for ``%config NbLLM`` and ``ipython_config.py``."""

from __future__ import annotations

import builtins
import keyword
import sys
from importlib.util import find_spec
from typing import Any

from traitlets import Bool, Dict, Integer, List, TraitError, Unicode, validate
from traitlets.config import Configurable

from nbllm.core.texts import is_well_formed, shown

__all__ = ["USUAL_PREFIX", "NbLLM"]

USUAL_PREFIX, _LONGEST_PREFIX = "llm", 40
_MOST_TOKENS = 10**9
_LONGEST_TEXT = 1_000_000


class NbLLM(Configurable):
    """How the magics behave, in one kernel. ``c.NbLLM.model = "phi"`` sets one in a config file.

    ``configured`` are the values that IPython's configuration gave, and the defaults of the rest.
    """

    model = Unicode("", help="Default model; empty: the model used last.").tag(config=True)
    system = Unicode("", help="System prompt for every request.").tag(config=True)
    options = Dict(
        help="Default generation options, overridden by flags: {'temperature': 0.2}."
    ).tag(config=True)
    cell_limit = Integer(
        1000,
        help="Maximum length of a cell's answer in tokens, unless --max-tokens or an option "
        "sets one; models behind an API get four times as much. 0: no limit.",
    ).tag(config=True)
    preview_above = Integer(
        1000,
        help="%%llm --map over more rows shows 5 of them, and what the rest will take, before it "
        "goes on; 0: never.",
    ).tag(config=True)
    device = Unicode("", help="Default device for loading models.").tag(config=True)
    context = Integer(0, help="Default context length in tokens; 0: chosen by nbllm.").tag(
        config=True
    )
    show_status = Bool(
        default_value=True, help="Show the status line under an answer: model, tokens, speed, cost."
    ).tag(config=True)
    show_reasoning = Bool(
        default_value=True, help="Show the model's reasoning, folded, above its answer."
    ).tag(config=True)
    stop_button = Bool(
        default_value=True, help="Show a Stop button next to answers that take a while."
    ).tag(config=True)
    magic_prefix = Unicode(USUAL_PREFIX, help="Prefix of the magics' names.").tag(config=True)

    prompt_files = List(
        Unicode(),
        help="Files and folders outside the notebook's folder, or hidden, that {file:…} may read.",
    ).tag(config=True)
    nest_asyncio = Bool(
        default_value=False,
        help="Apply nest_asyncio2, for cells that call asyncio.run; cannot be undone.",
    ).tag(config=True)

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.configured = {name: getattr(self, name) for name in self.trait_names(config=True)}

    @validate("magic_prefix")
    def _check_prefix(self, proposal: Any) -> str:
        prefix: str = proposal["value"]
        problem = _prefix_problem(prefix) or self._clash(prefix)
        if problem:
            raise TraitError(f"magic_prefix: {prefix[:40]!r} {problem}")
        return prefix

    def _clash(self, prefix: str) -> str:
        """The magic of somebody else's whose place one of nbllm's would take, in words.

        The default may: who loads the extension asks for these names, and is told.
        """
        manager = getattr(self.parent, "magics_manager", None)
        if manager is None or prefix == USUAL_PREFIX:
            return ""
        magics = {**manager.magics["line"], **manager.magics["cell"]}
        alike = (name for name in magics if name == prefix or name.startswith(f"{prefix}_"))
        theirs = [name for name in alike if not _is_own(magics[name])]
        return f"would replace another extension's magic: %{theirs[0]}" if theirs else ""

    @validate("options")
    def _check_options(self, proposal: Any) -> dict[str, Any]:
        from nbllm.core.errors import InvalidOptionError
        from nbllm.core.types import GenerationOptions

        try:
            return GenerationOptions.of(proposal["value"]).set_values()
        except InvalidOptionError as error:
            raise TraitError(str(error)) from None

    @validate("cell_limit", "preview_above")
    def _check_count(self, proposal: Any) -> int:
        limit: int = proposal["value"]
        if not 0 <= limit <= _MOST_TOKENS:
            name = proposal["trait"].name
            raise TraitError(
                f"{name} must be between 0 (no limit) and {_MOST_TOKENS:,} (got {shown(limit)})"
            )
        return limit

    @validate("model", "system")
    def _check_text(self, proposal: Any) -> str:
        text: str = proposal["value"]
        name, most = proposal["trait"].name, _LONGEST_TEXT
        if not is_well_formed(text) or "\0" in text or len(text) > most:
            raise TraitError(
                f"{name} must be text of at most {most:,} characters (got {shown(text)})"
            )
        return text

    @validate("prompt_files")
    def _check_prompt_files(self, proposal: Any) -> list[str]:
        files: list[str] = proposal["value"]
        for file in files:
            if not file or "\0" in file:
                raise TraitError(f"prompt_files must be paths (got {shown(file)})")
        return files

    @validate("device")
    def _check_device(self, proposal: Any) -> str:
        device: str = _checked_load("device", proposal["value"]) or ""
        return device

    @validate("context")
    def _check_context(self, proposal: Any) -> int:
        context: int = _checked_load("context_length", proposal["value"]) or 0
        return context

    @validate("nest_asyncio")
    def _check_nest_asyncio(self, proposal: Any) -> bool:
        if proposal["value"] and find_spec("nest_asyncio2") is None:
            raise TraitError("nest_asyncio needs a package: pip install nest_asyncio2")
        return bool(proposal["value"])


def _prefix_problem(prefix: str) -> str:
    """Why magics cannot be called so, "" where they can."""
    if not (prefix.isidentifier() and prefix.isascii() and len(prefix) <= _LONGEST_PREFIX):
        return "is not a valid prefix for magics"
    if keyword.iskeyword(prefix) or hasattr(builtins, prefix):
        return "is a Python name"
    return "is a module of Python" if prefix in sys.stdlib_module_names else ""


def _is_own(magic: Any) -> bool:
    return str(getattr(magic, "__module__", "")).partition(".")[0] == __package__.partition(".")[0]


def _checked_load(option: str, value: object) -> Any:
    """A load option's value as loads take it, None where it is empty. Raises ``TraitError``."""
    from nbllm.core.errors import InvalidOptionError
    from nbllm.core.types import LoadOptions

    wish: dict[str, Any] = {option: value or None}
    try:
        return getattr(LoadOptions(**wish), option)
    except InvalidOptionError as error:
        raise TraitError(str(error)) from None
