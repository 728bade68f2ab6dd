"""Small games of two players as flat trees: regrets, average policies and best responses.

Kuhn 1950, A simplified two-person poker; Southey 2005, Bayes' bluff (Leduc poker); liar's dice
with one die each. Utilities are those of player 0, and what one wins the other loses.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

CHANCE = -1


@dataclass(frozen=True, slots=True)
class Branch:
    """A place at which someone moves.

    Attributes:
        player: 0 or 1, or `CHANCE`.
        seen: What the player knows, the same for all places that look alike.
        moves: For each number of an action (or each outcome of chance) its probability, 1 for
            players, and what follows.
    """

    player: int
    seen: Hashable
    moves: tuple[tuple[int, float, State], ...]


State = Any  # A `Branch`, a utility, or a function without arguments that gives one of them.


@dataclass(slots=True)
class _Level:
    """The moves of all places at one depth, as lists of equal length."""

    parents: list[int] = field(default_factory=list)
    children: list[int] = field(default_factory=list)
    players: list[int] = field(default_factory=list)
    sets: list[int] = field(default_factory=list)
    actions: list[int] = field(default_factory=list)
    chances: list[float] = field(default_factory=list)


class Tree:
    """A game, unfolded once.

    Args:
        root: Where the game begins.
        stream: Shuffles the numbers of information sets and actions, so that a program cannot
            know what they stand for.

    Attributes:
        actions: Largest number of actions.
        legal: For each player which actions each of his information sets has, shape
            `(sets, actions)`, 1 or 0.
    """

    __slots__ = ("_levels", "_nodes", "_utilities", "actions", "legal")

    def __init__(self, root: State, stream: np.random.Generator | None = None) -> None:
        levels, utilities, keys = _unfold(root)
        self.actions = 1 + max(
            action
            for level in levels
            for action, player in zip(level.actions, level.players, strict=True)
            if player != CHANCE
        )
        self._levels = [
            tuple(np.array(getattr(level, name)) for name in _Level.__slots__) for level in levels
        ]
        self._utilities = np.array(utilities)
        self._nodes = len(utilities)
        self.legal = [np.zeros((len(keys[player]), self.actions)) for player in (0, 1)]
        if stream is not None:
            self._shuffle(stream)
        for _, _, players, sets, actions, _ in self._levels:
            for player in (0, 1):
                own = players == player
                self.legal[player][sets[own], actions[own]] = 1.0

    def _shuffle(self, stream: np.random.Generator) -> None:
        """Numbers information sets, and actions within each, at random."""
        for player, legal in enumerate(self.legal):
            order = np.argsort(stream.random(len(legal)))
            columns = np.argsort(stream.random(legal.shape), axis=1)
            for _, _, players, sets, actions, _ in self._levels:
                own = players == player
                actions[own] = columns[sets[own], actions[own]]
                sets[own] = order[sets[own]]

    def reach(self, policies: list[Floats]) -> tuple[list[Floats], list[Floats]]:
        """Returns the probability to reach each place, as far as it depends on each player.

        Also gives the same for the player's own information sets. The third of the former is
        that of chance.
        """
        parts = [np.ones(self._nodes) for _ in range(3)]
        own = [np.zeros(len(policy)) for policy in policies]
        for parents, children, players, sets, actions, chances in self._levels:
            for mover in (0, 1, CHANCE):
                mine = players == mover
                weights = chances[mine]
                if mover != CHANCE:
                    own[mover][sets[mine]] = parts[mover][parents[mine]]
                    weights = policies[mover][sets[mine], actions[mine]]
                for player in (0, 1, CHANCE):
                    factor = weights if player == mover else 1.0
                    parts[player][children[mine]] = parts[player][parents[mine]] * factor
        return parts, own

    def find_regrets(self, policies: list[Floats], player: int) -> tuple[Floats, Floats]:
        """Returns what each action would have gained over the policy, counterfactually.

        Zinkevich 2007, Regret minimization in games with incomplete information.

        Returns:
            The regrets, shape `(sets, actions)`, and with which probability the player himself
            gets to each set, shape `(sets,)`.
        """
        parts, own = self.reach(policies)
        outside = parts[1 - player] * parts[CHANCE]
        values = self._utilities if player == 0 else -self._utilities
        values = values.copy()
        gains = np.zeros_like(policies[player])
        for parents, children, players, sets, actions, chances in reversed(self._levels):
            weights = chances.copy()
            for mover in (0, 1):
                mine = players == mover
                weights[mine] = policies[mover][sets[mine], actions[mine]]
            mine = players == player
            worth = outside[parents[mine]] * values[children[mine]]
            np.add.at(gains, (sets[mine], actions[mine]), worth)
            np.add.at(values, parents, weights * values[children])
        means = (gains * policies[player]).sum(axis=1, keepdims=True)
        return (gains - means) * self.legal[player], own[player]

    def best_response(self, policies: list[Floats], player: int) -> float:
        """Returns the largest value that a player can get against the other's policy."""
        parts, _ = self.reach(policies)
        outside = parts[1 - player] * parts[CHANCE]
        values = self._utilities if player == 0 else -self._utilities
        values = values.copy()
        for parents, children, players, sets, actions, chances in reversed(self._levels):
            weights = chances.copy()
            other, mine = players == 1 - player, players == player
            weights[other] = policies[1 - player][sets[other], actions[other]]
            gains = np.where(self.legal[player] > 0.0, 0.0, -np.inf)
            worth = outside[parents[mine]] * values[children[mine]]
            np.add.at(gains, (sets[mine], actions[mine]), worth)
            weights[mine] = actions[mine] == gains.argmax(axis=1)[sets[mine]]
            np.add.at(values, parents, weights * values[children])
        return float(values[0])

    def find_exploitability(self, policies: list[Floats]) -> float:
        """Returns the mean of what both players could gain by best responses; 0 in equilibrium."""
        return sum(self.best_response(policies, player) for player in (0, 1)) / 2.0


