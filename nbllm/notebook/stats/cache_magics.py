"""``%llm_cache``: answers that are kept, and given out again without asking the model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from IPython.core.magic import line_magic, magics_class, no_var_expand

from nbllm.notebook.flags import Help, flag, parser_of, with_help
from nbllm.notebook.magic_line import Flags, parse, seconds, size_bytes
from nbllm.notebook.running_cell import brief_errors
from nbllm.notebook.session import SessionMagics

if TYPE_CHECKING:
    from nbllm.core.caching.cache import ResultCache
    from nbllm.notebook.tables import Table

__all__ = ["CacheMagics"]

CACHE = Help(
    """
    %llm_cache on                         keep and give out deterministic answers
    %llm_cache on --disk                  in a file, which later kernels use too
    %llm_cache on --disk --ttl 7d --max-size 1GiB
    %llm_cache force                      also answers with chance
    %llm_cache                            what is kept, as a DataFrame
    %llm_cache find Paris
    %llm_cache clear
""",
    (
        flag(
            "action",
            nargs="?",
            choices=("on", "off", "force", "show", "find", "clear"),
            default="show",
            help="What to do (show).",
        ),
        flag("text", nargs="*", help="With find: words of the prompt's beginning."),
        flag("--disk", action="store_true", help="With on or force: in the user's cache folder."),
        flag("--file", metavar="PATH", help="With on or force: in a file of one's own."),
        flag(
            "--ttl",
            type=seconds,
            metavar="TIME",
            help="With on or force: give out no answer that is older: 30m, 12h, 7d (no limit).",
        ),
        flag(
            "--max-size",
            type=size_bytes,
            metavar="SIZE",
            help="With on or force: of all answers; the least recently used go (512MiB).",
        ),
    ),
)


class CacheFlags(Flags):
    """What ``CACHE`` explains."""

    action: Literal["on", "off", "force", "show", "find", "clear"]
    text: list[str]
    disk: bool
    file: str | None
    ttl: float | None
    max_size: int | None


_COLUMNS = {"prompt": "string", "kept (s ago)": "Float64", "size (KiB)": "Float64"}
_MEANING = {
    "off": "Answers are not kept.",
    "on": "Answers at temperature 0 or with a seed are kept and given out again",
    "force": "All answers are kept and given out again, those with chance too",
}


@magics_class
class CacheMagics(SessionMagics):
    """The magic of the result cache."""

    @no_var_expand
    @with_help(CACHE)
    @line_magic
    def llm_cache(self, line: str) -> Table | None:
        """Keep answers, so that a notebook that is run again neither waits nor pays again.

        A kept answer says so in its status line, with its age. Off unless it is turned on.
        """
        args = parse(parser_of(self, "llm_cache"), line, CacheFlags())
        with brief_errors():
            return self._act(args, self.session.manager.cache)

    def _act(self, args: CacheFlags, cache: ResultCache) -> Table | None:
        view = self.session.open_view("llm_cache")
        match args.action:
            case "on" | "off" | "force" as mode:
                self._put_store(args, cache)
                cache.mode = mode
                cache.store.get("")  # a file that cannot be used is told now, not at an answer
                view.keep(" ".join([_words(cache), *cache.store.notes]))
            case "clear":
                count = cache.store.clear()
                view.keep(f"{count:,} answer{'s were' if count != 1 else ' was'} removed.")
            case "show" | "find":
                return _table(cache, " ".join(args.text))
        return None

    def _put_store(self, args: CacheFlags, cache: ResultCache) -> None:
        """Keep the answers on the disk from now on, where a flag says so."""
        from nbllm.core.caching.answer_stores import MOST_BYTES, MemoryStore, SqliteStore

        most = args.max_size or MOST_BYTES
        if args.disk or args.file:
            file = Path(args.file).expanduser() if args.file else None
            cache.store = SqliteStore(file, most, args.ttl)
        elif args.ttl is not None or args.max_size is not None:
            cache.store = MemoryStore(most, args.ttl)


def _words(cache: ResultCache) -> str:
    from nbllm.core.caching.answer_stores import SqliteStore

    if cache.mode == "off":
        return _MEANING["off"]
    file = cache.store.file if isinstance(cache.store, SqliteStore) else None
    place = f"in {file}" if file else "in memory, until the kernel ends"
    return f"{_MEANING[cache.mode]}, {place}."


def _table(cache: ResultCache, text: str) -> Table:
    import time

    from nbllm.notebook.tables import make_table

    now = time.time()
    rows = [
        {
            "prompt": kept.title,
            "kept (s ago)": max(0.0, now - kept.created),
            "size (KiB)": len(kept.text) / 1024,
        }
        for _, kept in cache.store.entries(text)
    ]
    hits, misses = cache.counts["hits"], cache.counts["misses"]
    notes = [_words(cache), f"In this kernel: {hits:,} given out, {misses:,} asked."]
    return make_table(rows, _COLUMNS, [*notes, *cache.store.notes])
