"""Samplers on the logits of the real model, and grammars on logits from a random generator."""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import jsonschema
import llama_cpp.llama_cpp as lib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbllm.local.llama import sampling
from nbllm.local.llama.grammar import Candidates, Grammar, grammar_text
from nbllm.local.llama.native import NativeModel
from nbllm.local.llama.sampling import Sampler
from nbllm.local.reading.output_format import format_of

COUNTING = "one two three four, one two three four, one two three"
GREEDY = {"temperature": 0}
DIGITS = 'root ::= [0-9]+ "."'


@pytest.fixture(scope="module")
def model(native: Any) -> NativeModel:
    loaded: NativeModel = native()
    return loaded


@pytest.fixture(scope="module")
def prompt(model: NativeModel) -> list[int]:
    """A prompt whose logits stand in row -1 while the tests of this module run."""
    tokens = model.vocabulary.tokenize(COUNTING, add_special=True, parse_special=False)
    model.batch.clear()
    model.batch.add(tokens, 0, 0, logits=True)
    assert model.decode() == 0
    return tokens


@pytest.fixture
def choose(model: NativeModel, prompt: list[int]) -> Any:
    def choose_with(count: int = 1, **options: Any) -> list[str]:
        """What a sampler draws one after the other from the same logits."""
        sampler = Sampler({"seed": 1, **options}, model, prompt)
        tokens = [sampler.choose(-1) for _ in range(count)]
        sampler.close()
        return [model.vocabulary.text(token).decode() for token in tokens]

    return choose_with


def test_greedy_goes_on_counting(choose: Any) -> None:
    assert choose(temperature=0) == [" four"]


def test_a_seed_repeats_its_draws_and_another_does_not(choose: Any) -> None:
    hot = {"temperature": 5.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}
    assert choose(8, **hot) == choose(8, **hot)
    assert choose(8, **hot) != choose(8, **hot, seed=2)


@pytest.mark.parametrize(
    "narrow",
    [
        {"top_n_sigma": 1e-3, "top_k": 0},
        {"mirostat": 2, "mirostat_tau": 1e-3},
        {"mirostat": 1, "mirostat_tau": 1e-3},
        {"dynatemp_range": 50.0, "dynatemp_exponent": 50.0},
    ],
    ids=lambda options: next(iter(options)),
)
def test_each_way_of_narrowing_the_choice_changes_it(choose: Any, narrow: dict[str, Any]) -> None:
    hot = {"temperature": 50.0, "top_p": 1.0, "min_p": 0.0}
    wide = choose(24, **hot)
    assert set(choose(24, **hot, **narrow)) < set(wide) | {" four"}
    assert len(set(choose(24, **hot, **narrow))) < len(set(wide))


def test_typical_sampling_drops_what_is_too_likely(choose: Any) -> None:
    """Its measure is the distance from the entropy, not the probability."""
    assert choose(16, temperature=1.0, min_p=0.0) != choose(
        16, temperature=1.0, min_p=0.0, typical_p=0.05
    )


def test_xtc_leaves_the_obvious_out(choose: Any) -> None:
    cool = {"temperature": 0.3, "min_p": 0.0, "top_p": 1.0}
    assert " four" in choose(8, **cool)
    assert " four" not in choose(8, **cool, xtc_probability=1.0, xtc_threshold=1e-4)


def test_penalties_look_back_as_far_as_they_are_told(choose: Any) -> None:
    strong = {"temperature": 0, "repeat_penalty": 100.0}
    assert choose(**strong) != [" four"]
    assert choose(**strong, repeat_last_n=1) == [" four"]
    assert choose(**strong, repeat_last_n=0) == [" four"]


def test_dry_ends_a_repetition_except_behind_a_breaker(choose: Any) -> None:
    dry = {"temperature": 0, "dry_multiplier": 100.0}
    assert choose(**dry) != [" four"]
    assert choose(**dry, dry_allowed_length=50) == [" four"]
    assert choose(**dry, dry_sequence_breakers=[" three"]) == [" four"]


