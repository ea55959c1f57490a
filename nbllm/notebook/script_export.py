"""Notebooks as scripts: ``jupyter nbconvert --to script`` and JupyterLab's export keep questions.

nbconvert has IPython's own translation only, to which ``%llm What is it?`` asks for help on "it".
The files in the folder ``jupyter_config``, which the wheel installs below ``etc/jupyter``, have
nbconvert run this preprocessor before that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nbconvert.preprocessors import Preprocessor

from nbllm.notebook.typed_questions import keep_questions

if TYPE_CHECKING:
    from nbformat import NotebookNode

__all__ = ["QuestionsPreprocessor"]


class QuestionsPreprocessor(Preprocessor):
    """Makes each ``%llm …`` of a code cell a call of the magic, before IPython reads the cell."""

    def preprocess_cell(
        self, cell: NotebookNode, resources: dict[str, Any], _index: int
    ) -> tuple[NotebookNode, dict[str, Any]]:
        """The cell with its questions as calls; other cells as they are."""
        if cell.cell_type == "code":
            cell.source = "".join(keep_questions(cell.source.splitlines(keepends=True)))
        return cell, resources
