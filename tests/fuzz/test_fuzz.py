"""Whatever has happened to a file, `vidrestore` restores what is left of it or says in one line why it cannot."""

import os
from collections import Counter

import pytest

from tests.fuzz.damage import BASES, KINDS, make_case
from tests.fuzz.run import verdicts

NUM_CASES = 200
LIMIT_S = 100.0
"""No case is begun after this; 200 take about 30 s on two idle cores."""
MIN_CASES = 100
"""How many must have been judged by then."""


def test_of_200_damaged_files_none_crashes_hangs_fills_memory_or_loses_sound() -> None:
    found = list(verdicts(range(NUM_CASES), seed=0, children=min(2, os.cpu_count() or 1), limit_s=LIMIT_S))
    assert [f"{case.name}: {defect}" for case, verdict in found for defect in verdict.defects] == []
    assert len(found) >= MIN_CASES
    outcomes = Counter(verdict.exit_code for _, verdict in found)
    assert outcomes.keys() == {0, 2}
    assert outcomes[0] > len(found) / 3, "most files can be restored in part"


@pytest.mark.parametrize("number", range(len(KINDS)))
def test_the_same_seed_makes_the_same_damage(number: int) -> None:
    case, again, other = make_case(1, number), make_case(1, number), make_case(2, number)
    assert case == again
    assert case.content != other.content


def test_every_kind_of_damage_meets_every_container() -> None:
    pairs = {(make_case(0, number).kind, make_case(0, number).suffix) for number in range(len(BASES) * len(KINDS))}
    assert pairs == {(kind, suffix) for kind in KINDS for suffix in (".mp4", ".mkv", ".avi", ".ts")}
