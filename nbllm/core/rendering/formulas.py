r"""Formulas in a model's Markdown: ``$…$``, ``$$…$$``, ``\(…\)``, ``\[…\]``, ``\begin{align}…``.

A dollar sign opens a formula by pandoc's rule (no space after it, none before the closing one, no
digit behind that one: https://pandoc.org/MANUAL.html#math), and further only where what it
encloses doesn't read as money or prose. What is found is shown by the front end's MathJax, so its
words are checked against ``COMMANDS``, ``ENVIRONMENTS`` and ``SYMBOLS``, and its length and depth
are limited. These are lists of what may be, since MathJax has commands that make links
(``\href``), set styles, classes and ids, load more code (``\require``) or define new commands; a
formula with a word that is not listed is shown as it is written.

Every search looks at ``LONGEST`` characters at most, so that the cost is linear.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from markdown_it.rules_block import StateBlock
    from markdown_it.rules_inline import StateInline

__all__ = [
    "COMMANDS",
    "ENVIRONMENTS",
    "SYMBOLS",
    "Formula",
    "block_formula",
    "find_formula",
    "inline_formula",
    "is_drawable",
]

SYMBOLS = frozenset(",;:!>|{}%&#_$\\ '\"`^~=.")
"""The commands of one character that is no letter, such as the space ``\\,``."""

_GREEK = """
    alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa varkappa lambda mu
    nu xi omicron pi varpi rho varrho sigma varsigma tau upsilon phi varphi chi psi omega digamma
    Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega varGamma varDelta varTheta varLambda
    varXi varPi varSigma varUpsilon varPhi varPsi varOmega
"""
_LETTERS = """
    aleph beth gimel daleth ell hbar hslash imath jmath wp Re Im partial nabla infty emptyset
    varnothing forall exists nexists neg lnot top bot angle measuredangle sphericalangle triangle
    square Box Diamond lozenge blacksquare blacklozenge blacktriangle bigstar star prime backprime
    flat natural sharp clubsuit diamondsuit heartsuit spadesuit surd mho eth Finv Game complement
    Bbbk circledR circledS checkmark maltese yen dagger ddagger S degree
    diagup diagdown
"""
_OPERATORS = """
    pm mp times div cdot ast star circ bullet cap cup uplus sqcap sqcup vee lor wedge land setminus
    smallsetminus wr oplus ominus otimes oslash odot bigcirc diamond bigtriangleup bigtriangledown
    triangleleft triangleright amalg lhd rhd unlhd unrhd dotplus ltimes rtimes leftthreetimes
    rightthreetimes barwedge veebar doublebarwedge boxplus boxminus boxtimes boxdot circledast
    circledcirc circleddash curlyvee curlywedge Cap Cup intercal centerdot divideontimes
    sum prod coprod int iint iiint iiiint oint idotsint bigcap bigcup bigsqcup bigvee bigwedge
    bigodot bigotimes bigoplus biguplus smallint
"""
_RELATIONS = """
    le leq ge geq lt gt ll gg lll ggg leqslant geqslant eqslantless eqslantgtr lesssim gtrsim
    lessapprox gtrapprox lessgtr gtrless lesseqgtr gtreqless leqq geqq neq ne equiv sim simeq approx
    approxeq cong doteq doteqdot propto asymp bowtie models perp mid nmid parallel nparallel vdash
    dashv vDash Vdash Vvdash nvdash nvDash smile frown in ni owns notin subset supset subseteq
    supseteq subseteqq supseteqq subsetneq supsetneq nsubseteq nsupseteq sqsubset sqsupset
    sqsubseteq sqsupseteq prec succ preceq succeq precsim succsim preccurlyeq succcurlyeq nprec
    nsucc nless ngtr nleq ngeq lneq gneq lneqq gneqq lnsim gnsim nsim ncong between pitchfork
    backsim backsimeq thicksim thickapprox varpropto therefore because triangleq circeq bumpeq
    Bumpeq risingdotseq fallingdotseq eqcirc trianglelefteq trianglerighteq vartriangle
    vartriangleleft vartriangleright not
"""
_ARROWS = """
    to gets leftarrow rightarrow uparrow downarrow leftrightarrow updownarrow Leftarrow Rightarrow
    Uparrow Downarrow Leftrightarrow Updownarrow longleftarrow longrightarrow longleftrightarrow
    Longleftarrow Longrightarrow Longleftrightarrow iff implies impliedby mapsto longmapsto
    hookleftarrow hookrightarrow leftharpoonup leftharpoondown rightharpoonup rightharpoondown
    rightleftharpoons leftrightharpoons nearrow searrow swarrow nwarrow leadsto rightsquigarrow
    leftrightsquigarrow twoheadleftarrow twoheadrightarrow leftarrowtail rightarrowtail
    leftleftarrows rightrightarrows leftrightarrows rightleftarrows upuparrows downdownarrows
    curvearrowleft curvearrowright circlearrowleft circlearrowright multimap nleftarrow nrightarrow
    nLeftarrow nRightarrow nleftrightarrow nLeftrightarrow Lleftarrow Rrightarrow upharpoonleft
    upharpoonright downharpoonleft downharpoonright dashleftarrow dashrightarrow xleftarrow
    xrightarrow
