r"""What every variable of a model depends on: by the code, and by the equations beside it.

The code is asked exactly: the step is traced once, and what reaches a variable's output is followed
back to the inputs. The equations are read as LaTeX in the declared symbols. Where both disagree,
one of them is wrong: a test over all models asks that they do not.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr
from jax.extend.core import Literal as JaxprLiteral

from ._model import Model
from ._record import Field
from ._tracing import abstract_inputs

Sources = frozenset[str]
"""Inputs of a step: `"prior.wealth"`, `"params.tax_rate"`, `"scenario.wage_rate"`, and `"key"`."""


def dependencies(model: Model) -> dict[str, Sources]:
    """Which inputs of the step each variable is computed from, directly or through other variables.

    Exact at the level of fields, except where JAX calls code that it cannot look into (then every
    result depends on every argument); an input that only cancels (`x - x`) counts as used. The
    adding-up constraints of parameters, which are applied before the step, are not part of it.

    Returns:
        Variable -> inputs; both by the fields' own names.
    """
    names, traced = _traced(model)
    outputs = _follow(traced.jaxpr, [frozenset({name}) for name in names])
    return dict(zip(model.State.fields, outputs, strict=True))


def _traced(model: Model) -> tuple[list[str], ClosedJaxpr]:
    """The names of the step's inputs, and its trace."""
    inputs = abstract_inputs(model)
    records = (("prior", model.State), ("params", model.Params), ("scenario", model.Scenario))
    names = [f"{prefix}.{key}" for prefix, kind in records for key in kind.fields]
    if model.Noise is not None:
        names += [f"noise.{key}" for key in model.Noise.fields]
    else:
        names += ["key"] * (len(inputs) - len(records))
    return names, jax.make_jaxpr(model.step)(*inputs)


def direct_dependencies(
    model: Model, by: Literal["code", "equations"] = "code"
) -> dict[str, Sources]:
    """What each variable is computed from immediately: inputs, and variables of the same period.

    Args:
        model: the model.
        by: `"code"` follows the trace of the step, back to inputs and to values that are variables
            themselves (of several that are one and the same value, the others depend on the one
            declared first); nothing in it is circular, since a step computes one thing after the
            other. `"equations"` reads the declared equations, which may be: what they determine
            together. A variable without an equation counts as what its code says.

    Returns:
        Variable -> inputs, named as in `dependencies`, and variables, as `"now.wealth"`; by the
        fields' own names.

    Raises:
        ValueError: `by` is neither.
    """
    if by not in ("code", "equations"):
        raise ValueError(f"by must be 'code' or 'equations', not {by!r}.")
    code = _direct(model)
    if by == "code":
        return code
    symbols = _symbols(model)
    return {
        key: frozenset(_names(field, symbols)[0]) if field.equation else code[key]
        for key, field in model.State.fields.items()
    }


def _direct(model: Model) -> dict[str, Sources]:
    names, traced = _traced(model)
    keys = list(model.State.fields)
    owners: dict[Any, str] = {}
    for key, atom in zip(keys, traced.jaxpr.outvars, strict=True):
        if not isinstance(atom, JaxprLiteral) and atom not in traced.jaxpr.invars:
            owners.setdefault(atom, key)
    found: dict[str, Sources] = {}
    outputs = _follow(traced.jaxpr, [frozenset({name}) for name in names], owners, found)
    return {key: found.get(key, out) for key, out in zip(keys, outputs, strict=True)}


def _follow(
    jaxpr: Jaxpr,
    inputs: list[Sources],
    owners: Mapping[Any, str] = MappingProxyType({}),
    found: dict[str, Sources] | None = None,
) -> list[Sources]:
    """The sources of the outputs of `jaxpr`, given those of its inputs.

    A value in `owners` is a variable: its sources go to `found`, and what uses it has it as source.
    """
    known = dict(zip(jaxpr.invars, inputs, strict=True))

    def sources(atom: Any) -> Sources:
        # Constants of the trace are not among the inputs: nothing reaches them.
        return frozenset() if isinstance(atom, JaxprLiteral) else known.get(atom, frozenset())

    for equation in jaxpr.eqns:
        arguments = [sources(atom) for atom in equation.invars]
        mine = {var: owners[var] for var in equation.outvars if var in owners}
        inner = _called(equation) if mine else None
        if inner is None:
            results = _through(equation, arguments)
        else:  # variables may be made, and used for others, within a call
            results = _follow(inner, arguments, _within(inner, equation, mine), found)
        for at, var in enumerate(equation.outvars):
            if found is not None and var in mine:
                found.setdefault(mine[var], results[at])
                results[at] = frozenset({f"now.{mine[var]}"})
        known.update(zip(equation.outvars, results, strict=True))
    return [sources(atom) for atom in jaxpr.outvars]