def test_a_bias_forces_and_forbids_tokens_and_texts(choose: Any, model: NativeModel) -> None:
    four = model.vocabulary.tokenize(" four", add_special=False, parse_special=False)
    assert len(four) == 1
    assert choose(temperature=0, logit_bias=[(four[0], -100.0)]) != [" four"]
    assert choose(temperature=0, logit_bias=[(" four", -100.0)]) != [" four"]
    assert choose(temperature=0, logit_bias=[(" fox", 100.0)]) == [" fox"]
    with pytest.raises(ValueError, match="99999999 is not a token id"):
        choose(logit_bias=[(99_999_999, 1.0)])


def test_an_answer_that_may_not_end_goes_on(choose: Any) -> None:
    wish = [("<|im_end|>", 90.0)]
    assert choose(temperature=0, logit_bias=wish) == ["<|im_end|>"]
    assert choose(temperature=0, logit_bias=wish, ignore_eos=True) == [" four"]


def test_stop_tokens_are_ids_or_texts_of_one_token(model: NativeModel) -> None:
    sampler = Sampler({"stop_tokens": ["<|im_end|>", 7]}, model, [])
    ends = model.vocabulary.tokenize("<|im_end|>", add_special=False, parse_special=True)
    assert sampler.stop_tokens == {*ends, 7}
    sampler.close()
    with pytest.raises(ValueError, match="use stop"):
        Sampler({"stop_tokens": ["a longer text"]}, model, [])


# ---------------------------------------------------------------- log-probabilities


def test_log_probabilities_are_those_of_the_softmax(model: NativeModel, prompt: list[int]) -> None:
    logits = model.logits(-1).astype(np.float64)
    expected = logits - np.log(np.exp(logits).sum())
    sampler = Sampler({"logprobs": 3, "logit_bias": [(" fox", 100.0)], **GREEDY}, model, prompt)
    fox = sampler.choose(-1)
    assert sampler.logprobs is not None
    (record,) = sampler.logprobs.records
    sampler.close()
    assert record.data == b" fox"
    assert record.logprob == pytest.approx(expected[fox], abs=1e-4), "biases do not count"
    assert [value for _, value in record.top] == pytest.approx(sorted(expected)[:-4:-1], abs=1e-4)
    assert record.top[0][0] == b" four"


# ---------------------------------------------------------------- grammars


def grammar_first(model: NativeModel, options: dict[str, Any], prompt: list[int]) -> Iterator[int]:
    """llama.cpp's plain way: the grammar tries all tokens before the chain chooses one."""
    text = grammar_text(options)
    assert text is not None
    grammar = Grammar(text, model.vocabulary)
    free = Sampler({**options, "grammar": None, "response_schema": None}, model, prompt)
    everything = np.arange(model.vocabulary.size, dtype=np.int32)
    while True:
        logits = np.where(grammar.allowed(everything), model.logits(-1), -np.inf)
        token = Candidates(everything, logits).apply(free._whole)
        assert token is not None
        yield token
        grammar.accept(token)
        lib.llama_sampler_accept(free._whole, token)


@pytest.mark.parametrize("shape", [{}, {"repeat_penalty": 1.5}, {"logit_bias": [("7", 5.0)]}])
def test_a_greedy_answer_by_a_grammar_is_that_of_trying_all_tokens(
    model: NativeModel, prompt: list[int], shape: dict[str, Any]
) -> None:
    options = {**GREEDY, **shape, "grammar": DIGITS}
    sampler = Sampler(options, model, prompt)
    tokens = [sampler.choose(-1) for _ in range(6)]
    sampler.close()
    assert tokens == [
        token for token, _ in zip(grammar_first(model, options, prompt), tokens, strict=False)
    ]


@pytest.mark.parametrize("options", [{}, {"top_k": 3}, {"top_k": 0}, {"mirostat": 2}])
def test_a_choice_from_the_likeliest_is_that_from_all(
    model: NativeModel,
    prompt: list[int],
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
) -> None:
    def draws() -> list[int]:
        sampler = Sampler({"seed": 3, "grammar": 'root ::= [a-z ]* "!"', **options}, model, prompt)
        tokens = [sampler.choose(-1) for _ in range(12)]
        sampler.close()
        return tokens

    few = draws()
    monkeypatch.setattr(sampling, "_LIKELIEST", model.vocabulary.size)
    assert few == draws()


