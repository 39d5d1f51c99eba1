"""Evaluation: what is counted, what is stored, what is refused."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bench.errors import UserError
from bench.train import evaluate


class Fixed(nn.Module):
    """Return the logits that the images hold in their first row: (B, 1, 1, K) -> (B, K)."""

    def forward(self, images: Tensor) -> Tensor:
        return images[:, 0, 0]


def predictions(logits: list[list[float]], labels: list[int]) -> evaluate.Predictions:
    images = torch.tensor(logits)[:, None, None]
    batches = zip(images.split(2), torch.tensor(labels).split(2), strict=True)
    return evaluate.predict(Fixed(), batches, device="cpu")


# Six classes; the first image is right, the second has its label fifth, the third has it last.
LOGITS = [[9.0, 5, 4, 3, 2, 1], [5, 4, 3, 2, 1, 0], [5, 4, 3, 2, 1, 0]]
LABELS = [0, 4, 5]


def test_top1_counts_the_first_and_top5_the_first_five() -> None:
    accuracy = evaluate.score(predictions(LOGITS, LABELS), 6)
    assert (accuracy.top1_correct, accuracy.top5_correct, accuracy.num_images) == (1, 2, 3)
    assert (accuracy.top1, accuracy.top5) == (1 / 3, 2 / 3)


def test_top5_is_none_with_five_classes_or_fewer() -> None:
    few = predictions([[1.0, 2, 3]], [2])
    assert few.top5.tolist() == [[2, 1, 0]]
    assert evaluate.score(few, 3).top5 is None


def test_predictions_hold_order_confidence_and_nll_of_each_image() -> None:
    found = predictions(LOGITS, LABELS)
    log_p = torch.log_softmax(torch.tensor(LOGITS), 1)
    assert found.top5.tolist() == [[0, 1, 2, 3, 4]] * 3
    assert found.labels.tolist() == LABELS
    np.testing.assert_allclose(found.confidence, log_p.exp().max(1).values, rtol=1e-6)
    np.testing.assert_allclose(found.nll, [-log_p[i, y] for i, y in enumerate(LABELS)], rtol=1e-6)


def test_logits_that_are_not_finite_never_become_an_accuracy() -> None:
    for bad in (float("nan"), float("inf"), float("-inf")):
        with pytest.raises(evaluate.NotFinite):
            predictions([[bad] * 6, [0.0] * 6], [0, 0])


def test_the_model_is_tested_in_eval_mode_and_left_as_it_was() -> None:
    model = nn.Sequential(nn.BatchNorm2d(1), Fixed()).train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    evaluate.predict(model, [(torch.randn(4, 1, 1, 6), torch.zeros(4).long())], device="cpu")
    assert model.training
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_predictions_survive_a_round_trip_to_disk(tmp_path: Path) -> None:
    found = predictions(LOGITS, LABELS)
    evaluate.save_predictions(tmp_path / "predictions.npz", found)
    again = evaluate.load_predictions(tmp_path / "predictions.npz")
    for name in ("labels", "top5", "confidence", "nll"):
        np.testing.assert_array_equal(getattr(found, name), getattr(again, name))
    assert again.labels.dtype == np.int16
    assert again.nll.dtype == np.float32


def test_a_prediction_file_with_a_pickle_in_it_is_refused_and_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "touched",)

    path = tmp_path / "predictions.npz"
    np.savez(path, labels=np.array([Evil()], dtype=object))
    with pytest.raises(UserError, match="holds no predictions"):
        evaluate.load_predictions(path)
    path.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(UserError, match="holds no predictions"):
        evaluate.load_predictions(path)
    assert not (tmp_path / "touched").exists()
