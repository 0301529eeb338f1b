import math

import numpy as np
import pytest
from scipy.special import gammaln

from edgecell.edge.count.differential import Differential, wilson
from edgecell.edge.count.sequential import Goal, parse_goal, sequential_interval
from edgecell.errors import InputError


def test_one_cell_by_hand() -> None:
    # n = 1, k = 1: 2 p > 0.05.
    assert sequential_interval(1, 1) == pytest.approx((0.025, 1.0))
    # n = 2, k = 0: 3 (1 - p)^2 > 0.05.
    assert sequential_interval(0, 2) == pytest.approx((0, 1 - math.sqrt(0.05 / 3)))


def test_no_cell_says_nothing() -> None:
    assert sequential_interval(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(("count", "total"), [(0, 200), (3, 60), (50, 100), (200, 200)])
def test_wider_than_an_interval_for_a_fixed_number(count: int, total: int) -> None:
    low, high = sequential_interval(count, total)
    fixed_low, fixed_high = wilson(count, total)
    assert low <= fixed_low <= count / total <= fixed_high <= high


@pytest.mark.parametrize("share", [0.01, 0.05, 0.3, 0.6])
def test_covers_at_all_numbers_of_cells_at_once(share: float) -> None:
    """10,000 runs of 400 cells: how often any of the 400 intervals misses."""
    runs, cells = 10_000, 400
    draws = np.random.default_rng(1).random((runs, cells)) < share
    k, n = np.cumsum(draws, axis=1), np.arange(1, cells + 1)
    constant = gammaln(n + 2) - gammaln(k + 1) - gammaln(n - k + 1)
    inside = constant + k * np.log(share) + (n - k) * np.log1p(-share) > np.log(0.05)
    missed = 1 - inside.all(axis=1).mean()
    assert 0 < missed <= 0.05
    run = int(np.argmax(~inside.all(axis=1)))
    for i in range(0, cells, 7):  # the bisection agrees with the formula
        low, high = sequential_interval(int(k[run, i]), int(n[i]))
        assert (low < share < high) == inside[run, i]


def counted(mye: int, others: int, waiting: int = 0) -> Differential:
    return Differential({"MYE": mye, "LY": others}, {"LY": waiting} if waiting else {})


def test_a_goal_is_decided_either_way_or_not_yet() -> None:
    goal = parse_goal("MYE<5%")
    assert goal.outcome(counted(0, 30)) is None
    assert goal.outcome(counted(0, 300)) is True
    assert goal.outcome(counted(60, 100)) is False


def test_a_goal_for_machines() -> None:
    assert parse_goal("MYE<5%").to_dict(counted(60, 100)) == {
        "goal": "MYE<5%",
        "holds": False,
        "white_cells": 160,
        "low": pytest.approx(100 * sequential_interval(60, 160)[0], abs=0.01),
        "high": pytest.approx(100 * sequential_interval(60, 160)[1], abs=0.01),
    }


def test_waiting_cells_keep_a_goal_open() -> None:
    goal = parse_goal("MYE<5%")
    assert goal.outcome(counted(0, 300, waiting=20)) is None
    low, high = goal.interval(counted(0, 300, waiting=20))
    assert low == 0.0
    assert high == sequential_interval(20, 320)[1]


def test_a_width_is_reached_and_never_refuted() -> None:
    goal = parse_goal("width: MYE<10%".replace(" ", ""))
    assert goal.outcome(counted(10, 10)) is None
    assert goal.outcome(counted(1, 400)) is True


@pytest.mark.parametrize(
    ("text", "goal"),
    [
        ("MYE<5%", Goal(("MYE",), 0.05, False)),
        ("BNE+SNE < 62.5 %", Goal(("BNE", "SNE"), 0.625, False)),
        ("width:SNE<10%", Goal(("SNE",), 0.1, True)),
    ],
)
def test_goals_are_read(text: str, goal: Goal) -> None:
    assert parse_goal(text) == goal
    assert parse_goal(str(goal)) == goal


@pytest.mark.parametrize(
    "text", ["", "MYE", "MYE>5%", "MYE<0%", "MYE<100%", "PLT<5%", "NEU<5%", "MYE+<5%"]
)
def test_no_goal(text: str) -> None:
    with pytest.raises(InputError):
        parse_goal(text)
