r"""Equations of docstrings, which stand there as a terminal can show them, typeset in MathML, which needs no script.

``R_i = x_i Σ_j w_ij R_j / z_j`` becomes ``R_{i} = x_{i} \sum_{j} w_{ij} R_{j} / z_{j}``: as a line of its own where it
begins a paragraph, else within the text. What looks like code stays code.
"""

import re

from docutils.nodes import SkipNode
from docutils.utils.math.latex2mathml import tex2mathml

TABLE = r"""
    α \alpha  β \beta  γ \gamma  δ \delta  ε \varepsilon  ζ \zeta  η \eta  θ \theta  κ \kappa  λ \lambda  μ \mu
    ν \nu  ξ \xi  π \pi  ρ \rho  σ \sigma  τ \tau  φ \varphi  χ \chi  ψ \psi  ω \omega
    Δ \Delta  Π \Pi  Φ \Phi  Σ \sum  ∂ \partial  ∫ \int  ∇ \nabla  · \cdot  ⊗ \otimes  √ \surd
    <= \le  >= \ge  ≠ \ne  -> \to  ∋ \ni  ~ \sim  ± \pm  ... \ldots || \|  ‖ \|
    # \#  % \%  { \{  } \}  ½ \tfrac{1}{2}  ² ^{2}  ³ ^{3}  ᵀ ^{\top}  ᴮ ^{B}  ₊ _{+}
    ₀ _{0}  ¹ ^{1}  ∩ \cap  ∪ \cup  ⌊ \lfloor  ⌋ \rfloor"""
SYMBOLS = {sign: f"{command} " for sign, command in zip(*[iter(TABLE.split())] * 2, strict=True)}
FUNCTIONS = frozenset(
    ["max", "min", "log", "exp", "sign", "argmax", "mean", "std", "cov", "sort", "softmax", "rank", "sim", "var"]
)
TOKENS = re.compile(
    r"(?P<wide> {2,})|(?P<space>\s+)|(?P<differential>\bd[a-zα]\b)|(?P<digit>(?<=[a-z])\d)"
    r"|(?P<name>[A-Za-z]{2,}(?:_[a-z]{2,})*)"
    r"|(?P<sign>(?<=[\w})])[+±-](?=[\s),/]|$))|_(?P<below>\{[^}]*\}|[A-Za-z0-9α-ω]+)|\^(?P<above>\{[^}]*\}|½|\w)"
    r"|(?P<symbol><=|>=|->|\.\.\.|\|\||.)",
    re.DOTALL,
)
PROSE = re.compile(r"(?m)^(?:Args|Attributes|Returns|Raises|Example|Examples|Reference|References):$")
LITERAL = re.compile(r"``(.+?)``", re.DOTALL)
CODE = re.compile(r"[\"@\\]|\*\*|==|\*args|\w=\w|jaxplain|jnp\.|lambda |apply|None|True")
FORMULA = re.compile(r" :?= | <= |[Σ∂∫√²³ᵀα-ω≠·]|^\w_\w{1,2}$")


def latex(equation: str) -> str:
    """LaTeX of an equation as docstrings have it."""
    text = "".join(_token(match) for match in TOKENS.finditer(equation)).strip()
    return re.sub(r" \}\s*\\text\{ ", " ", text)  # neighbouring words


def _token(match: re.Match[str]) -> str:
    kind, text = match.lastgroup, match[match.lastgroup or 0]
    match kind:
        case "wide":
            return r"\quad "
        case "space":
            return " "
        case "differential":
            return rf"\mathrm{{d}} {latex(text[1])}"
        case "digit":
            return f"_{{{text}}}"
        case "name":
            return rf"\operatorname{{{text}}} " if text in FUNCTIONS else rf"\text{{ {text.replace('_', ' ')} }}"
        case "sign":
            return "^{\\pm}" if text == "±" else f"^{{{text}}}"
        case "below" | "above":
            inner = text[1:-1] if text[0] == "{" else text
            if re.fullmatch(r"[a-z]{1,2}(?<!in)", inner):
                inner = " ".join(inner)  # indices
            script = rf"\text{{{inner}}}" if re.fullmatch(r"[a-z]{2,}", inner) else latex(inner)
            return f"{'_' if kind == 'below' else '^'}{{{script}}}"
        case _:
            return SYMBOLS.get(text, text)


def typeset(app, what, name, obj, options, lines):
    """Turn the equations of a docstring, as far as its prose goes, into mathematics of reStructuredText."""
    text = "\n".join(lines)
    end = re.search(PROSE, text)
    prose, rest = (text[: end.start()], text[end.start() :]) if end else (text, "")
    lines[:] = ("\n\n".join(map(_paragraph, prose.split("\n\n"))) + rest).splitlines()


def _paragraph(text: str) -> str:
    if not is_formula(first := (LITERAL.match(text) or [""])[0].strip("`")):
        return LITERAL.sub(_inline, text)
    after = text[len(first) + 4 :].strip()
    if after[:1] not in ("", ",", ";", "."):
        return LITERAL.sub(_inline, text)
    block = f".. math:: {' '.join(latex(first).split())}"
    after = LITERAL.sub(_inline, after.lstrip(",;. \n"))
    return f"{block}\n\n{after}" if after else block


def _inline(match: re.Match[str]) -> str:
    return rf":math:`{' '.join(latex(match[1]).split())}`" if is_formula(match[1]) else match[0]


def is_formula(literal: str) -> bool:
    """Whether a literal is mathematics rather than code."""
    return bool(FORMULA.search(literal)) and not CODE.search(literal)


def inline_mathml(self, node):
    """HTML of mathematics within a text."""
    self.body.append(tex2mathml(node.astext()))
    raise SkipNode


def block_mathml(self, node):
    """HTML of mathematics on a line of its own."""
    self.body.append(f'<div class="math">{tex2mathml(node.astext(), as_block=True)}</div>')
    raise SkipNode


def setup(app):
    """Tell Sphinx."""
    app.add_html_math_renderer("mathml", (inline_mathml, None), (block_mathml, None))
    app.connect("autodoc-process-docstring", typeset, priority=400)  # before napoleon, which reads the sections
    return {"parallel_read_safe": True, "parallel_write_safe": True}
