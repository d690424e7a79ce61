"""Folding, chunks, schedules and groups of recipe finetune, in the environment with PyTorch."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support import needs
from tests.support.torch_jobs import TorchJobs

GPU = Path("/dev/nvidiactl")


@pytest.fixture(scope="module")
def found(torch_jobs: TorchJobs, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What torch_network.py tells."""
    folder = tmp_path_factory.mktemp("network")
    code, said = torch_jobs.call(folder, "torch_network", str(folder / "out.json"))
    assert code == 0, said
    return dict(json.loads((folder / "out.json").read_text("utf-8")))


def test_a_folded_net_has_the_same_function_without_norms(found: dict[str, Any]) -> None:
    assert found["fold_difference"] < 1e-5
    assert found["fold_norms_left"] == 0
    assert found["fold_source_unchanged"]


def test_a_net_that_folding_would_change_is_left_as_it_is(found: dict[str, Any]) -> None:
    assert found["fold_refused"]


def test_chunks_have_one_size_and_all_images_once(found: dict[str, Any]) -> None:
    assert set(found["chunk_sizes"]) == {4}
    np.testing.assert_allclose(found["chunks"], found["chunks_expected"], atol=1e-4)
    np.testing.assert_allclose(found["chunks_of_two"], found["chunks"], atol=1e-6)


def test_an_epoch_repeats_and_is_shared_exactly(found: dict[str, Any]) -> None:
    assert found["schedule_steps"] == 2
    assert found["schedule_halves"]
    assert found["schedule_repeats"]
    assert found["schedule_differs"]
    assert found["schedule_labels"]
    rates = found["schedule_rates"]
    assert rates[0] < rates[1]
    assert rates[1:] == sorted(rates[1:], reverse=True)


def test_every_few_epochs_are_evaluated_and_the_last(found: dict[str, Any]) -> None:
    assert found["evaluated"] == [2, 5, 8, 11, 14, 17, 20, 23, 24]


def test_a_checkpoint_is_due_by_time_or_by_the_number_of_epochs(found: dict[str, Any]) -> None:
    assert found["due_by_time"] == [False, True, False]
    assert found["due_by_number"] == [False, True, False, True]
    assert found["checkpoint_read"] == [1]
    assert found["checkpoint_of_another"] is None


def test_few_groups_hold_every_parameter_with_a_rate_by_depth(found: dict[str, Any]) -> None:
    assert found["groups"] < 20
    assert found["group_parameters"] == found["parameters"]
    rates = found["group_rates"]
    assert 0.15 <= rates[0] < rates[-1] == 1
    assert found["group_decays"] == [0, 0.1]


def test_views_are_smaller_than_what_is_served(found: dict[str, Any]) -> None:
    assert found["view_shape"] == [192, 328]


@needs.only_with("gpu", GPU.exists(), f"there is no {GPU}")
def test_a_cuda_graph_has_the_losses_of_steps_launched_one_by_one(found: dict[str, Any]) -> None:
    """Sums in another order, in bfloat16, differ in the third digit."""
    assert found["graph"] == pytest.approx(found["eager"], rel=0.02)
