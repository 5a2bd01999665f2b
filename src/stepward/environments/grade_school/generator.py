"""Generator: random worlds within a configuration's limits. Structure first (every derived quantity is needed), then values that come out whole."""

from __future__ import annotations

from math import gcd
from random import Random
from typing import TYPE_CHECKING

from stepward.environments.grade_school.lexicon import CONTAINERS, NAMES, OBJECTS
from stepward.environments.grade_school.world import DIFFERENCE, TOTAL, Quantity, World

if TYPE_CHECKING:
    from stepward.environments.grade_school.environment import GradeSchool

_TRIES = 200


class _DeadEnd(Exception):
    """No operation fits the values drawn so far; draw again."""


def draw_world(rng: Random, config: GradeSchool) -> World:
    """A random world with config.min_operations..max_operations derived quantities, all of them needed, and up to config.distractors facts that are not."""
    for _ in range(_TRIES):
        try:
            return _Draft(rng, config).world()
        except _DeadEnd:
            continue
    raise AssertionError(f"no world fits {config} after {_TRIES} draws")


class _Draft:
    """A world under construction."""

    def __init__(self, rng: Random, config: GradeSchool) -> None:
        self.rng, self.config = rng, config
        self.made: list[Quantity] = []
        self.open: list[int] = []  # derived quantities that nothing uses yet
        self.objects = rng.sample(OBJECTS, config.n_objects)
        self.owners = rng.sample(NAMES, len(NAMES))
        self.containers = rng.sample(list(CONTAINERS), len(CONTAINERS))
        self.n_named = 0
        self.taken: set[tuple[str, str]] = set()
        allowed = config.operations
        self.unary = [name for name in allowed if name not in ("pack", "sum", "difference")]
        self.binary = [name for name in allowed if name in ("sum", "difference")]

    def world(self) -> World:
        n = self.rng.randint(self.config.min_operations, self.config.max_operations)
        for left in range(n - 1, -1, -1):
            self.derive(left)
        asked = len(self.made) - 1
        for _ in range(self.rng.randint(0, self.config.distractors)):
            self.distract()
        return World(tuple(self.made), asked)

    def derive(self, left: int) -> None:
        """One more derived quantity, such that the `left` still to come can join all open ones into the last."""
        rng, n_open = self.rng, len(self.open)
        moves: list[str] = []
        if self.binary and n_open >= 2:
            moves += ["merge"] * 3
        if n_open >= 1 and n_open <= left + 1:
            moves += ["extend"] * 4 if self.unary else []
            moves += ["join"] * 2 if self.binary else []
        if n_open + 1 <= left + 1 and (self.binary or n_open == 0):
            moves += ["start"] * (4 if n_open == 0 else 1) if self.unary else []
            moves += ["pair"] * (2 if n_open == 0 else 1) if self.binary else []
            moves += ["pack"] if "pack" in self.config.operations else []
        if not moves:
            raise _DeadEnd
        move = rng.choice(moves)
        if move == "pack":
            made = self.pack()
        elif move in ("extend", "start"):
            made = self.apply_unary(self.open[rng.randrange(n_open)] if move == "extend" else None)
        else:
            wanted = {"merge": 2, "join": 1, "pair": 0}[move]
            parents = rng.sample(self.open, wanted)
            while len(parents) < 2:
                parents.append(self.other(parents))
            made = self.apply_binary(parents, last=left == 0)
        self.open = [index for index in self.open if index not in made.parents] + [len(self.made)]
        self.made.append(made)

    def other(self, parents: list[int]) -> int:
        """A second operand: an earlier quantity now and then, a new given one otherwise."""
        earlier = [index for index, quantity in enumerate(self.made) if index not in parents and index not in self.open and quantity.owner]
        if earlier and self.rng.random() < 0.3:
            return self.rng.choice(earlier)
        return self.give(self.rng.randint(2, self.config.max_given))

    def give(self, value: int) -> int:
        owner, thing = self.identity()
        self.made.append(Quantity(owner, thing, "given", (), (), value))
        return len(self.made) - 1

    def identity(self) -> tuple[str, str]:
        """An owner and object that no quantity has yet; mostly a new owner."""
        rng = self.rng
        for _ in range(20):
            thing = self.objects[0] if rng.random() < 0.7 else rng.choice(self.objects)
            if self.n_named and (self.n_named >= len(self.owners) or (len(self.objects) > 1 and rng.random() < 0.2)):
                owner = self.owners[rng.randrange(self.n_named)]
            else:
                owner = self.owners[self.n_named]
                self.n_named += 1
            if (owner, thing) not in self.taken:
                self.taken.add((owner, thing))
                return owner, thing
        raise _DeadEnd

    def pack(self) -> Quantity:
        rng, top = self.rng, self.config.max_value
        k = rng.randint(2, min(self.config.max_factor, top // 2))
        c = rng.randint(2, max(2, min(top // k, self.config.max_given)))
        return Quantity(*self.identity(), "pack", (), (k, c), k * c)

    def apply_unary(self, parent: int | None) -> Quantity:
        """A quantity from one other; a new given parent gets a value that the operation divides."""
        for operation in self.rng.sample(self.unary, len(self.unary)):
            if operation == "share" and len(self.containers) < 2:  # one stays free for facts that pack
                continue
            value = self.made[parent].value if parent is not None else None
            drawn = self.numbers(operation, value)
            if drawn is None:
                continue
            numbers, base, result = drawn
            index = self.give(base) if parent is None else parent
            if operation == "share":
                return Quantity(f"each {self.containers.pop()}", self.made[index].object, operation, (index,), numbers, result)
            return Quantity(*self.identity(), operation, (index,), numbers, result)
        raise _DeadEnd

    def numbers(self, operation: str, value: int | None) -> tuple[tuple[int, ...], int, int] | None:
        """(constants, parent value, result) for an operation on `value`, or on a value to be chosen (None); None when it does not fit."""
        rng, config = self.rng, self.config
        top = config.max_value

        def base(divisor: int, limit: int = config.max_given) -> int | None:
            """The parent's value, a multiple of `divisor`."""
            if value is not None:
                return value if value % divisor == 0 and value <= limit else None
            least = 1 if divisor > 1 else 2
            return divisor * rng.randint(least, limit // divisor) if limit >= least * divisor else None

        a: int | None
        match operation:
            case "plus":
                a = base(1, top - 2 if value is not None else min(config.max_given, top - 2))
                if a is None:
                    return None
                c = rng.randint(2, min(top - a, config.max_given))
                return (c,), a, a + c
            case "minus":
                a = value if value is not None else rng.randint(3, config.max_given)
                if a < 3:
                    return None
                c = rng.randint(2, min(a - 1, config.max_given))
                return (c,), a, a - c
            case "times" | "times_plus" | "times_minus":
                k = rng.randint(2, config.max_factor)
                a = base(1, top // k if value is not None else min(config.max_given, top // k))
                if a is None:
                    return None
                if operation == "times":
                    return (k,), a, k * a
                return self.shift(operation == "times_plus", k, a, k * a)
            case "share" | "part_plus" | "part_minus":
                choices = range(2, config.max_factor + 1) if operation == "share" else [q for p, q in config.fractions if p == 1]
                fitting = [k for k in choices if value is None or (value % k == 0 and value > k)]
                if not fitting:
                    return None
                k = rng.choice(fitting)
                a = base(k, top) if value is not None else base(k)
                if a is None:
                    return None
                if operation == "share":
                    return (k,), a, a // k
                return self.shift(operation == "part_plus", k, a, a // k)
            case "fraction":
                pairs = [(p, q) for p, q in config.fractions if value is None or value % q == 0]
                if not pairs:
                    return None
                p, q = rng.choice(pairs)
                a = value if value is not None else base(q)
                return None if a is None else ((p, q), a, a * p // q)
            case "percent":
                parts = [p for p in config.percents if value is None or value * p % 100 == 0]
                if not parts:
                    return None
                p = rng.choice(parts)
                a = value if value is not None else base(100 // gcd(p, 100))
                return None if a is None or a * p // 100 > top else ((p,), a, a * p // 100)
        raise AssertionError(f"no constants for {operation!r}")

    def shift(self, up: bool, k: int, a: int, middle: int) -> tuple[tuple[int, ...], int, int] | None:
        """Add a constant to the middle value, or take one away."""
        room = self.config.max_value - middle if up else middle - 1
        if room < 2:
            return None
        c = self.rng.randint(2, min(room, self.config.max_given))
        return (k, c), a, middle + c if up else middle - c

    def apply_binary(self, parents: list[int], *, last: bool) -> Quantity:
        values = [self.made[parent].value for parent in parents]
        fits = {"sum": sum(values) <= self.config.max_value, "difference": values[0] != values[1]}
        fitting = [name for name in self.binary if fits[name]]
        if not fitting:
            raise _DeadEnd
        operation = self.rng.choice(fitting)
        in_question = last and self.rng.random() < 0.6
        if operation == "difference":
            high, low = sorted(parents, key=lambda index: -self.made[index].value)
            owner, thing = ("", DIFFERENCE) if in_question else self.identity()
            return Quantity(owner, thing, operation, (high, low), (), abs(values[0] - values[1]))
        if self.config.max_terms > 2 and self.rng.random() < 0.2 and sum(values) + 2 <= self.config.max_value:
            third = self.give(self.rng.randint(2, min(self.config.max_given, self.config.max_value - sum(values))))
            parents, values = [*parents, third], [*values, self.made[third].value]
        owner, thing = ("", TOTAL) if in_question else self.identity()
        return Quantity(owner, thing, operation, tuple(parents), (), sum(values))

    def distract(self) -> None:
        """One more fact that the answer does not need: a given quantity, or one that follows from another."""
        named = [index for index, quantity in enumerate(self.made) if quantity.owner]
        if self.unary and named and self.rng.random() < 0.3:
            usable = [name for name in self.unary if name != "share"]
            parent = self.rng.choice(named)
            for operation in self.rng.sample(usable, len(usable)):
                drawn = self.numbers(operation, self.made[parent].value)
                if drawn is not None:
                    self.made.append(Quantity(*self.identity(), operation, (parent,), drawn[0], drawn[2]))
                    return
        self.give(self.rng.randint(2, self.config.max_given))
