"""What sympy decides about trees, inside a worker process only, which its caller can kill. Trees are built node by node; no text is ever evaluated."""

from __future__ import annotations

from typing import Any

import sympy

Reply = dict[str, Any]
_FAR = 50  # digits at which two constants are compared
MAX_POWER = 400  # of an integer exponent
MAX_DEGREE = 12


class TooMuch(Exception):
    """Beyond the limits of what is worth computing."""


def prepare() -> None:
    """Fill sympy's caches before hands are forked."""
    x = sympy.Symbol("x")
    sympy.cancel((x**2 - 1) / (x - 1))
    sympy.groebner([x**2 - 1], x)
    sympy.diff(sympy.sin(x), x)
    sympy.N(sympy.sqrt(2), 60)


def decide(request: Reply) -> Reply:
    """`{"answers": [...]}` for `{"questions": [...]}`; an answer is `{"state": "true" | "false" | "unknown", ...}` and never missing."""
    return {"answers": [_guarded(question) for question in request["questions"]]}


def _guarded(question: Reply) -> Reply:
    try:
        return _ANSWERS[question["ask"]](question)
    except (MemoryError, RecursionError) as error:
        return {"state": "unknown", "reason": f"too large ({type(error).__name__})"}
    except Exception as error:  # whatever sympy raises on strange input
        return {"state": "unknown", "reason": f"not decided ({type(error).__name__}: {str(error)[:80]})"}


def build(tree: list[Any], log_base: int | None = None) -> sympy.Expr:
    """The expression of a tree; symbols are complex, of a call the whole spelling is the name."""
    kind = tree[0]
    if kind == "n":
        return sympy.Rational(tree[1])
    if kind == "s":
        return sympy.pi if tree[1] == "π" else sympy.Symbol(tree[1])
    if kind == "f":
        return _function(tree, log_base)
    parts = [build(part, log_base) for part in tree[1:]]
    if kind == "+":
        return parts[0] + parts[1]
    if kind == "-":
        return -parts[0]
    if kind == "*":
        return parts[0] * parts[1]
    if kind == "/":
        if parts[1].is_zero:
            raise TooMuch("a division by zero")
        return parts[0] / parts[1]
    base, exponent = parts
    if exponent.is_number and abs(exponent) > MAX_POWER:
        raise TooMuch("a large power")
    if base.is_negative and exponent.is_number and exponent.is_integer is not True:
        raise TooMuch("a root of a negative number, real or complex")
    return base**exponent


def _function(tree: list[Any], log_base: int | None) -> sympy.Expr:
    name = tree[1]
    if name == "degree":
        return sympy.pi / 180
    if name == "call":
        return sympy.Symbol(f"{tree[2]}({sympy.sstr(sympy.expand(build(tree[3], log_base)))})")
    parts = [build(part, log_base) for part in tree[2:]]
    if name == "diff":
        return sympy.diff(parts[0], parts[1])
    if name in ("sin", "cos", "tan", "cot", "sec", "csc", "asin", "acos", "atan", "sinh", "cosh", "exp", "gcd", "lcm", "floor", "ceiling"):
        return getattr(sympy, name)(*parts)
    if name == "sqrt":
        return sympy.sqrt(parts[0])
    if name == "root":
        return sympy.real_root(parts[0], parts[1]) if parts[0].is_number else parts[0] ** (1 / parts[1])
    if name == "abs":
        return sympy.Abs(parts[0])
    if name == "ln":
        return sympy.log(parts[0])
    if name == "log":
        return sympy.log(parts[0]) if log_base is None else sympy.log(parts[0], log_base)
    if name == "logb":
        return sympy.log(parts[0], parts[1])
    if name in ("factorial", "binomial"):
        if any(part.is_number and abs(part) > 300 for part in parts):
            raise TooMuch("a large factorial")
        return getattr(sympy, name)(*parts)
    raise TooMuch(f"unknown function {name}")


def _constant(question: Reply) -> Reply:
    """Two sides without symbols: exact where they are rational, else compared at 50 digits and proved by simplification."""
    relation = question["relation"]
    outcome: Reply = {"state": "unknown", "reason": "a base of logarithms"}
    states = []
    for base in (None, 10, 2) if question.get("log") else (None,):
        left, right = build(question["left"], base), build(question["right"], base)
        outcome = _compare(left, right, relation)
        states.append(outcome["state"])
    if len(set(states)) > 1 or (question.get("log") and "true" not in states):
        return {"state": "unknown", "reason": "depends on the base of the logarithms"}
    return outcome


def _compare(left: sympy.Expr, right: sympy.Expr, relation: str) -> Reply:
    a, b = sympy.N(left, _FAR), sympy.N(right, _FAR)
    if not (a.is_number and b.is_number and a.is_finite and b.is_finite):
        return {"state": "unknown", "reason": "no finite value"}
    values = {"left": sympy.sstr(sympy.N(a, 10)), "right": sympy.sstr(sympy.N(b, 10))}
    gap = abs(complex(sympy.N(a - b, 30)))
    scale = max(1e-300, abs(complex(a)), abs(complex(b)))
    if relation in "=≈":
        if left == right or (gap <= 1e-25 * scale and sympy.simplify(left - right) == 0):
            return {"state": "true", **values}
        if gap <= 1e-20 * scale:
            return {"state": "unknown", "reason": "equal to fifty digits, but not proved equal", **values}
        whole = bool(right.is_Integer and left.is_Rational and not left.is_Integer and gap < 1)
        return {"state": "false", "gap": float(gap / scale), "whole": whole, **values}
    if a.is_real is False or b.is_real is False:
        return {"state": "unknown", "reason": "not real"}
    if gap <= 1e-20 * scale:
        return {"state": {"≤": "true", "≥": "true", "<": "unknown", ">": "unknown", "≠": "unknown"}[relation], "reason": "equal sides", **values}
    less = bool(sympy.re(a) < sympy.re(b))
    holds = {"<": less, "≤": less, ">": not less, "≥": not less, "≠": True}[relation]
    return {"state": "true" if holds else "false", "gap": float(gap / scale), **values}