def _within(inner: Jaxpr, equation: Any, owners: Mapping[Any, str]) -> dict[Any, str]:
    """The values inside a call that are variables outside of it."""
    found: dict[Any, str] = {}
    for atom, var in zip(inner.outvars, equation.outvars, strict=True):
        if var in owners and not isinstance(atom, JaxprLiteral) and atom not in inner.invars:
            found.setdefault(atom, owners[var])
    return found


def _through(equation: Any, arguments: list[Sources]) -> list[Sources]:
    name, details = equation.primitive.name, equation.params
    if name == "cond":
        predicate, *operands = arguments
        branches = [_follow(_open(branch), operands) for branch in details["branches"]]
        return [predicate.union(*results) for results in zip(*branches, strict=True)]
    if name == "scan":
        body = _open(details["jaxpr"])
        # How many arguments are carried is written differently in every jax version; that only
        # what is scanned over loses an axis on its way into or out of the body is not.
        carried = _same_rank(equation.outvars, body.outvars)
        whole = _same_rank(equation.invars, body.invars)
        fixed, carry, rest = (
            arguments[: whole - carried],
            arguments[whole - carried : whole],
            arguments[whole:],
        )
        while True:
            results = _follow(body, [*fixed, *carry, *rest])
            grown = [a | b for a, b in zip(carry, results[:carried], strict=True)]
            if grown == carry:
                return [*carry, *results[carried:]]
            carry = grown
    if name == "while":
        first, second = details["cond_nconsts"], details["cond_nconsts"] + details["body_nconsts"]
        asked, used, carry = arguments[:first], arguments[first:second], arguments[second:]
        while True:
            (ends,) = _follow(_open(details["cond_jaxpr"]), [*asked, *carry])
            results = _follow(_open(details["body_jaxpr"]), [*used, *carry])
            grown = [a | b | ends for a, b in zip(carry, results, strict=True)]
            if grown == carry:
                return carry
            carry = grown
    inner = _called(equation)
    if inner is not None:
        return _follow(inner, arguments)
    return [frozenset().union(*arguments)] * len(equation.outvars)


def _open(program: Any) -> Jaxpr:
    return program.jaxpr if isinstance(program, ClosedJaxpr) else program


def _same_rank(outside: Any, inside: Any) -> int:
    """How many atoms of a scan have the same rank outside and inside its body."""
    pairs = zip(outside, inside, strict=True)
    return sum(len(a.aval.shape) == len(b.aval.shape) for a, b in pairs)


def _called(equation: Any) -> Jaxpr | None:
    """The one program that a call (jit, checkpoint, custom_jvp, ...) runs on just its arguments."""
    programs = [p for p in equation.params.values() if isinstance(p, (Jaxpr, ClosedJaxpr))]
    if len(programs) != 1 or equation.primitive.name not in _CALLS:
        return None
    inner = _open(programs[0])
    fits = len(inner.invars) == len(equation.invars) and len(inner.outvars) == len(equation.outvars)
    return inner if fits else None


_CALLS = {
    "jit",
    "pjit",
    "closed_call",
    "core_call",
    "checkpoint",
    "remat",
    "remat2",
    "custom_jvp_call",
    "custom_vjp_call",
    "custom_vjp_call_jaxpr",
}


@dataclasses.dataclass(frozen=True)
class Mismatch:
    """An equation that does not say what the code does."""

    variable: str
    equation: str
    unknown: tuple[str, ...] = ()
    """Symbols in the equation that the model does not declare."""
    only_text: tuple[str, ...] = ()
    """Inputs that the equations lead to and the code does not use."""
    only_code: tuple[str, ...] = ()
    """Inputs that the code uses and no equation leads to."""

    def __str__(self) -> str:
        parts = []
        if self.unknown:
            parts.append(f"names {', '.join(self.unknown)}, which nothing declares")
        if self.only_text:
            parts.append(f"leads to {', '.join(self.only_text)}, which the code does not use")
        if self.only_code:
            parts.append(f"does not lead to {', '.join(self.only_code)}, which the code uses")
        return f"{self.variable} = {self.equation}: the equation {'; '.join(parts)}."