"""
_FUNCTIONS = """
    arccos arcsin arctan arg cos cosh cot coth csc deg det dim exp gcd hom inf injlim ker lg lim
    liminf limsup ln log max min Pr projlim sec sin sinh sup tan tanh varlimsup varliminf bmod pmod
    mod pod operatorname operatorname* limits nolimits
"""
_STRUCTURE = """
    frac dfrac tfrac cfrac binom dbinom tbinom choose over atop sqrt root of left right middle big
    Big bigg Bigg bigl bigr bigm Bigl Bigr Bigm biggl biggr biggm Biggl Biggr Biggm overline
    underline overbrace underbrace overrightarrow overleftarrow overleftrightarrow underrightarrow
    underleftarrow overset underset stackrel substack sideset boxed cancel phantom hphantom vphantom
    smash mathstrut strut begin end hline hdashline tag tag* notag nonumber
    lbrace rbrace lbrack rbrack langle rangle lceil rceil lfloor rfloor lvert rvert lVert rVert vert
    Vert backslash llcorner lrcorner ulcorner urcorner lgroup rgroup lmoustache rmoustache
    colon ldots cdots vdots ddots dots dotsb dotsc dotsi dotsm dotso ldotp cdotp
    displaystyle textstyle scriptstyle scriptscriptstyle cr newline
"""
_ACCENTS = """
    hat widehat check tilde widetilde acute grave dot ddot dddot ddddot breve bar vec
    mathring
"""
_FONTS = """
    mathrm mathbf mathit mathsf mathtt mathcal mathscr mathfrak mathbb mathnormal boldsymbol
    pmb text textrm textbf textit textsf texttt textnormal mbox rm bf it sf tt cal frak Bbb
"""
_ENVIRONMENTS = """
    align align* aligned alignat alignat* alignedat array Bmatrix bmatrix cases dcases eqnarray
    eqnarray* equation equation* flalign flalign* gather gather* gathered matrix multline multline*
    pmatrix rcases smallmatrix split subarray Vmatrix vmatrix