def _identity(question: Reply) -> Reply:
    """Whether two sides with symbols are equal for all values; "false" comes with a point at which they differ, or with their constant difference."""
    left, right = build(question["left"]), build(question["right"])
    difference = sympy.together(left - right)
    symbols = sorted(difference.free_symbols, key=str)
    if difference == 0 or sympy.cancel(sympy.expand(difference)) == 0:
        return {"state": "true"}
    simplified = sympy.simplify(difference)
    if simplified == 0:
        return {"state": "true"}
    if simplified.is_number:
        return {"state": "false", "constant": True, "difference": sympy.sstr(simplified)[:60]}
    point = _counterexample(difference, symbols)
    if point is None:
        return {"state": "unknown", "reason": "no clear counterexample"}
    return {"state": "false", "constant": False, "counterexample": point, "rational": bool(simplified.is_rational_function(*symbols))}


def _counterexample(difference: sympy.Expr, symbols: list[sympy.Symbol]) -> dict[str, Any] | None:
    """Rational values at which the sides differ at all of three points, so that it is no accident of one."""
    found = None
    for offset in range(3):
        values = {symbol: sympy.Rational(7 + 5 * index + 11 * offset, 3 + index + offset) for index, symbol in enumerate(symbols)}
        value = sympy.N(difference.subs(values), 40)
        if not value.is_number or not value.is_finite or abs(complex(value)) < 1e-20:
            return None
        found = found or {str(symbol): sympy.sstr(number) for symbol, number in values.items()} | {"difference": sympy.sstr(sympy.N(value, 8))}
    return found


def _consistent(question: Reply) -> Reply:
    """Whether an equation has a solution in common with given equations, over the complex numbers; "false" when it has none (a Groebner basis of 1)."""
    numerators: list[sympy.Expr] = []
    denominators: list[sympy.Expr] = []
    for left, right in [*question["given"], (question["left"], question["right"])]:
        numerator, _ = sympy.fraction(sympy.cancel(sympy.together(build(left) - build(right))))
        if numerator == 0:
            continue
        numerators.append(numerator)
        denominators += [factor for factor in _bottoms(left) + _bottoms(right) if factor.free_symbols]
    symbols = sorted(set().union(*(expression.free_symbols for expression in numerators)), key=str)
    if len(symbols) > 4 or not all(numerator.is_polynomial(*symbols) for numerator in numerators):
        return {"state": "unknown", "reason": "not a small polynomial system"}
    if any(sympy.Poly(numerator, *symbols).total_degree() > MAX_DEGREE for numerator in numerators):
        return {"state": "unknown", "reason": "a high degree"}
    slack = sympy.Symbol("slack")
    bottom = sympy.prod(set(denominators)) if denominators else sympy.Integer(1)
    system = [*numerators, 1 - slack * sympy.expand(bottom)] if denominators else numerators
    own = numerators[:-1] + ([1 - slack * sympy.expand(bottom)] if denominators else [])
    if own and sympy.groebner(own, *symbols, slack, order="grevlex").exprs == [1]:
        return {"state": "unknown", "reason": "the given equations contradict each other"}
    basis = sympy.groebner(system, *symbols, slack, order="grevlex")
    if basis.exprs == [1]:
        return {"state": "false", "reason": "no values satisfy both"}
    if len(question["given"]) == 1 or own:
        implied = sympy.groebner(own, *symbols, slack, order="grevlex").contains(numerators[-1]) if own else False
        if implied:
            return {"state": "true", "reason": "follows from the given equations"}
    return {"state": "unknown", "reason": "some values satisfy both"}


def _bottoms(tree: list[Any]) -> list[sympy.Expr]:
    if tree[0] in ("n", "s"):
        return []
    own = [build(tree[2])] if tree[0] == "/" else []
    return own + [bottom for part in tree[1:] if isinstance(part, list) for bottom in _bottoms(part)]


def _derivative(question: Reply) -> Reply:
    """Whether `right` is the derivative of `of` with respect to `by`, `order` times."""
    by = sympy.Symbol(question["by"])
    difference = sympy.simplify(sympy.diff(build(question["of"]), by, question["order"]) - build(question["right"]))
    if difference == 0:
        return {"state": "true"}
    point = _counterexample(difference, sorted(difference.free_symbols, key=str))
    return {"state": "unknown", "reason": "no clear counterexample"} if point is None else {"state": "false", "counterexample": point}


def _evaluation(question: Reply) -> Reply:
    """Whether a function with a known formula takes the value `right` at `at`."""
    by = sympy.Symbol(question["by"])
    value = build(question["of"]).subs(by, build(question["at"]))
    difference = sympy.simplify(value - build(question["right"]))
    if difference == 0:
        return {"state": "true"}
    if difference.is_number and difference.is_finite and abs(complex(sympy.N(difference, 30))) > 1e-15:
        return {"state": "false", "value": sympy.sstr(sympy.simplify(value))[:60]}
    if difference.free_symbols and not difference.is_number:
        point = _counterexample(difference, sorted(difference.free_symbols, key=str))
        if point is not None:
            return {"state": "false", "value": sympy.sstr(sympy.simplify(value))[:60], "counterexample": point}
    return {"state": "unknown", "reason": "not decided"}


_ANSWERS = {"constant": _constant, "identity": _identity, "consistent": _consistent, "derivative": _derivative, "evaluation": _evaluation}
