"""Recipe probe fits the same model whether it keeps the features of all records or of none."""

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tests.support.trainer import drawn_records, lay_out
from trainer.job import Job
from trainer.nets.convert import backbone_file, build_features, read_weights
from trainer.nets.specification import LITE0
from trainer.recipes import probe as recipe
from trainer.recipes import ridge_head
from trainer.recipes.probe import probe
from trainer.settings import Folders
from trainer.train import WEIGHTS_VARIABLE, open_job


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The backbone without products of channels, whose Gram matrix takes a moment."""
    folder = tmp_path_factory.mktemp("weights")
    graph = build_features(LITE0, read_weights(LITE0))
    onnx.save(graph, os.fspath(folder / backbone_file(LITE0.name)))
    return folder


@pytest.fixture
def job(tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    monkeypatch.setenv(WEIGHTS_VARIABLE, os.fspath(weights))
    lay_out(tmp_path, drawn_records(8), drawn_records(4, first_seed=100))
    return open_job(Folders(tmp_path))


def test_many_records_are_fitted_in_one_pass_to_the_same_model(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = probe(job)
    monkeypatch.setattr(recipe, "MAX_RECORDS", 23)
    stream = probe(job)
    assert stream.accuracies == whole.accuracies
    assert stream.report["cross_validation"]["l2"] == whole.report["cross_validation"]["l2"]
    assert stream.report["cross_validation"]["left_out"] == 24
    before, after = (
        {each.name: numpy_helper.to_array(each) for each in outcome.model.graph.initializer}
        for outcome in (whole, stream)
    )
    np.testing.assert_allclose(after["head.weight"], before["head.weight"], atol=1e-4)
    np.testing.assert_allclose(after["head.bias"], before["head.bias"], atol=1e-3)
    quantiles = [each.report["novelty"]["quantiles"] for each in (whole, stream)]
    np.testing.assert_allclose(quantiles[1], quantiles[0], rtol=1e-3)
    assert "features and head" in job.timings.seconds


def test_the_novelty_of_a_sample_is_left_out_of_all_records(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = probe(job)
    monkeypatch.setattr(recipe, "MAX_RECORDS", 23)
    monkeypatch.setattr(ridge_head, "SAMPLE", 10)
    part = probe(job).report["novelty"]
    assert part["left_out"] == 10
    assert part["quantiles"][0] >= whole.report["novelty"]["quantiles"][0] * 0.999
    assert part["quantiles"][-1] <= whole.report["novelty"]["quantiles"][-1] * 1.001
