"""Histograms: quantiles are within the promised error of the exact ones, whatever the durations."""

from __future__ import annotations

import pickle
from math import ceil, fsum, inf, nan

import pytest
from hypothesis import given, strategies as st

from offloop import Histogram
from offloop.observe.histogram import Recorder

durations = st.floats(min_value=1e-9, max_value=1e6)
many = st.lists(durations, min_size=1, max_size=200)
#: The promise of `Histogram.quantile`.
ERROR = 1 / 32


def histogram(*batches: list[float]) -> Histogram:
    recorder = Recorder()
    for batch in batches:
        recorder.record_many(batch)
    return recorder.snapshot()


def exact(values: list[float], q: float) -> float:
    """The nearest-rank quantile."""
    return sorted(values)[max(1, ceil(q * len(values))) - 1]


@given(many, st.floats(min_value=0, max_value=1))
def test_a_quantile_is_within_its_error_of_the_exact_one(values: list[float], q: float) -> None:
    wanted = exact(values, q)
    assert abs(histogram(values).quantile(q) - wanted) <= ERROR * wanted


@given(st.lists(many, max_size=5))
def test_count_sum_and_extremes_are_exact(batches: list[list[float]]) -> None:
    found = histogram(*batches)
    values = [value for batch in batches for value in batch]
    assert found.count == len(values)
    assert found.total == pytest.approx(fsum(values))
    assert found.mean == pytest.approx(fsum(values) / len(values) if values else 0.0)
    assert (found.min, found.max) == ((min(values), max(values)) if values else (0.0, 0.0))


@given(many, many)
def test_adding_recorders_is_recording_everything_in_one(first: list[float], second: list[float]) -> None:
    both = Recorder()
    for batch in first, second:
        recorder = Recorder()
        recorder.record_many(batch)
        both.add(recorder)
    found, wanted = both.snapshot(), histogram(first + second)
    assert found.buckets == wanted.buckets
    assert (found.count, found.min, found.max) == (wanted.count, wanted.min, wanted.max)
    assert found.total == pytest.approx(wanted.total)


@given(many, many)
def test_since_has_what_was_added(before: list[float], after: list[float]) -> None:
    recorder = Recorder()
    recorder.record_many(before)
    earlier = recorder.snapshot()
    recorder.record_many(after)
    found = recorder.snapshot().since(earlier)
    assert found.count == len(after)
    assert found.buckets == histogram(after).buckets
    for q in (0.0, 0.5, 0.9, 1.0):  # the extremes are known to their bucket only
        wanted = exact(after, q)
        assert abs(found.quantile(q) - wanted) <= 2 * ERROR * wanted


@given(many)
def test_every_duration_is_in_the_bucket_below_its_bound(values: list[float]) -> None:
    buckets = histogram(values).buckets
    assert [bound for bound, _ in buckets] == sorted({bound for bound, _ in buckets})
    assert sum(count for _, count in buckets) == len(values)
    for bound, count in buckets:
        assert sum(bound / (1 + 1 / 15.99) <= value < bound for value in values) >= count


def test_no_durations_are_all_zero() -> None:
    empty = histogram([])
    assert empty == Histogram()
    assert (empty.mean, empty.p50, empty.p99, empty.max, empty.buckets) == (0.0, 0.0, 0.0, 0.0, ())
    assert histogram([1.0]).since(histogram([1.0])) == empty


def test_what_is_no_duration_counts_as_zero() -> None:
    found = histogram([nan, -1.0, inf, -inf, -0.0, -nan], [2.0])
    assert (found.count, found.min, found.max, found.total) == (7, 0.0, 2.0, 2.0)
    assert found.p50 == 0.0


@pytest.mark.parametrize("q", [-0.1, 1.1, nan])
def test_a_quantile_out_of_range_is_refused(q: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        histogram([1.0]).quantile(q)


def test_a_histogram_is_frozen_and_can_be_pickled_and_hashed() -> None:
    found = histogram([0.001, 0.5])
    assert pickle.loads(pickle.dumps(found)) == found
    assert len({found, histogram([0.001, 0.5])}) == 1
    with pytest.raises(AttributeError):
        found.count = 3  # type: ignore[misc]


def test_its_dictionary_has_the_usual_numbers() -> None:
    found = histogram([0.25, 0.5])
    assert found.to_dict() == {
        "count": 2, "mean": 0.375, "min": 0.25, "max": 0.5,
        "p50": found.p50, "p90": found.p90, "p99": found.p99,
    }  # fmt: skip
