"""Novelty: the distance that it is said to be, and left-out novelties that are those of refits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from trainer.recipes import novelty
from trainer.recipes.novelty import SHRINKAGE, Moments, fit_novelty, left_out, normalised


def channel_means(records: int, channels: int = 12, seed: int = 0) -> NDArray[np.float32]:
    """Non-negative, as after ReLU6, around the same two centres for every seed."""
    centres = np.random.default_rng(99).random((2, channels))
    noise = np.random.default_rng(seed).standard_normal((records, channels))
    return np.abs(centres[np.arange(records) % 2] + 0.3 * noise).astype(np.float32)


def without_norms(x: NDArray[np.float32]) -> NDArray[np.float64]:
    wide = x.astype(np.float64)
    return wide / np.linalg.norm(wide, axis=1, keepdims=True)


def by_definition(
    seen: NDArray[np.float32], asked: NDArray[np.float32], penalty: float
) -> NDArray[np.float64]:
    """The novelty of `asked` relative to `seen`, by an explicit inverse."""
    x, y = without_norms(seen), without_norms(asked)
    d = y - x.mean(axis=0)
    scatter = (x - x.mean(axis=0)).T @ (x - x.mean(axis=0))
    inverse = np.linalg.inv(scatter + penalty * np.eye(x.shape[1]))
    return len(x) / x.shape[1] * np.einsum("ij,jk,ik->i", d, inverse, d)


def penalty_of(seen: NDArray[np.float32]) -> float:
    """What is added to the scatter's diagonal."""
    x = without_norms(seen)
    return SHRINKAGE * float(((x - x.mean(axis=0)) ** 2).sum()) / x.shape[1]


@pytest.mark.parametrize("records", [4, 60])  # fewer than channels, and more
def test_novelty_is_the_mahalanobis_distance_with_a_shrunk_covariance(records: int) -> None:
    seen, asked = channel_means(records), channel_means(records, seed=1)
    found = fit_novelty(seen).novelty.of(asked)
    np.testing.assert_allclose(found, by_definition(seen, asked, penalty_of(seen)), rtol=1e-4)


@pytest.mark.parametrize("records", [3, 6, 60])
def test_left_out_novelties_are_those_of_refits_without_the_record(records: int) -> None:
    seen = channel_means(records)
    found = fit_novelty(seen).left_out
    assert found is not None
    for number in range(records):
        others = np.delete(seen, number, axis=0)
        [expected] = by_definition(others, seen[[number]], penalty_of(seen))
        assert found[number] == pytest.approx(expected, rel=1e-3)


def test_what_is_unlike_all_records_is_more_novel_than_any_of_them() -> None:
    fit = fit_novelty(channel_means(100))
    assert fit.left_out is not None
    limit = np.quantile(fit.left_out, 0.99)
    assert (fit.novelty.of(channel_means(200, seed=1)) > limit).mean() < 0.05
    foreign = np.eye(12, dtype=np.float32)
    assert (fit.novelty.of(foreign) > fit.left_out.max()).all()


def test_brightness_alone_does_not_change_the_novelty() -> None:
    x = channel_means(20)
    fit = fit_novelty(x)
    np.testing.assert_allclose(fit.novelty.of(3 * x), fit.novelty.of(x), rtol=1e-4)
    assert np.linalg.norm(normalised(x), axis=1) == pytest.approx(1)


def test_records_added_in_parts_give_the_same_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    x = channel_means(50)
    whole = fit_novelty(x)
    monkeypatch.setattr(novelty, "RECORDS_PER_PRODUCT", 7)
    parts = fit_novelty(x)
    np.testing.assert_allclose(parts.novelty.of(x), whole.novelty.of(x), rtol=1e-5)
    moments = Moments(12)
    for row in x:
        moments.add(row[None])
    assert moments.records == 50
    np.testing.assert_allclose(moments.fit().of(x), whole.novelty.of(x), rtol=1e-5)


def test_the_report_has_ascending_quantiles_from_the_least_to_the_greatest() -> None:
    fit = fit_novelty(channel_means(30))
    assert fit.left_out is not None
    report = fit.report()
    quantiles = report["quantiles"]
    assert (report["method"], report["left_out"]) == ("mahalanobis", 30)
    assert len(quantiles) == 1001
    assert quantiles == sorted(quantiles)
    assert quantiles[0] == fit.left_out.min()
    assert quantiles[500] == pytest.approx(np.median(fit.left_out))
    assert quantiles[-1] == fit.left_out.max()


def test_two_records_give_a_novelty_but_leave_none_out() -> None:
    x = channel_means(2)
    fit = fit_novelty(x)
    assert fit.report() == {"method": "mahalanobis", "left_out": 0, "quantiles": None}
    assert (fit.novelty.of(np.eye(12, dtype=np.float32)) > fit.novelty.of(x).max()).all()


@given(
    records=st.integers(3, 9),
    value=st.sampled_from([0.0, 1e-30, 1.0, 6.0]),
    different=st.integers(0, 3),
    channels=st.integers(1, 8),
)
def test_records_without_variety_give_finite_novelties(
    records: int, value: float, different: int, channels: int
) -> None:
    x = np.full((records, channels), value, np.float32)
    x[:different, 0] += 1
    fit = fit_novelty(x)
    assert fit.left_out is not None
    asked = np.concatenate([x, np.eye(channels, dtype=np.float32)])
    for found in (fit.left_out, fit.novelty.of(asked)):
        assert np.isfinite(found).all()
        assert (found >= 0).all()


def test_every_record_is_more_novel_when_it_is_left_out() -> None:
    x = channel_means(9)
    seen = fit_novelty(x).novelty.of(x)
    assert (left_out(seen, 9, 12) > seen).all()
