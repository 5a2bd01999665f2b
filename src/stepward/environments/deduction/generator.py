"""Generator: random worlds within a configuration's limits. Two tracks of the same form lead to the question and to its opposite; only one of them begins."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

from stepward.environments.deduction.lexicon import KINDS, NAMES, QUALITIES
from stepward.environments.deduction.statement import Literal, Statement, ground, negated
from stepward.environments.deduction.world import Node, Rule, World

if TYPE_CHECKING:
    from stepward.environments.deduction.environment import Deduction

_TRACKS = (0, 1)  # the one that begins, and its shadow
_CONDITIONS = {"chain": 0, "both": 1, "both_derived": 2, "either": 1, "cases": 2}  # further words of a derivation, for each track
_SPARE = 24  # words kept for chains, distractors and the question


def draw_world(rng: Random, config: Deduction) -> World:
    """A random world whose question takes config.min_steps..config.max_steps derivations, with distractors."""
    return _Draft(rng, config).world()


@dataclass
class _Track:
    """A line of derivations under construction; `end` is the literal that it has reached."""

    end: Literal
    nodes: list[Node] = field(default_factory=list)
    spots: list[Literal] = field(default_factory=list)  # what holds along it, if it begins


class _Draft:
    """A world under construction. Whatever is drawn for one track is drawn in the same form, with other words, for the other."""

    def __init__(self, rng: Random, config: Deduction) -> None:
        self.rng, self.config = rng, config
        self.kinds, self.qualities = rng.sample(KINDS, len(KINDS)), rng.sample(QUALITIES, len(QUALITIES))
        self.who, *self.others = rng.sample(NAMES, len(NAMES))
        self.facts: list[Statement] = []
        self.rules: list[Rule] = []

    def world(self) -> World:
        rng = self.rng
        n = rng.randint(self.config.min_steps, self.config.max_steps)
        as_kind, holds = self.form()
        tracks = [_Track((self.word(as_kind), holds)) for _ in _TRACKS]
        self.fact(tracks[0].end)
        for track in tracks:
            track.spots.append(track.end)
        goal = self.word(rng.random() < 0.4)
        goal_holds = rng.random() < 0.5
        left = n
        while left > 0:
            left -= self.advance(tracks, left, (goal, goal_holds))
        extras = self.distract(tracks)
        question = ground(self.who, (goal, rng.random() < 0.5))
        return World(tuple(self.facts), tuple(self.rules), question, tuple(tracks[0].nodes), tuple(tracks[1].nodes), tuple(extras))

    def form(self) -> tuple[bool, bool]:
        """Kind or quality, and whether it holds."""
        as_kind = self.rng.random() < 0.55
        return as_kind, self.rng.random() >= (self.config.negation * (0.4 if as_kind else 1.0))

    def word(self, as_kind: bool) -> str:
        """A word that nothing uses yet; a quality where kinds have run out, and the other way round."""
        first, second = (self.kinds, self.qualities) if as_kind else (self.qualities, self.kinds)
        return (first or second).pop()

    def pair(self, as_kind: bool) -> tuple[str, str]:
        """A word for each track, both kinds or both qualities."""
        pool = self.kinds if (as_kind and len(self.kinds) > 1) or len(self.qualities) < 2 else self.qualities
        return pool.pop(), pool.pop()

    def fact(self, literal: Literal, who: str | None = None) -> Statement:
        made = ground(who or self.who, literal)
        self.facts.append(made)
        return made

    def rule(self, body: tuple[Literal, ...], head: tuple[Literal, ...]) -> int:
        self.rules.append(Rule(body, head))
        return len(self.rules) - 1

    def advance(self, tracks: list[_Track], left: int, goal: Literal) -> int:
        """One more derivation on the line of each track, and one for a condition where it needs one; how many that makes."""
        rng, config = self.rng, self.config
        moves = ["chain"] * 4
        if len(self.kinds) + len(self.qualities) >= 2 * left + _SPARE:  # the others use more words
            moves += ["both"] * 2 * config.conjunction + ["cases", "either"] * config.disjunction
            moves += ["both_derived"] * 2 * (config.conjunction and left >= 2)
        move = rng.choice(moves)
        used = 2 if move == "both_derived" else 1
        last = used == left
        as_kind, holds = self.form()
        backwards = move == "chain" and not last and not tracks[0].end[1] and rng.random() < config.contraposition
        holds = holds and not backwards  # "every B is A" leads from not A to not B
        heads = (goal, negated(goal)) if last else tuple((word, holds) for word in self.pair(as_kind))
        forms = [self.form() for _ in range(_CONDITIONS[move])]
        words = [self.pair(as_kind) for as_kind, _ in forms]
        swapped = rng.random() < 0.5
        for which, track in enumerate(tracks):
            end, head = track.end, heads[which]
            first, *more = [(words[k][which], forms[k][1]) for k in range(len(forms))] or [end]
            second = more[0] if more else first
            premises, rules = [ground(self.who, end)], []
            if move == "chain":
                rules.append(self.rule((negated(head),), (negated(end),)) if backwards else self.rule((end,), (head,)))
            elif move in ("both", "both_derived"):
                if move == "both_derived":
                    premise = self.fact(second)
                    condition = ground(self.who, first)
                    track.nodes.append(Node(condition, (premise,), (self.rule((second,), (first,)),), spine=False))
                else:
                    condition = self.fact(first)
                premises.append(condition)
                rules.append(self.rule(_positive_first((first, end) if swapped else (end, first)), (head,)))
            elif move == "either":
                alternative = (first[0], True)
                premises.append(self.fact(negated(alternative)))
                rules.append(self.rule((end,), _positive_first((alternative, head) if swapped else (head, alternative))))
            else:
                first, second = (first[0], True), (second[0], True)
                rules += [self.rule((end,), (first, second)), self.rule((first,), (head,)), self.rule((second,), (head,))]
            track.nodes.append(Node(ground(self.who, head), tuple(premises), tuple(rules)))
            track.end = head
            if not last:
                track.spots.append(head)
        return used

    def distract(self, tracks: list[_Track]) -> list[Node]:
        """Rules that lead away from a track or onto it, and other individuals; the derivations that the former allow."""
        rng, extras = self.rng, []
        for _ in range(rng.randint(self.config.min_distractors, self.config.max_distractors)):
            which = rng.choice(_TRACKS)
            spot = rng.choice(tracks[which].spots)
            if not self.kinds and not self.qualities:
                break
            literal = (self.word(rng.random() < 0.55), rng.random() >= self.config.negation)
            if rng.random() < 0.6:
                index = self.rule((spot,), (literal,))
                if which == 0:
                    extras.append(Node(ground(self.who, literal), (ground(self.who, spot),), (index,)))
            else:
                self.rule((literal,), (spot,))
        for who in self.others[: rng.randint(0, self.config.individuals - 1)]:
            self.fact(rng.choice(rng.choice(tracks).spots), who)
        return extras


def _positive_first(literals: tuple[Literal, ...]) -> tuple[Literal, ...]:
    """So that "not" cannot be read as speaking of what comes after it as well."""
    return tuple(sorted(literals, key=lambda literal: not literal[1]))
