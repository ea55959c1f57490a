"""``%llm_config``: show, set, save and load how the magics behave."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING

from IPython.core.magic import line_magic, magics_class, no_var_expand
from traitlets import Bool

from nbllm.notebook.flags import Help, flag, parser_of, with_help
from nbllm.notebook.magic_line import Flags, parse
from nbllm.notebook.running_cell import brief_errors
from nbllm.notebook.session import NotebookSession, SessionMagics

if TYPE_CHECKING:
    import pandas as pd

    from nbllm.notebook.magic_settings import NbLLM
    from nbllm.notebook.tables import Table

__all__ = ["ConfigMagics"]

CONFIG = Help(
    """
    %llm_config                                   every setting, as a DataFrame
    %llm_config model temperature                 these two, with who set them
    %llm_config model=phi temperature=0.2         for this kernel
    %llm_config system="Answer in French." show_status=False
    %llm_config temperature 0.5                   the same as temperature=0.5
    %llm_config temperature=                      back to its default
    %llm_config --save nbllm.json                 what differs from the defaults
    %llm_config --load nbllm.json
    %llm_config --allow-key LAB_KEY=https://lab.example
    %llm_config magic_prefix=nbllm                %%nbllm, where another extension has %%llm
""",
    (
        flag(
            "settings",
            nargs="*",
            metavar="NAME[=VALUE]",
            help="Settings and generation options by name. A name alone shows it; an empty "
            "value resets it to the default.",
        ),
        flag("--load", metavar="FILE", help="Read settings from a JSON file first."),
        flag("--save", metavar="FILE", help="Write the settings to a JSON file at the end."),
        flag(
            "--allow-key",
            action="append",
            default=[],
            metavar="VARIABLE=ADDRESS",
            help="Allow sending the key in an environment variable to an "
            "address; remembered for you on this "
            "machine.",
        ),
        flag(
            "--disallow-key",
            action="append",
            default=[],
            metavar="VARIABLE=ADDRESS",
            help="Revoke a permission given with --allow-key.",
        ),
        flag("--reset", action="store_true", help="Reset everything to its default first."),
    ),
)


class ConfigFlags(Flags):
    """What ``CONFIG`` explains."""

    settings: list[str]
    save: str | None
    load: str | None
    reset: bool
    allow_key: list[str]
    disallow_key: list[str]


@magics_class
class ConfigMagics(SessionMagics):
    """The magic for the settings."""

    def __init__(self, session: NotebookSession) -> None:
        super().__init__(session)
        words, traits = session.completions.words, session.settings.traits(config=True)
        switches = [name for name, trait in traits.items() if isinstance(trait, Bool)]
        words["llm_config.settings"] = partial(_names, list(traits))
        words["llm_config.model="] = words["model"]
        for name in switches:
            words[f"llm_config.{name}="] = ("True", "False").__iter__

    @no_var_expand
    @with_help(CONFIG)
    @line_magic
    def llm_config(self, line: str) -> pd.DataFrame | None:
        """Show the settings of this kernel as a DataFrame, or change, save and load them.

        ``%config NbLLM`` and ``c.NbLLM.…`` in ``ipython_config.py`` set them too. A file of
        settings is read with ``--load`` only.
        """
        args = parse(parser_of(self, "llm_config"), line, ConfigFlags())
        from nbllm.core.api_keys import allow_key, disallow_key
        from nbllm.notebook.settings import setting_changes as values

        settings = self.session.settings
        with brief_errors():
            asked_for, typed = values.split_words(settings, args.settings)
            wanted = [
                *(values.defaults(settings) if args.reset else ()),
                *(values.load(settings, args.load) if args.load else ()),
                *typed,
            ]
            values.change_all(settings, wanted)
            if settings.model and "model" in dict(wanted):
                self._tell_of_model(settings.model)
            for word in args.allow_key:
                allow_key(*word.partition("=")[::2])
            for word in args.disallow_key:
                disallow_key(*word.partition("=")[::2])
            if args.save:
                values.save(settings, args.save)
        if line.strip() and not asked_for:
            return None
        return _table(settings, asked_for)

    def _tell_of_model(self, name: str) -> None:
        """Say that no model is called so; it may be there later."""
        from nbllm.core.errors import NbllmError

        manager = self.session.manager
        try:
            if all(info.name != name for info in manager.list_loaded_models()):
                manager.find_model(name)
        except NbllmError as error:
            words = f"model is set to {name!r}, which is not available yet: {error}"
            self.session.open_view("llm_config").keep(words)


def _names(settings: list[str]) -> list[str]:
    from nbllm.notebook.settings.setting_changes import OPTIONS

    return [*settings, *OPTIONS]


def _table(settings: NbLLM, names: Sequence[str] = ()) -> Table:
    """One row a setting: what it is, who set it so, what it would be, what it means.

    ``names`` are those to show, generation options too; without any, all settings.
    """
    import pandas as pd

    from nbllm.notebook.tables import Table

    shown = names or sorted(settings.trait_names(config=True))
    return Table(pd.DataFrame([_row(settings, name) for name in shown], dtype="string"))


def _row(settings: NbLLM, name: str) -> dict[str, str]:
    from nbllm.notebook.settings.setting_changes import OPTIONS

    if name in OPTIONS:
        value, default, meaning = settings.options.get(name), None, OPTIONS[name].about
        configured = settings.configured["options"].get(name)
    else:
        value, default = getattr(settings, name), settings.trait_defaults(name)
        meaning, configured = settings.traits()[name].help, settings.configured[name]
    return {
        "setting": name,
        "value": _text(value),
        "set by": _origin(value, default, configured),
        "default": _text(default),
        "meaning": meaning,
    }


def _origin(value: object, default: object, configured: object) -> str:
    if value == default:
        return "default"
    return "IPython's configuration" if value == configured else "this kernel"


def _text(value: object) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, default=asdict)