"""
_SPACES = "quad qquad enspace thinspace negthinspace negmedspace space"

COMMANDS = frozenset(
    " ".join(
        (
            *(_GREEK, _LETTERS, _OPERATORS, _RELATIONS, _ARROWS, _FUNCTIONS),
            *(_STRUCTURE, _ACCENTS, _FONTS, _SPACES),
        )
    ).split()
)
"""The commands that are words, without their backslash."""

ENVIRONMENTS = frozenset(_ENVIRONMENTS.split())


LONGEST = 2_000
"""Characters of one formula; MathJax takes up to 30 ms for each hundred."""

_DEEPEST, _MOST_COMMANDS = 16, 400
_CLOSINGS = {"$$": "$$", "$": "$", "\\(": "\\)", "\\[": "\\]"}
_OPENING = re.compile(r"\$\$?|\\[(\[]")
_BLOCK_OPENING = re.compile(r"\$\$|\\\[|\\begin\{([a-zA-Z]+\*?)\}")
_BLANK_LINE = re.compile(r"\n[ \t]*(?=\n)")
_COMMAND = re.compile(
    r"\\(?:(?P<part>begin|end) *\{(?P<environment>[^{}]*)\}|(?P<word>[a-zA-Z]+\*?)|(?P<symbol>.?))"
    r"|(?P<brace>[{}])",
    re.DOTALL,
)
_DEEPER = {"{": 1, "}": -1, "begin": 1, "end": -1, "left": 1, "right": -1}
_NESTING_WORDS = frozenset(("sqrt", "frac", "dfrac", "tfrac", "cfrac", "binom", "text", "boxed"))
_TEX = re.compile(r"[\\^_={}<>]")
_WORDS = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{3,}")
_AMOUNT = re.compile(r"\d[\d.,]*(?:\s|[kKmMbB]\b|\Z).*[A-Za-z]{2}", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Formula:
    """A formula as it is written: ``end`` is where the text goes on behind it."""

    body: str
    opening: str
    closing: str
    end: int

    @property
    def written(self) -> str:
        """The formula with its delimiters, without blank lines, which LaTeX refuses."""
        return _BLANK_LINE.sub("", f"{self.opening}{self.body}{self.closing}")

    @property
    def is_display(self) -> bool:
        """Whether it is set on a line of its own."""
        return self.opening not in ("$", "\\(")


def find_formula(text: str, start: int, stop: int) -> Formula | None:
    """The formula that opens at ``start``, where one does; it ends before ``stop``."""
    match = _OPENING.match(text, start, stop)
    if match is None:
        return None
    opening, closing = match[0], _CLOSINGS[match[0]]
    end = _closing_at(text, closing, match.end(), min(stop, match.end() + LONGEST))
    body = text[match.end() : end]
    if end < 0 or not body.strip() or opening in body:
        return None
    formula = Formula(body, opening, closing, end + len(closing))
    after = text[formula.end : formula.end + 1] if opening == "$" else ""
    if opening == "$" and not _stands_like_a_formula(text[max(start - 1, 0) : start], body, after):
        return None
    return None if opening != "$$" and _reads_as_prose(body, after) else formula


def _closing_at(text: str, closing: str, start: int, stop: int) -> int:
    """Where ``closing`` stands that no backslash escapes; -1 where it does not."""
    position = text.find(closing, start, stop)
    while position >= 0:
        before = text[start:position]
        if (len(before) - len(before.rstrip("\\"))) % 2 == 0:
            return position
        position = text.find(closing, position + 1, stop)
    return -1


def _stands_like_a_formula(before: str, body: str, after: str) -> bool:
    touches = not (body[0].isspace() or body[-1].isspace() or "`" in body)
    return touches and not before.isalnum() and not after.isdigit()


def _reads_as_prose(body: str, after: str) -> bool:
    """Whether ``body`` is rather the text between two amounts or two variables of a shell."""
    if _TEX.search(body):
        return False
    has_gap = any(map(str.isspace, body)) or after.isalpha()
    return has_gap and bool(_WORDS.search(body) or _AMOUNT.match(body))


def inline_formula(state: StateInline, silent: bool) -> bool:  # noqa: FBT001 - markdown-it's way
    """An inline rule: a formula within a paragraph."""
    formula = find_formula(state.src, state.pos, state.posMax)
    if formula is None:
        return False
    if not silent:
        state.push("formula", "", 0).meta = {"formula": formula}
    state.pos = formula.end
    return True


def block_formula(state: StateBlock, start: int, stop: int, silent: bool) -> bool:  # noqa: FBT001
    """A block rule: a formula that fills lines, in which Markdown has no say."""
    begin = state.bMarks[start] + state.tShift[start]
    match = _BLOCK_OPENING.match(state.src, begin, state.eMarks[start])
    if match is None or state.sCount[start] - state.blkIndent >= 4:
        return False
    found = _block_body(state, start, stop, match)
    if found is None:
        return False
    formula, last = found
    if not silent:
        token = state.push("formula_block", "", 0)
        token.meta, token.map = {"formula": formula}, [start, last + 1]
        state.line = last + 1
    return True


def _block_body(
    state: StateBlock, start: int, stop: int, opening: re.Match[str]
) -> tuple[Formula, int] | None:
    """The formula and the number of its last line, whose end it fills."""
    environment = opening[1]
    closing = f"\\end{{{environment}}}" if environment else _CLOSINGS[opening[0]]
    begin = opening.end()
    if state.src.find(closing, begin, begin + LONGEST) < 0:
        return None
    lines: list[str] = []
    for number in range(start, min(stop, start + 200)):
        if number > start:
            begin = state.bMarks[number] + state.tShift[number]
            if state.sCount[number] < state.blkIndent or state.isEmpty(number):
                return None
        line = state.src[begin : state.eMarks[number]]
        end = _closing_at(line, closing, 0, len(line))
        if end >= 0:
            lines.append(line[:end])
            if line[end + len(closing) :].strip():
                return None
            return _formula("\n".join(lines), opening, closing), number
        lines.append(line)
    return None


def _formula(body: str, opening: re.Match[str], closing: str) -> Formula:
    if opening[1]:  # an environment is a formula without further delimiters
        return Formula(f"{opening[0]}{body}{closing}", "", "", 0)
    return Formula(body, opening[0], closing, 0)


def is_drawable(formula: Formula) -> bool:
    """Whether MathJax may have it: listed words only, not too long and not too deep."""
    if len(formula.body) > LONGEST:
        return False
    depth = nested = 0
    commands = list(_COMMAND.finditer(formula.body))
    for match in commands:
        if not _is_listed(match):
            return False
        word = match["word"] or match["part"] or match["brace"]
        depth += _DEEPER.get(word, 0)
        nested = nested + 1 if word in _NESTING_WORDS else 0
        if depth + nested > _DEEPEST:
            return False
    return len(commands) <= _MOST_COMMANDS


def _is_listed(match: re.Match[str]) -> bool:
    if match["brace"]:
        return True
    if match["part"]:
        return match["environment"] in ENVIRONMENTS
    if match["word"]:
        return match["word"] in COMMANDS and match["word"] not in ("begin", "end")
    return match["symbol"] in SYMBOLS and bool(match["symbol"])
