"""What the bundled model does well enough for a first example: candidates by how often they work.

    python tests/benchmarks/bench_first_examples.py [SEEDS]

Each cell runs with every seed at the model's own options; it works if its value is what the cell
promises. README and the quickstart lead with cells that work every time.
"""

from __future__ import annotations

import contextlib
import io
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from IPython.core.interactiveshell import InteractiveShell

import nbllm

ANN = "Ann is 34 years old and lives in Rome."


@dataclass
class Person:
    name: str
    age: int


@dataclass
class Book:
    title: str
    year: int


@dataclass
class Order:
    item: str
    count: int


@dataclass
class Trip:
    start: str
    goal: str


def runs(code: str, call: str, value: object) -> bool:
    """Whether the code's first function, as ``f``, gives this value within seconds."""
    name = re.search(r"def (\w+)", code)
    if name is None:
        return False
    script = f"{code}\nf = {name[1]}\nprint('=>', repr({call}))"
    try:
        ran = subprocess.run(
            [sys.executable, "-I", "-c", script], capture_output=True, text=True, timeout=10
        )
    except subprocess.TimeoutExpired:
        return False
    return ran.stdout.strip().endswith(f"=> {value!r}")


def cells(frame: Any) -> set[str]:
    return {str(value) for row in frame.to_numpy().tolist() for value in row}


def says(*words: str) -> Callable[[Any], bool]:
    return lambda result: all(word in result.text.casefold() for word in words)


@dataclass(frozen=True)
class Candidate:
    flags: str
    prompt: str
    works: Callable[[Any], bool]


TABLE = "Ann is 34 and lives in Rome. Bob is 25 and lives in Oslo."
CANDIDATES = (
    Candidate("--schema Person", ANN, lambda v: v == Person("Ann", 34)),
    Candidate("--schema Book", "Dune appeared in 1965.", lambda v: v == Book("Dune", 1965)),
    Candidate("--schema Order", "I'd like 3 apples.", lambda v: (v.item, v.count) == ("apples", 3)),
    Candidate(
        "--schema Trip", "From Paris to Rome.", lambda v: (v.start, v.goal) == ("Paris", "Rome")
    ),
    Candidate("--schema Mood", "I love this film, it is great!", lambda v: v == "positive"),
    Candidate("--schema Mood", "This film is terrible.", lambda v: v == "negative"),
    Candidate("--schema People", TABLE, lambda v: v == [Person("Ann", 34), Person("Bob", 25)]),
    Candidate(
        "--schema People --as dataframe",
        TABLE,
        lambda v: v.to_numpy().tolist() == [["Ann", 34], ["Bob", 25]],
    ),
    Candidate("--as dataframe", TABLE, lambda v: {"Ann", "34", "Bob", "25"} <= cells(v)),
    Candidate("--as table", TABLE, lambda v: {"Ann", "34", "Bob", "25"} <= cells(v)),
    Candidate("--as json", ANN, lambda v: "Ann" in str(v) and "34" in str(v)),
    Candidate(
        "--as code",
        "Write a Python function that adds two numbers.",
        lambda v: runs(v, "f(2, 3)", 5),
    ),
    Candidate(
        "--as code",
        "Write a Python function that reverses a string.",
        lambda v: runs(v, "f('abc')", "cba"),
    ),
    Candidate(
        "--as code",
        "Write a Python function that checks whether a number is prime.",
        lambda v: runs(v, "[n for n in range(2, 20) if f(n)]", [2, 3, 5, 7, 11, 13, 17, 19]),
    ),
    Candidate("", "What is the capital of Germany?", says("berlin")),
    Candidate("", "What is the capital of Japan?", says("tokyo")),
    Candidate("", "Why is the sky blue?", says("scatter")),
    Candidate("", "What is photosynthesis?", says("light", "plants")),
    Candidate("", 'Translate "good morning" into French.', says("bonjour")),
    Candidate("", "Give three tips for learning a new language.", says("1.", "2.", "3.")),
    Candidate("", "Write a haiku about the sea.", lambda r: 2 <= r.text.strip().count("\n") <= 4),
    Candidate("", f"{ANN} How old is Ann?", says("34")),
)


def value_of(shell: InteractiveShell, candidate: Candidate, seed: int) -> tuple[Any, str]:
    """What the cell came to, and its whole text."""
    shell.user_ns.pop("value", None)
    cell = f"%%llm {candidate.flags} -o value --seed {seed} --max-tokens 300\n{candidate.prompt}"
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        shell.run_cell(cell)
    return shell.user_ns.get("value"), shell.user_ns["_llm"].text


def main() -> None:
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    shell = InteractiveShell.instance()
    nbllm.load_ipython_extension(shell)
    shell.user_ns.update(Person=Person, Book=Book, Order=Order, Trip=Trip, People=list[Person])
    shell.user_ns["Mood"] = {"enum": ["positive", "negative"]}
    for candidate in CANDIDATES:
        wrong = ""
        count = 0
        for seed in range(seeds):
            value, text = value_of(shell, candidate, seed)
            try:
                works = candidate.works(value)
            except (AttributeError, TypeError):  # there is no value, or one of another kind
                works = False
            count += works
            wrong = wrong if works else text
        cell = f"{candidate.flags} {candidate.prompt}".strip()
        print(
            f"{count} of {seeds}  {cell[:70]:70} {wrong[:80]!r}"
            if wrong
            else f"{count} of {seeds}  {cell[:70]}",
            flush=True,
        )


if __name__ == "__main__":
    main()
