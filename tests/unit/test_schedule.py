"""The split of iterations over stages, the order of tasks, and learning rates."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ernie_core.errors import RecipeError
from ernie_core.training.schedule import learning_rate, linear_warmup_decay, noam_decay, stage_plan, task_sequence

K = 1000
PAPER = [["masking"], ["capital"], ["token_document"], ["reordering"]]
COUNTS = dict.fromkeys(["masking", "capital", "token_document", "reordering"], 50 * K)


def test_the_continual_split_reproduces_the_papers_table():
    plan = stage_plan("continual", PAPER, COUNTS)
    assert plan == [
        {"masking": 20 * K},
        {"masking": 10 * K, "capital": 30 * K},
        {"masking": 10 * K, "capital": 10 * K, "token_document": 40 * K},
        {"masking": 10 * K, "capital": 10 * K, "token_document": 10 * K, "reordering": 50 * K},
    ]


def test_remainders_fall_to_the_stage_where_the_task_enters():
    assert stage_plan("continual", [["a"], ["b"]], {"a": 11, "b": 5}) == [{"a": 8}, {"a": 3, "b": 5}]


def test_multi_task_is_one_stage_of_everything():
    assert stage_plan("multi_task", [["b"], ["a"]], {"a": 11, "b": 5}) == [{"b": 5, "a": 11}]


def test_sequential_trains_only_what_enters():
    assert stage_plan("sequential", [["b"], ["a"]], {"a": 11, "b": 5}) == [{"b": 5}, {"a": 11}]


@st.composite
def stages(draw):
    names = [f"t{i}" for i in range(draw(st.integers(1, 6)))]
    first = draw(st.lists(st.integers(0, 3), min_size=len(names), max_size=len(names)))
    entering = [[n for n, s in zip(names, first, strict=True) if s == k] for k in range(4)]
    return [e for e in entering if e], {n: draw(st.integers(1, 500)) for n in names}


@given(stages(), st.sampled_from(["continual", "multi_task", "sequential"]))
def test_each_schedule_spends_every_tasks_iterations_exactly(given_stages, schedule):
    entering, iterations = given_stages
    plan = stage_plan(schedule, entering, iterations)
    assert sum((Counter(stage) for stage in plan), Counter()) == Counter(iterations)


@given(stages(), st.integers(0, 2**40))
def test_a_sequence_holds_exactly_the_planned_counts(given_stages, seed):
    plan = stage_plan("continual", *given_stages)
    assert all(Counter(task_sequence(plan, s, seed)) == Counter(plan[s]) for s in range(len(plan)))


def test_a_sequence_depends_on_seed_and_stage_and_not_on_the_order_of_names():
    plan = [{"a": 30, "b": 30}, {"b": 30, "a": 30}]
    same = task_sequence(plan, 0, 7)
    assert same == task_sequence([{"b": 30, "a": 30}], 0, 7)
    assert same != task_sequence(plan, 1, 7)
    assert same != task_sequence(plan, 0, 8)


@pytest.mark.parametrize(
    ("schedule", "entering", "iterations", "code", "message"),
    [
        ("continuall", [["a"]], {"a": 1}, "E-NAME", "unknown schedule 'continuall'; expected one of continual"),
        ("continual", [["a"], []], {"a": 1}, "E-SCHEDULE", "a stage without entering tasks"),
        ("continual", [], {}, "E-SCHEDULE", "a stage without entering tasks"),
        ("continual", [["a"], ["a"]], {"a": 1}, "E-SCHEDULE", "a enters more than once"),
        ("multi_task", [["a", "b"]], {"a": 1, "b": 0}, "E-SCHEDULE", "no iterations for b"),
        ("sequential", [["a"]], {"a": 1, "c": 4}, "E-SCHEDULE", "c has iterations but enters no stage"),
    ],
)
def test_a_wrong_plan_is_refused(schedule, entering, iterations, code, message):
    with pytest.raises(RecipeError) as error:
        stage_plan(schedule, entering, iterations)
    assert error.value.code == code
    assert message in str(error.value)


def test_the_learning_rate_warms_up_to_the_peak_and_goes_down_in_a_line():
    rates = [learning_rate(step, 10, 1.0, 0.2) for step in range(10)]
    assert rates == [0.5, 1.0, 1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125]


@given(st.integers(1, 400), st.floats(0, 1))
def test_the_learning_rate_is_above_zero_and_at_most_the_peak(steps, share):
    rates = [learning_rate(step, steps, 3e-4, share) for step in range(steps)]
    assert all(0 < rate <= 3e-4 for rate in rates)
    assert max(rates) == pytest.approx(3e-4)


def test_linear_warmup_decay_follows_the_published_code():
    rates = [linear_warmup_decay(step, 1.0, 4, 10) for step in range(12)]
    assert rates == pytest.approx([0, 0.25, 0.5, 0.75, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0, 0])


def test_noam_decay_peaks_at_the_end_of_warmup():
    rates = [noam_decay(step, 1.0, 4) for step in range(16)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates[15] == 0.5


def test_without_warmup_the_published_schedules_are_constant():
    assert [linear_warmup_decay(s, 0.1, 0, 10) for s in (0, 5, 99)] == [0.1] * 3
    assert [noam_decay(s, 0.1, 0) for s in (0, 5, 99)] == [0.1] * 3
