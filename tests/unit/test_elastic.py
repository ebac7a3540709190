"""An elastic group of ranks: when another follows, and when it is asked to stop, so that a larger one can go on."""

from __future__ import annotations

import pytest

from ernie_core.errors import DivergedError, ErnieError, PreemptedError, ResourceError
from pipelines import resources
from pipelines.groups import Growth, why_again

STOPPED = PreemptedError("E-STOPPED", "stopped", where="a", expected="b", found="c", fix="d")
DIED = ResourceError("E-WORKER-DIED", "died")


@pytest.mark.parametrize(
    ("error", "given", "says"),
    [
        (STOPPED, {"stopped": False, "vain": 0, "elastic": True}, "a node is taken away"),
        (STOPPED, {"stopped": False, "vain": 0, "elastic": True, "grows": True}, "room for more ranks"),
        (DIED, {"stopped": False, "vain": 3, "elastic": True}, "E-WORKER-DIED"),
    ],
)
def test_another_group_follows(error: ErnieError, given: dict[str, bool | int], says: str) -> None:
    assert says in why_again(error, max_failures=3, **given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("error", "given"),
    [
        (STOPPED, {"stopped": True, "vain": 0, "elastic": True, "grows": True}),  # a person's stop counts, though nodes came
        (DIED, {"stopped": False, "vain": 4, "elastic": True}),
        (DivergedError("E-DIVERGED", "diverged"), {"stopped": False, "vain": 0, "elastic": True}),
    ],
)
def test_the_run_ends(error: ErnieError, given: dict[str, bool | int]) -> None:
    with pytest.raises(type(error)):
        why_again(error, max_failures=3, **given)  # type: ignore[arg-type]


class Places:
    """Stands in for what the cluster is asked for: so many processes, of which `found` have their place."""

    found = 0
    asked: list[int] = []  # noqa: RUF012  the test's own

    def __init__(self, _bundle: object, count: int) -> None:
        self.asked.append(count)

    def placed(self) -> int:
        """Return `found`."""
        return Places.found

    def close(self) -> None:
        """Note that the places are left."""
        self.asked.append(0)


def test_a_group_is_asked_to_stop_once_it_has_a_checkpoint_and_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    now, newest, calls = 100.0, "", list[str]()
    monkeypatch.setattr(resources, "Asked", Places)
    monkeypatch.setattr(Places, "asked", [])
    monkeypatch.setattr(resources.time, "monotonic", lambda: now)
    growth = Growth(4, 60.0, lambda: calls.append("ask"), lambda: calls.append("forget"))
    grower = resources.Grower(growth, {"CPU": 1.0}, 1, lambda: newest)
    grower.look()
    assert Places.asked == [], "asked for now, they would take the group's own places"
    newest = "step-00000005"
    grower.look()
    assert Places.asked == [3]
    now += 61
    grower.look()
    assert calls == [], "there is no room"
    monkeypatch.setattr(Places, "found", 1)
    now -= 30
    grower.look()
    assert calls == [], "it is not time"
    now += 30
    grower.look()
    grower.look()
    assert (calls, grower.grows) == (["ask"], True)
    grower.close()
    assert (calls, Places.asked) == (["ask", "forget"], [3, 0])


def test_a_group_of_a_fixed_size_asks_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "Asked", Places)
    monkeypatch.setattr(Places, "asked", [])
    steps = iter(range(9))
    grower = resources.Grower(None, {"CPU": 1.0}, 2, lambda: next(steps))
    grower.look()
    grower.look()
    grower.close()
    assert (Places.asked, grower.grows) == ([], False)
