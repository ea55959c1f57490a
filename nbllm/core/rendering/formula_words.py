r"""The LaTeX that is handed to a front end's MathJax: commands and environments that only draw.

It is a list of what may be, since MathJax has commands that make links (``\href``), set styles,
classes and ids, load more code (``\require``) or define new commands; a formula with a word that
is not listed is shown as it is written.
"""

from __future__ import annotations

__all__ = ["COMMANDS", "ENVIRONMENTS", "SYMBOLS"]

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
