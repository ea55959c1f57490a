"""``%llm_pull`` and ``%llm_delete``: models onto this disk, and off it again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from IPython.core.error import StdinNotImplementedError, UsageError
from IPython.core.magic import line_magic, magics_class, no_var_expand
from IPython.display import display

from nbllm.core.texts import quoted
from nbllm.core.words import duration_words, size_words
from nbllm.notebook.flags import Help, flag, parser_of, with_help
from nbllm.notebook.magic_line import Flags, parse
from nbllm.notebook.running_cell import Stopped, brief_errors
from nbllm.notebook.session import NotebookSession, SessionMagics

if TYPE_CHECKING:
    import pandas as pd

    from nbllm.core.downloads import Deletion, PullPlan, PullProgress
    from nbllm.core.types import ModelInfo
    from nbllm.notebook.views.display import View

__all__ = ["PullMagics", "progress_words"]

PULL = Help(
    """
    %llm_pull hf.co/unsloth/Qwen3-4B-GGUF           the best variant that fits this machine
    %llm_pull unsloth/Qwen3-4B-GGUF:Q4_K_M          this variant
    %llm_pull unsloth/gemma-3-4b-it-GGUF --companions
    variants = %llm_pull unsloth/Qwen3-4B-GGUF --list
    %llm_pull https://example.org/models/phi-4.Q4_K_M.gguf
""",
    (
        flag(
            "name",
            help="OWNER/REPOSITORY on Hugging Face, with :QUANTIZATION behind it or not, the "
            "address of one or of a file in it, or another https address of a GGUF.",
        ),
        flag("--quant", metavar="TYPE", help="The variant, such as q4_k_m, or its file."),
        flag(
            "--companions",
            action="store_true",
            help="Also its projector for images and its draft model, where there are any.",
        ),
        flag("--list", action="store_true", help="Only list the variants, as a DataFrame."),
    ),
)


class PullFlags(Flags):
    """What ``PULL`` explains."""

    name: str
    quant: str | None
    companions: bool
    list: bool


DELETE = Help(
    """
    %llm_delete Qwen3-4B-Q4_K_M                     asks first
    %llm_delete Qwen3-4B-Q4_K_M --yes
    %llm_delete gemma-3-4b-it-Q4_K_M --companions