def equation_mismatches(model: Model) -> list[Mismatch]:
    r"""Where the declared equations and the step disagree about what depends on what.

    An equation names variables of the same period by their symbols (`H_h`), of the period before
    with a lag (`H_{h,-1}`, `r_{-1}`, or `x_{t-1}` where the symbol is `x_t`), and parameters and
    exogenous series by theirs; `\Delta H_h` stands for both periods. The indices of vectors and
    matrices, declared as `x_i` and `a_{i,j}`, may have any of the names i, j and k: `\sum_j a_{i,j}
    x_j`. Names are followed through the equations of the same period, in circles too, to the inputs
    of the step; those must be the inputs that the code uses. A variable without an equation counts
    as what its code says. What is compared is what depends on what: an equation with a wrong sign, or
    with one of two variables that have the same inputs, passes.

    Returns:
        The mismatches, one per variable at most; empty where the declaration is right.
    """
    code = dependencies(model)
    symbols = _symbols(model)
    named: dict[str, set[str]] = {}
    unknown: dict[str, tuple[str, ...]] = {}
    for key, field in model.State.fields.items():
        if field.equation:
            named[key], unknown[key] = _names(field, symbols)
        else:
            named[key], unknown[key] = set(code[key]), ()
    found = []
    for key, field in model.State.fields.items():
        text = _closure(key, named)
        used = code[key] - {"key"}
        if unknown[key] or text - {"key"} != used:
            found.append(
                Mismatch(
                    key,
                    field.equation,
                    unknown[key],
                    tuple(sorted(text - used - {"key"})),
                    tuple(sorted(used - text)),
                )
            )
    return found


def _closure(start: str, named: dict[str, set[str]]) -> set[str]:
    """The inputs that a variable leads to through the equations of the same period."""
    reached, waiting, seen = set(), [start], {start}
    while waiting:
        for name in named[waiting.pop()]:
            kind, _, key = name.partition(".")
            if kind != "now":
                reached.add(name)
            elif key not in seen:
                seen.add(key)
                waiting.append(key)
    return reached


Tokens = tuple[str, ...]

# LaTeX that structures a formula and names nothing.
_OPERATOR = re.compile(
    r"\\(?:[dt]?frac|times|odot|left|right|big|Big|min|max|exp|log|ln|sqrt|tanh|sum|prod|top"
    r"|quad|qquad|leq?|geq?|lt|gt|neq|land|lor|in|[lr]floor|[lr]ceil|[\\%{}])"
)
_SPACES = {r"\,", r"\;", r"\:", r"\!", r"\ ", r"\cdot", "~"}
_RANGED = {r"\sum", r"\prod", r"\min", r"\max"}
"""Operators whose scripts name indices: `\\sum_j`."""
_LABELS = {r"\begin", r"\end", r"\text", r"\mathrm", r"\operatorname", r"\mathbb", r"\mathbf"}


def _tokens(text: str) -> Tokens:
    """LaTeX as tokens, without spaces and products, `{x}` after `_` or `^` written `x`."""
    raw = re.findall(r"\\[A-Za-z]+|\\.|\d+(?:\.\d+)?|\S", text)
    tokens = [token for token in raw if token not in _SPACES]
    result: list[str] = []
    at = 0
    while at < len(tokens):
        script = result and result[-1] in "_^" and tokens[at] == "{"
        if script and tokens[at + 2 : at + 3] == ["}"]:
            result.append(tokens[at + 1])
            at += 3
        else:
            result.append(tokens[at])
            at += 1
    return tuple(result)


def _parts(tokens: Tokens) -> tuple[Tokens, Tokens, Tokens]:
    """A symbol's body, subscript and superscript: `H_h^e` is (H, h, e)."""
    scripts: dict[str, Tokens] = {"_": (), "^": ()}
    body, at = len(tokens), 0
    while at < len(tokens):
        if tokens[at] in scripts:
            end = _group_end(tokens, at + 1)
            inside = tokens[at + 1 : end]
            scripts[tokens[at]] = inside[1:-1] if inside[:1] == ("{",) else inside
            body = min(body, at)
            at = end
        elif body < at:  # something follows the scripts: a product, of which there is no lag
            return tokens, (), ()
        else:
            at = _group_end(tokens, at)
    return tokens[:body], scripts["_"], scripts["^"]