def test_an_answer_ends_where_the_grammar_leaves_nothing(
    model: NativeModel, prompt: list[int]
) -> None:
    banned = [(token, float("-inf")) for token in model.vocabulary.ends]
    sampler = Sampler({"grammar": 'root ::= "7"', "logit_bias": banned}, model, prompt)
    first, second = sampler.choose(-1), sampler.choose(-1)
    sampler.close()
    assert model.vocabulary.text(first) == b"7"
    assert model.vocabulary.piece(second) is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "does not contain a 'root' symbol"),
        ("root ::= [", "line 1, column 11: unexpected end of input"),
        ('root ::= "a" <|nowhere|>', "it is not a single token of this model"),
        ("root ::= root", "left recursion"),
    ],
)
def test_a_text_that_is_no_grammar_is_refused(model: NativeModel, text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=f"cannot parse the grammar: .*{reason}"):
        Sampler({"grammar": text}, model, [])


class Theirs:
    """llama.cpp's own sampler of a grammar, which must be a harmless one."""

    def __init__(self, text: str, model: NativeModel) -> None:
        self._raw = lib.llama_sampler_init_grammar(model.vocabulary.raw, text.encode(), b"root")
        assert self._raw

    def allowed(self, ids: Any) -> Any:
        candidates = Candidates(ids, np.zeros(len(ids), np.float32))
        candidates.apply(self._raw)
        return np.isfinite(candidates.logits)

    def accept(self, token: int) -> None:
        lib.llama_sampler_accept(self._raw, token)


PIECES = ['"a"', '"bc"', "[a-z]", "[^a-m]", '"é"', "[à-ü]", '" "', "[0-9]", '"the"', '"😀"', "."]