""",
    (
        flag("name", help="A model that %%llm_pull brought."),
        flag("--yes", action="store_true", help="Delete it without asking."),
        flag(
            "--companions",
            action="store_true",
            help="Also the projector for images and the draft model that came with it.",
        ),
    ),
)


class DeleteFlags(Flags):
    """What ``DELETE`` explains."""

    name: str
    yes: bool
    companions: bool


_BAR_CELLS = 24


@magics_class
class PullMagics(SessionMagics):
    """The magics that download and delete."""

    def __init__(self, session: NotebookSession) -> None:
        super().__init__(session)
        session.completions.words["llm_delete.name"] = self._pulled_names

    @no_var_expand
    @with_help(PULL)
    @line_magic
    def llm_pull(self, line: str) -> ModelInfo | pd.DataFrame:
        """Download a model from Hugging Face, or a GGUF from an https address.

        Of a repository the best variant that fits this machine is taken, unless --quant or the
        name says which. It goes into Hugging Face's own cache. An interrupt stops it and keeps
        what has arrived; the same line continues. Returns the model's entry.
        """
        args = parse(parser_of(self, "llm_pull"), line, PullFlags())
        with brief_errors():
            view = self.session.open_view("llm_pull")
            plan = self._planned(args, view)
            if args.list:
                return _table(plan)
            if len(plan.variants) > 1 and not args.quant:
                display(_table(plan))  # type: ignore[no-untyped-call]
            view.keep(_plan_words(plan))
            info = self._pulled(plan, view)
            view.keep(
                f"{plan.name} is here: {info.path}. Load it with %llm_load {quoted(info.name)}"
            )
            return info

    @no_var_expand
    @with_help(DELETE)
    @line_magic
    def llm_delete(self, line: str) -> None:
        """Delete a model that %llm_pull brought, and free the disk, after asking."""
        args = parse(parser_of(self, "llm_delete"), line, DeleteFlags())
        with brief_errors():
            deletion = self.session.manager.plan_deletion(args.name, companions=args.companions)
            view = self.session.open_view("llm_delete")
            if args.yes or _is_wanted(deletion):
                self.session.manager.delete_model(deletion)
                freed = f"Deleted {args.name}; {size_words(deletion.freed_bytes)} freed."
                view.keep(f"{freed}{_kept_words(deletion)}")
            else:
                view.keep(f"{args.name} was not deleted.")

    def _planned(self, args: PullFlags, view: View) -> PullPlan:
        work = self.session.manager.plan_pull(
            args.name, quant=args.quant, companions=args.companions
        )
        note = f"Looking up {args.name} …"
        try:
            return self.session.loop.run(work, on_tick=lambda: view.note(note))
        except KeyboardInterrupt:
            view.drop_note("")
            raise Stopped(f"Looking up {args.name} was stopped.") from None

    def _pulled(self, plan: PullPlan, view: View) -> ModelInfo:
        last: PullProgress | None = None

        def report(progress: PullProgress) -> None:
            nonlocal last
            last = progress

        def look() -> None:
            if last is not None:
                view.note(progress_words(last))

        work = self.session.manager.pull_model(plan, progress=report)
        try:
            return self.session.loop.run(work, on_tick=look)
        except KeyboardInterrupt:
            view.drop_note("")
            there = size_words(last.received_bytes if last else 0)
            raise Stopped(
                f"Stopped at {there} of {size_words(plan.size_bytes)}, which are kept. "
                "Run the same line again to continue."
            ) from None

    def _pulled_names(self) -> list[str]:
        return self.session.manager.list_pulled_models()


def _table(plan: PullPlan) -> pd.DataFrame:
    from nbllm.notebook.models.fit_tables import variants_table

    return variants_table(plan)


def _plan_words(plan: PullPlan) -> str:
    offered = [file.name for file in plan.offered[:3]]
    more = f" It has companions too, which --companions brings: {', '.join(offered)}."
    brought = [file.name for file in plan.companions]
    beside = f" With {', '.join(brought)}." if brought else ""
    return f"{plan.name}: {plan.reason}{beside}{more if offered else ''}"


def progress_words(progress: PullProgress, *, has_bar: bool = True) -> str:
    """How far a pull is, in one line, with a bar of characters unless there is another one."""
    done = int(progress.fraction * _BAR_CELLS)
    bar = f" {'█' * done}{'░' * (_BAR_CELLS - done)}" if has_bar else " ·"
    file = f"{progress.file} ({progress.number} of {progress.count})"
    name = file if progress.count > 1 else progress.file
    sizes = f"{size_words(progress.received_bytes)} of {size_words(progress.total_bytes)}"
    return f"{name}{bar} {progress.fraction:.0%} · {sizes}{_state(progress)}"


def _state(progress: PullProgress) -> str:
    if progress.phase == "checking":
        return " · checking"
    if progress.notice and (progress.phase == "waiting" or not progress.bytes_per_second):
        return f" · {progress.notice}"
    left = progress.seconds_left
    speed = f" · {progress.bytes_per_second / 1e6:,.1f} MB/s"
    return f"{speed} · {duration_words(left)} left" if left is not None else ""


def _kept_words(deletion: Deletion) -> str:
    if not deletion.kept:
        return ""
    names = ", ".join(file.name for file in deletion.kept)
    again = f"%llm_delete {quoted(deletion.path.stem)} --companions"
    return f" What came with it is kept: {names}. {again} deletes that too."


def _is_wanted(deletion: Deletion) -> bool:
    """Ask the reader; who cannot be asked must say so by ``--yes``."""
    files = len(deletion.files)
    count = f"{files} files" if files != 1 else "1 file"
    freed = size_words(deletion.freed_bytes)
    try:
        answer = input(f"Delete {deletion.name} ({count}, frees {freed})? [y/N] ")
    except (StdinNotImplementedError, EOFError):
        raise UsageError(
            "nobody can be asked here; "
            f"%llm_delete {quoted(deletion.name)} --yes deletes it ({freed})"
        ) from None
    return answer.strip().lower() in ("y", "yes")