def _group_end(tokens: Tokens, at: int) -> int:
    """The position after the token or the braces that start at `at`."""
    depth = 0
    for end in range(at, len(tokens)):
        depth += (tokens[end] == "{") - (tokens[end] == "}")
        if depth <= 0:
            return end + 1
    return len(tokens)


def _script(mark: str, inside: Tokens) -> Tokens:
    if not inside:
        return ()
    return (mark, *inside) if len(inside) == 1 else (mark, "{", *inside, "}")


def _spellings(symbol: str, lagged: bool) -> set[Tokens]:
    """How a symbol, or its lag, may be written: scripts in either order."""
    tokens = _tokens(symbol)
    body, sub, sup = _parts(tokens)
    if lagged:
        if body == tokens and ("_" in tokens or "^" in tokens):
            return set()
        if sub[-2:-1] == ("-",) and sub[-1].isdigit():  # a variable that is a lag itself
            sub = (*sub[:-1], str(int(sub[-1]) + 1))
        elif sub == ("t",) or sub[-2:] == (",", "t"):  # a symbol that says its time
            sub = (*sub, "-", "1")
        else:
            sub = (*sub, ",", "-", "1") if sub else ("-", "1")
    elif body == tokens:
        return {tokens}
    low, high = _script("_", sub), _script("^", sup)
    return {(*body, *low, *high), (*body, *high, *low)}


def _renamed(field: Field) -> set[str]:
    r"""The symbol of a field over axes by any names of its indices: `a_{i,j}` is also `a_{j,i}`."""
    letters = "ij"[: len(field.axes)]

    def named(names: tuple[str, ...]) -> str:
        given = dict(zip(letters, names, strict=True))
        return re.sub(r"(?<=[_{,])[ij](?=[},]|$)", lambda at: given.get(at[0], at[0]), field.symbol)

    return {named(names) for names in itertools.permutations("ijk", len(letters))}


def _symbols(model: Model) -> dict[Tokens, set[str]]:
    """Every spelling of a declared symbol -> what it may mean."""
    table: dict[Tokens, set[str]] = {}
    for prefix, kind in (
        ("now", model.State),
        ("prior", model.State),
        ("params", model.Params),
        ("scenario", model.Scenario),
        *(() if model.Noise is None else (("noise", model.Noise),)),
    ):
        for key, field in kind.fields.items():
            for symbol in _renamed(field) if field.symbol else ():
                for tokens in _spellings(symbol, prefix == "prior"):
                    table.setdefault(tokens, set()).add(f"{prefix}.{key}")
    return table


def _names(field: Field, table: dict[Tokens, set[str]]) -> tuple[set[str], tuple[str, ...]]:
    """What an equation names, and the symbols in it that mean nothing."""
    own = f"now.{field.key}"
    others = {tokens: meant - {own} for tokens, meant in table.items() if meant != {own}}
    named, unknown = _read(field.equation, others)
    if unknown:  # a variable that determines itself: x = f(x)
        again = _read(field.equation, table)
        if not again[1]:
            return again
    return named, unknown


def _read(equation: str, table: dict[Tokens, set[str]]) -> tuple[set[str], tuple[str, ...]]:
    tokens = _tokens(equation)
    longest = max(map(len, table), default=0)
    named: set[str] = set()
    unknown: list[str] = []
    at, difference = 0, False
    while at < len(tokens):
        for length in range(min(longest, len(tokens) - at), 0, -1):
            meant = table.get(tokens[at : at + length])
            if meant and tokens[at + length : at + length + 1] != ("_",):
                chosen = _chosen(meant)
                named |= chosen
                if difference:
                    named |= {f"prior.{n[4:]}" for n in chosen if n.startswith("now.")}
                at += length
                break
        else:
            token = tokens[at]
            if token in _LABELS:
                at = _group_end(tokens, at + 1)
                continue
            if token in _RANGED:
                at += 1
                while tokens[at : at + 1] in (("_",), ("^",)):
                    at = _group_end(tokens, at + 1)
                continue
            if token == r"\Delta":
                difference, at = True, at + 1
                continue
            names = token[0] == "\\" or token[0].isalpha() or token == "_"
            if names and not _OPERATOR.fullmatch(token):
                unknown.append(token)
            at += 1
        difference = False
    return named, tuple(unknown)


def _chosen(meant: set[str]) -> set[str]:
    """Of the meanings of one symbol: lags before variables, variables before what sets them."""
    for prefix in ("prior.", "now."):
        chosen = {name for name in meant if name.startswith(prefix)}
        if chosen:
            return chosen
    return meant