def _unfold(root: State) -> tuple[list[_Level], list[float], list[dict[Hashable, int]]]:
    utilities = [0.0]
    keys: list[dict[Hashable, int]] = [{}, {}]
    levels: list[_Level] = []
    current = [(0, root)]
    while current:
        level, following = _Level(), []
        for parent, state in current:
            reached = state() if callable(state) else state
            if not isinstance(reached, Branch):
                utilities[parent] = float(reached)
                continue
            number = 0
            if reached.player != CHANCE:
                own = keys[reached.player]
                number = own.setdefault(reached.seen, len(own))
            for action, chance, child in reached.moves:
                level.parents.append(parent)
                level.children.append(len(utilities))
                level.players.append(reached.player)
                level.sets.append(number)
                level.actions.append(action)
                level.chances.append(chance)
                following.append((len(utilities), child))
                utilities.append(0.0)
        if level.parents:
            levels.append(level)
        current = following
    return levels, utilities, keys


def _player(player: int, seen: Hashable, moves: dict[int, State]) -> Branch:
    return Branch(player, seen, tuple((action, 1.0, state) for action, state in moves.items()))


def _chance(outcomes: list[tuple[float, State]]) -> Branch:
    return Branch(CHANCE, None, tuple((i, p, state) for i, (p, state) in enumerate(outcomes)))


def deal_kuhn(cards: int) -> Branch:
    """Returns Kuhn poker with so many cards: 0 passes, 1 bets."""

    def play(first: int, second: int, past: str) -> State:
        sign = 1 if first > second else -1
        if past in {"pp", "bb", "pbb"}:
            return sign * (1 if past == "pp" else 2)
        if past in {"bp", "pbp"}:
            return 1 if past == "bp" else -1
        player = len(past) % 2
        card = (first, second)[player]
        moves = {i: _later(play, first, second, past + move) for i, move in enumerate("pb")}
        return _player(player, (card, past), moves)

    deals = [(i, j) for i in range(cards) for j in range(cards) if i != j]
    return _chance([(1.0 / len(deals), _later(play, i, j, "")) for i, j in deals])


def deal_leduc(ranks: int) -> Branch:
    """Returns Leduc poker with two cards of each rank: 0 folds, 1 calls or checks, 2 raises."""
    cards = 2 * ranks

    def play(hands: tuple[int, int], public: int, rounds: tuple[str, ...], paid: Any) -> State:
        past = rounds[-1]
        player = len(past) % 2
        if past.endswith("c") and len(past) > 1:
            if public < 0:
                return turn(hands, rounds, paid)
            strengths = [(hand == public, hand) for hand in hands]
            sign = (strengths[0] > strengths[1]) - (strengths[0] < strengths[1])
            return sign * paid[0]
        rest, owed = rounds[:-1], paid[1 - player] - paid[player]
        after = {}
        if owed:
            # Who folds loses what he has paid.
            after[0] = paid[1] if player else -paid[0]
        even = _replace(paid, player, paid[1 - player])
        after[1] = _later(play, hands, public, (*rest, past + "c"), even)
        if past.count("r") < 2:
            more = even[player] + (2 if public < 0 else 4)
            raised = _replace(even, player, more)
            after[2] = _later(play, hands, public, (*rest, past + "r"), raised)
        return _player(player, (hands[player], public, rounds), after)

    def turn(hands: tuple[int, int], rounds: tuple[str, ...], paid: Any) -> Branch:
        left = [2 - hands.count(rank) for rank in range(ranks)]
        return _chance(
            [
                (count / (cards - 2), _later(play, hands, rank, (*rounds, ""), paid))
                for rank, count in enumerate(left)
                if count
            ]
        )

    deals = []
    for first in range(ranks):
        for second in range(ranks):
            chance = 2 * (1 if first == second else 2) / (cards * (cards - 1))
            deals.append((chance, _later(play, (first, second), -1, ("",), (1, 1))))
    return _chance(deals)


def roll_liars_dice(faces: int) -> Branch:
    """Returns liar's dice with one die each: bids of a count and a face rise, the last doubts.

    Bid number b says that at least `1 + b // faces` dice show the face `b % faces`.
    """
    bids = 2 * faces

    def play(dice: tuple[int, int], past: tuple[int, ...]) -> State:
        player = len(past) % 2
        if past and past[-1] == bids:
            count, face = divmod(past[-2], faces)
            is_true = dice.count(face) > count
            # The doubter wins when the bid before was wrong; he moved last, and `player` is not he.
            return 1 if (player == 1) != is_true else -1
        lowest = past[-1] + 1 if past else 0
        moves = {bid: _later(play, dice, (*past, bid)) for bid in range(lowest, bids)}
        if past:
            moves[bids] = _later(play, dice, (*past, bids))
        return _player(player, (dice[player], past), moves)

    rolls = [(i, j) for i in range(faces) for j in range(faces)]
    return _chance([(1.0 / faces**2, _later(play, roll, ())) for roll in rolls])


def _later(function: Callable[..., State], *arguments: Any) -> Callable[[], State]:
    return lambda: function(*arguments)


def _replace(pair: tuple[int, int], index: int, value: int) -> tuple[int, int]:
    return (value, pair[1]) if index == 0 else (pair[0], value)
