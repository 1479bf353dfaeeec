import math

import pytest

from gossamer import InputError, errors


def test_only_what_is_near_is_suggested():
    assert errors.nearest("rigel", ("set", "rigl")) == " (did you mean 'rigl'?)"
    assert errors.nearest("quick", {"dense": 1, "rigl": 2}) == ""


@pytest.mark.parametrize(
    ("check", "good", "bad", "says"),
    [
        (errors.positive, (1, 1e-9, 5.0), (0, -1, math.inf, math.nan), "above 0 and finite"),
        (errors.finite, (0, -3.5), (math.inf, -math.inf, math.nan), "a finite number"),
        (errors.share, (0, 0.0, 0.999), (1, 1.0, -0.1, math.nan, math.inf), r"in \[0, 1\)"),
        (errors.learning_rate, (1e-9, 10), (0, -1, 11, 1e6, math.nan, math.inf), "above 0 and at most 10"),
        (lambda **v: errors.within(-1, 2, **v), (-1, 2, 0.5), (-1.1, 2.1, math.nan), r"in \[-1, 2\]"),
        (lambda **v: errors.at_least(2, **v), (2, 7), (1, 0, -4, math.nan, math.inf), "at least 2"),
    ],
)
def test_ranges_name_the_field_its_value_and_the_range(check, good, bad, says):
    check(**{f"x{i}": value for i, value in enumerate(good)}, nothing=None)
    for value in bad:
        with pytest.raises(InputError, match=f"^width is {value!r}; it must be {says}".replace("+", r"\+")):
            check(fine=good[0], width=value)


def test_one_of_names_the_nearest_and_all():
    errors.one_of(("a", "b"), letter="a", other=None)
    with pytest.raises(
        InputError, match=r"^method is 'rigle' \(did you mean 'rigl'\?\); it must be one of dense, rigl"
    ):
        errors.one_of(("dense", "rigl"), method="rigle")
