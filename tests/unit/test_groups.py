from __future__ import annotations

import pytest

from ernie_core.errors import DivergedError, ErnieError, InputError, PreemptedError, ResourceError
from pipelines.groups import NOT_STARTED, error_of, parts_of, why_again

LEFT = PreemptedError("E-STOPPED", "stopped at step 9 of 20 with a good checkpoint", where="runs/a")
DIED = ResourceError("E-WORKER-DIED", "training processes died again and again")
NO_START = ResourceError(NOT_STARTED, "training processes could not be started")


@pytest.mark.parametrize(
    ("error", "stopped", "vain", "why"),
    [
        (LEFT, False, 9, "a node is taken away, and the ranks left it with a checkpoint"),
        (DIED, False, 0, "E-WORKER-DIED training processes died again and again"),
        (NO_START, False, 3, "E-RANKS-START training processes could not be started"),
    ],
)
def test_a_group_is_followed_by_another_where_that_can_help(error: ErnieError, stopped: bool, vain: int, why: str) -> None:
    assert why_again(error, stopped=stopped, vain=vain, max_failures=3) == why


@pytest.mark.parametrize(
    ("error", "stopped", "vain"),
    [
        (LEFT, True, 0),  # a person stopped it
        (DIED, False, 1),  # no checkpoint came in between
        (NO_START, False, 4),
        (DivergedError("E-DIVERGED", "bad steps"), False, 0),
        (InputError("E-SCHEMA", "another column"), False, 0),
    ],
)
def test_any_other_end_of_a_group_is_the_end(error: ErnieError, stopped: bool, vain: int) -> None:
    with pytest.raises(type(error)) as e:
        why_again(error, stopped=stopped, vain=vain, max_failures=3)
    assert e.value is error


def test_an_error_of_all_ranks_travels_to_the_driver_whole() -> None:
    again = error_of(parts_of(LEFT))
    assert (type(again), str(again)) == (PreemptedError, str(LEFT))
