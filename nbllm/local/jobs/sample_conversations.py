"""Conversations that models are compared over: short, of many kinds, written for nbllm."""

from __future__ import annotations

from nbllm.local.rendering.template_turns import Turn

__all__ = ["SAMPLE_CONVERSATIONS"]

_TALKS = (
    (
        "What causes the seasons?",
        "The seasons are caused by the tilt of the Earth's axis. The axis leans by about 23.4 "
        "degrees, and it keeps pointing in the same direction while the Earth travels around the "
        "Sun. In June the northern half leans towards the Sun, so its days are long and the light "
        "falls steeply; in December it leans away, and the days are short and cold. The distance "
        "to the Sun matters very little: the Earth is closest to it in January.",
        "So why is it summer in Australia in December?",
        "Because Australia lies in the southern half of the Earth. When the north leans away from "
        "the Sun, the south leans towards it, and gets the long days and the steep light.",
    ),
    (
        "Write a Python function that returns the n-th Fibonacci number.",
        "Here is a function that needs no recursion:\n\n```python\ndef fibonacci(n: int) -> int:\n"
        '    """The n-th Fibonacci number; fibonacci(0) is 0."""\n    if n < 0:\n'
        '        raise ValueError("n must not be negative")\n    a, b = 0, 1\n'
        "    for _ in range(n):\n        a, b = b, a + b\n    return a\n```\n\nIt takes n steps "
        "and keeps only two numbers in memory, so it is fast even for large n.",
        "How would I test it?",
        "Check the first values and the error:\n\n```python\nassert [fibonacci(i) for i in "
        "range(8)] == [0, 1, 1, 2, 3, 5, 8, 13]\ntry:\n    fibonacci(-1)\nexcept ValueError:\n"
        '    print("refused, as it should be")\n```',
    ),
    (
        "Summarise this in one sentence: The library opens at nine on weekdays and at ten on "
        "Saturdays. It is closed on Sundays and on public holidays. Books may be kept for four "
        "weeks, films for one. Readers who are late pay ten cents a day.",
        "The library opens at nine on weekdays and ten on Saturdays, lends books for four weeks "
        "and films for one, and charges ten cents for each day that something is late.",
    ),
    (
        "Give me a recipe for a simple tomato soup for two.",
        "Ingredients:\n\n- 1 onion\n- 1 clove of garlic\n- 2 tablespoons of olive oil\n"
        "- 1 tin of tomatoes (400 g)\n- 300 ml of vegetable stock\n- salt, pepper and basil\n\n"
        "1. Chop the onion and the garlic, and fry them gently in the oil for five minutes.\n"
        "2. Add the tomatoes and the stock, and let the soup simmer for fifteen minutes.\n"
        "3. Blend it until it is smooth, season it, and serve it with fresh basil and bread.",
        "I have no stock. What can I use instead?",
        "Water will do. Add a little more salt, and a spoonful of tomato paste or soy sauce for "
        "depth.",
    ),
    (
        "Extract the data as JSON: Maria Lopez, born on 4 May 1987 in Seville, works as a nurse "
        "and speaks Spanish, English and some Portuguese.",
        '{"name": "Maria Lopez", "birth_date": "1987-05-04", "birth_place": "Seville", '
        '"occupation": "nurse", "languages": ["Spanish", "English", "Portuguese"]}',
    ),
    (
        "A train leaves at 14:35 and arrives at 17:10. It covers 310 kilometres. How fast is it "
        "on average?",
        "The journey takes 2 hours and 35 minutes, which is 2.583 hours. 310 kilometres divided "
        "by 2.583 hours is about 120 kilometres per hour.",
        "And if it stopped for 20 minutes on the way?",
        "Then it was moving for 2 hours and 15 minutes, or 2.25 hours, so its speed while moving "
        "was about 138 kilometres per hour.",
    ),
    (
        "Translate into French and German: The weather was so fine that we stayed in the garden "
        "until midnight.",
        "French: Il faisait si beau que nous sommes restés dans le jardin jusqu'à minuit.\n"
        "German: Das Wetter war so schön, dass wir bis Mitternacht im Garten blieben.",
    ),
    (
        "Compare a list and a tuple in Python as a table.",
        "| | list | tuple |\n|---|---|---|\n| can be changed | yes | no |\n"
        "| can be a key of a dict | no | yes, if its items can |\n| literal | `[1, 2]` | "
        "`(1, 2)` |\n| typical use | items of one kind, any number | a record of fixed length |",
    ),
    (
        "Tell me a very short story about a lighthouse keeper.",
        "Every evening for forty years, Ines climbed the hundred and twelve steps and lit the "
        "lamp. One winter a storm tore the roof from her kitchen, and she thought of leaving. "
        "That night a small boat came in with a torn sail, and a boy climbed out who had counted "
        "the flashes to keep himself awake. He stayed for soup, and then for the summer, and when "
        "her knees grew tired he was the one who climbed the steps.",
        "What is its mood?",
        "It is calm and a little melancholy, but it ends with hope: the work of the keeper goes "
        "on, and she is no longer alone.",
    ),
    (
        'Is this review positive or negative? "The screen is bright and the battery lasts two '
        'days, but the speaker rattles and support never answered."',
        "It is mixed: the screen and the battery are praised, while the speaker and the support "
        "are criticised. On balance it leans to the negative, because the complaints come last "
        "and one of them was never resolved.",
    ),
)


def _turns(talk: tuple[str, ...]) -> list[Turn]:
    roles = ("user", "assistant")
    return [{"role": roles[i % 2], "content": text} for i, text in enumerate(talk)]


SAMPLE_CONVERSATIONS: tuple[list[Turn], ...] = tuple(_turns(talk) for talk in _TALKS)
"""About 1,500 tokens, ending with an answer of the assistant each."""
