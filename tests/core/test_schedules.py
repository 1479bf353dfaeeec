import pytest

import gossamer as gs
from gossamer.schedules import SCHEDULES, schedule


@pytest.mark.parametrize(
    ("name", "quarter", "half"),
    [("constant", 1, 1), ("linear", 0.25, 0.5), ("cubic", 37 / 64, 7 / 8), ("cosine", 0.1464466, 0.5)],
)
def test_values_worked_out_by_hand(name: str, quarter: float, half: float) -> None:
    assert schedule(name)(0.25) == pytest.approx(quarter)
    assert schedule(name)(0.5) == pytest.approx(half)


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_rises_and_ends_at_one(name: str) -> None:
    values = [schedule(name)(k / 100) for k in range(101)]
    assert values == sorted(values)
    assert values[-1] == pytest.approx(1)
    assert name == "constant" or values[0] == 0


def test_a_function_is_its_own_schedule_and_an_unknown_name_is_told_the_known_ones() -> None:
    assert schedule(abs) is abs
    with pytest.raises(gs.InputError, match="'cube'; choose one of constant, linear, cubic, cosine"):
        schedule("cube")
