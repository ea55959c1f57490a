"""How everyday answers end: by themselves, at a cell's limit, or because they repeat themselves.

    python tests/benchmarks/bench_everyday.py [FILE [TEXTS]]

FILE is a GGUF, without it the bundled model; its options are those that a cell gets. A JSON file
TEXTS gets every answer, so that each stop can be read: an answer that was stopped must be a loop,
and one that hit the limit must be none.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from pathlib import Path

from nbllm import FinishReason, ModelInterface, ModelManager

LIMIT = 1000  # tokens: the default limit of a cell
AT_ONCE = 8
PROMPTS = """\
What is the capital of Germany?
What is recursion?
Explain photosynthesis to a child.
Write a poem about the sea.
Write a haiku about autumn.
Write a short story about a lighthouse keeper.
Write a song with a refrain about going home.
Write a limerick about a cat.
Give three tips for learning a new language.
List ten animals that live in Africa.
List the months of the year.
List the planets of the solar system with one fact each.
Count from 1 to 30.
Write the multiplication table of 7.
Write the alphabet.
Name five fruits and their colors.
Translate "Good morning, how are you?" into French.
Translate "I would like a coffee" into Spanish.
What is the difference between a list and a tuple in Python?
Write a Python function that reverses a string.
Write a Python function that checks whether a number is prime.
Write a Python class for a bank account.
Write a Python program that prints the first 20 Fibonacci numbers.
Write a SQL query that selects all customers from Berlin.
Write SQL that creates a table of books and inserts ten rows.
Write an HTML page with a table of three rows.
Write a CSS rule that centers a div.
Write a bash script that renames all .txt files to .md.
Write a regular expression for an email address.
Write JSON with five users, each with a name and an age.
Make a Markdown table of five countries and their capitals.
Make a Markdown table of the planets with mass and distance from the sun.
Write a truth table for AND and OR.
Write a shopping list for a birthday party.
Write a recipe for pancakes.
Write a recipe for tomato soup.
How do I boil an egg?
How do I change a bicycle tire?
How do I plot a sine wave with matplotlib?
How do I read a CSV file with pandas?
How do I sort a dictionary by value in Python?
Explain list comprehensions.
Explain what a REST API is.
Explain how a neural network learns.
Explain gradient descent in simple words.
Explain the difference between RAM and disk.
Explain the water cycle.
Explain inflation.
Explain the rules of chess.
Why is the sky blue?
Why do cats purr?
Why do we dream?
Who wrote Hamlet?
Who was Marie Curie?
When did the Second World War end?
Where does the Nile flow?
What is the largest ocean?
What is the square root of 144?
What is 17 + 25?
Solve 2x + 3 = 11 step by step.
What is the derivative of x squared?
State the Pythagorean theorem and give an example.
What is the plural of mouse?
Give me synonyms for happy.
Give me ten words that rhyme with light.
Correct this sentence: He go to school yesterday.
Summarize the plot of Romeo and Juliet.
Summarize the theory of evolution in three sentences.
Summarize: The meeting was moved from Monday to Wednesday because the room was taken.
Write an email to my boss asking for a day off.
Write a cover letter for a job as a gardener.
Write a thank-you note to a teacher.
Write a product description for a red umbrella.
Write a dialogue between a dog and a cat.
Write a joke about computers.
Write a riddle about the moon.
Write a bedtime story about a brave mouse.
Write a motto for a bakery.
Write ten names for a blue parrot.
Write five questions for a job interview.
Write a plan for a weekend in Rome.
Write a workout plan for a week.
Write a diary entry of a sailor.
Write a news report about a storm.
Write a speech for a wedding.
Write a letter to Santa Claus.
Describe a sunset over the mountains.
Describe the city of Paris.
Describe the taste of an apple.
Describe the life of a honeybee.
Compare tea and coffee.
Compare cats and dogs as pets.
What are the pros and cons of remote work?
What are the benefits of regular exercise?
What should I cook for dinner tonight?
What is the meaning of life?
Tell me something about yourself.
Tell me about the history of the bicycle.
Tell me a fun fact about octopuses.
Hello!
Say hello.
Thank you very much.
Repeat the word "ha" fifty times.
Write "I must not talk in class" twenty times.
Write the lyrics of Twinkle Twinkle Little Star.
Write a log file of a web server with ten lines.
Write a chess game in PGN.
Draw a house in ASCII art.
Write a DNA sequence of 60 bases.
List the prime numbers below 100.
List the squares from 1 to 20.
List all dates in January 2026.""".splitlines()


async def answer(model: ModelInterface, prompt: str, gate: asyncio.Semaphore) -> dict[str, object]:
    async with gate:
        result = await model.generate(prompt, max_tokens=LIMIT, seed=1)
        return {
            "prompt": prompt,
            "end": result.finish_reason.value,
            "tokens": result.usage.completion_tokens,
            "text": result.text,
        }


async def answers(file: str | None) -> list[dict[str, object]]:
    gate = asyncio.Semaphore(AT_ONCE)
    async with ModelManager() as manager:
        model, _ = await manager.load_model(file or manager.bundled_model().name)
        return await asyncio.gather(*(answer(model, prompt, gate) for prompt in PROMPTS))


def main() -> None:
    file, texts, *_ = [*sys.argv[1:], None, None]
    all_answers = asyncio.run(answers(file))
    if texts:
        Path(texts).write_text(json.dumps(all_answers, indent=1), encoding="utf-8")
    ends = Counter(str(each["end"]) for each in all_answers)
    for reason in (FinishReason.STOP, FinishReason.LENGTH, FinishReason.REPETITION):
        print(f"{reason.value:12} {ends[reason.value]:4} of {len(all_answers)}")
    for each in all_answers:
        if each["end"] != FinishReason.STOP.value:
            print(f"{each['end']:12} {each['tokens']:5} tokens  {each['prompt']}")


if __name__ == "__main__":
    main()