def expressions(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    signs = st.sampled_from(["?", "*", "+", "{2}", "{1,3}"])
    return (
        st.builds(lambda a, b: f"({a} | {b})", inner, inner)
        | st.builds(lambda a, b: f"{a} {b}", inner, inner)
        | st.builds(lambda a, sign: f"({a}){sign}", inner, signs)
    )


@settings(max_examples=25, deadline=None)
@given(st.recursive(st.sampled_from(PIECES), expressions, max_leaves=8), st.integers(0, 2**32))
def test_llama_cpp_allows_the_same_tokens(model: NativeModel, text: str, seed: int) -> None:
    vocabulary, random = model.vocabulary, np.random.default_rng(seed)
    # Special tokens are no text here, and what cannot be UTF-8 is never begun.
    texts = {t: vocabulary.piece(t) for t in range(vocabulary.size)}
    known = [t for t, p in texts.items() if p and p == vocabulary.text(t) and p[0] and len(p) > 1]
    some = random.choice(known, 3_000, replace=False)
    ids = np.array([*some, vocabulary.ends[0]], np.int32)
    ours, theirs = (
        Grammar(f"root ::= {text} [a-z]", model.vocabulary),
        Theirs(f"root ::= {text} [a-z]", model),
    )
    for _ in range(4):
        allowed = ours.allowed(ids)
        assert (allowed == theirs.allowed(ids)).all()
        at_once = set(ours.all_allowed().tolist()) & set(ids.tolist())
        assert at_once == set(ids[allowed].tolist())
        if not allowed[:-1].any():
            break
        token = int(random.choice(ids[:-1][allowed[:-1]]))
        ours.accept(token)
        theirs.accept(token)


def test_a_grammar_may_name_tokens(model: NativeModel) -> None:
    mark = model.vocabulary.tokenize("<|im_start|>", add_special=False, parse_special=True)[0]
    grammar = Grammar('root ::= "a" <|im_start|> !<[5]> "b"', model.vocabulary)
    for text in ("a", mark, 7, "b"):
        token = text if isinstance(text, int) else model.vocabulary.token_of(text)
        assert token is not None
        assert grammar.allows(token)
        assert token in grammar.all_allowed()
        assert not grammar.allows(5)
        grammar.accept(token)
    assert grammar.all_allowed().tolist() == sorted(model.vocabulary.ends)


def test_what_contradicts_a_grammar_is_refused(model: NativeModel) -> None:
    with pytest.raises(ValueError, match="cannot be combined with a grammar"):
        Sampler({"grammar": DIGITS, "ignore_eos": True}, model, [])
    with pytest.raises(ValueError, match="does not refer to a schema"):
        Sampler({"response_schema": {"$ref": "#/nowhere"}}, model, [])


@pytest.mark.parametrize("limit", [500, 501, 100_000])
@pytest.mark.parametrize(
    "kind", [{"type": "string", "maxLength": 0}, {"type": "array", "items": {}, "maxItems": 0}]
)
def test_long_limits_make_no_grammar_that_cannot_be_read(
    model: NativeModel, kind: dict[str, Any], limit: int
) -> None:
    schema = {key: value if value != 0 else limit for key, value in kind.items()}
    text = grammar_text({"response_schema": {"type": "array", "items": schema}})
    assert text is not None
    Grammar(text, model.vocabulary)


@pytest.mark.parametrize(
    ("prompt", "answer", "fits"),
    [
        ("<think>\n", 'hm < b, "a"</think>\n\n"a"', True),
        ("<think>\n", '"a"', False),
        ("", '<think>hm</think>"a"', True),
        ("", '"a"', True),
        ("", '"b"', False),
    ],
)
def test_a_schema_binds_what_stands_behind_the_reasoning(
    model: NativeModel, prompt: str, answer: str, fits: bool
) -> None:
    form = format_of("<think></think>", prompt, None)
    text = grammar_text({"response_schema": {"enum": ["a"]}}, form)
    assert text is not None
    grammar = Grammar(text, model.vocabulary)
    tokens = model.vocabulary.tokenize(answer, add_special=False, parse_special=False)
    for token in [*tokens, model.vocabulary.ends[0]]:
        if not grammar.allows(token):
            assert not fits
            break
        grammar.accept(token)
    else:
        assert fits


LEAVES: list[dict[str, Any]] = [
    {"type": "integer"},
    {"type": "number"},
    {"type": "boolean"},
    {"type": "null"},
    {"type": "string"},
    {"enum": ["low", 'hïgh "quoted"', 3, None]},
    {"const": "é"},
]


def nested(inner: Any) -> Any:
    names = st.lists(st.sampled_from(["name", "größe", "a-b", "x y"]), min_size=1, unique=True)
    objects = names.flatmap(
        lambda keys: st.fixed_dictionaries(dict.fromkeys(keys, inner)).map(
            lambda properties: {
                "type": "object",
                "properties": properties,
                "required": keys,
                "additionalProperties": False,
            }
        )
    )
    lists = st.builds(lambda items: {"type": "array", "items": items, "maxItems": 3}, inner)
    return objects | lists | st.builds(lambda a, b: {"anyOf": [a, b]}, inner, inner)


@settings(max_examples=20, deadline=None)
@given(schema=st.recursive(st.sampled_from(LEAVES), nested, max_leaves=4), seed=st.integers(0, 99))
def test_whatever_a_model_wants_to_say_the_answer_follows_the_schema(
    model: NativeModel, schema: dict[str, Any], seed: int
) -> None:
    random = np.random.default_rng(seed)
    vocabulary = model.vocabulary
    ends = [
        t
        for text in ('"', "}", "]", ",")
        for t in vocabulary.tokenize(text, add_special=False, parse_special=False)
    ]

    def logits(row: int) -> Any:
        values = random.normal(0, 3, vocabulary.size).astype(np.float32)
        values[[*ends, *vocabulary.ends]] += 9
        return values

    source: Any = SimpleNamespace(vocabulary=vocabulary, logits=logits)
    sampler = Sampler({"response_schema": schema, "seed": seed}, source, [])
    written = b""
    for _ in range(40):
        token = sampler.choose(-1)
        if token in vocabulary.ends:
            jsonschema.validate(json.loads(written), schema)
            break
        written += vocabulary.text(token)
    sampler.close()
