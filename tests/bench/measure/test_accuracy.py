"""The whole test set through the session that is timed; planted faults are found."""

from __future__ import annotations

import deployed
import pytest
import torch

from bench.compute.session import Session
from bench.machine.numerics import prepare
from bench.measure.accuracy import (
    Classified,
    TestSet,
    accuracy,
    accuracy_problem,
    classify,
    is_finite,
    reference,
)
from bench.record.deployment import DeploymentAccuracy
from bench.stats.hits import unpack
from bench.train import evaluate


@pytest.fixture(scope="module")
def tested() -> TestSet:
    return deployed.test_set()


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    return deployed.network()


def accuracy_of(
    session: Session, tested: TestSet, model: torch.nn.Module, batch_size: int = 32
) -> DeploymentAccuracy:
    with torch.inference_mode():
        found = classify(session, tested, batch_size, "cpu")
    return accuracy(found, reference(model, tested, "cpu"), tested)


@pytest.mark.parametrize("batch_size", [1, 7, 300, 512])
def test_every_image_is_classified_once_by_batches_of_one_size(
    batch_size: int, tested: TestSet, model: torch.nn.Module
) -> None:
    """300 images are no multiple of 7: the last batch is filled up, and what filled it left out."""
    session = deployed.fixed(deployed.session_of(model), batch_size)
    with torch.inference_mode():
        found = classify(session, tested, batch_size, "cpu")
    expected = reference(model, tested, "cpu")
    assert found.logits.shape == (300, 6)
    assert torch.allclose(found.logits, expected, atol=1e-5)
    assert found.seconds > 0


def test_eager_fp32_is_what_evaluate_finds_to_the_last_image(
    tested: TestSet, model: torch.nn.Module
) -> None:
    """The same images are right, and as many among five, as the test of a run finds."""
    from bench.data import place, test_batches

    own = accuracy_of(deployed.session_of(model), tested, model, batch_size=7)
    batches = test_batches(place(tested.dataset.test, "cpu"), 500, tested.normalization)
    predictions = evaluate.predict(model, batches, device="cpu")
    score = evaluate.score(predictions, 6)
    assert 0.5 < score.top1 < 1  # neither a guess nor without any error to tell apart
    assert (own.top1_correct, own.top5_correct) == (score.top1_correct, score.top5_correct)
    hits = predictions.top5[:, 0] == predictions.labels
    assert unpack(own.hits, 300).tolist() == hits.tolist()
    assert (own.changed, own.hits) == (0, own.reference_hits)
    assert accuracy_problem(own, "fp32") is None


def test_a_session_may_overwrite_its_logits(tested: TestSet, model: torch.nn.Module) -> None:
    """A graph writes each call's logits into the same memory; each call's are taken out of it."""
    buffer = torch.empty(32, 6)
    session = deployed.session_of(model)
    same = Session(lambda images: buffer.copy_(session.call(images)), session.adapt)
    assert accuracy_of(same, tested, model).changed == 0


def test_a_wrongly_folded_batch_norm_is_found(tested: TestSet, model: torch.nn.Module) -> None:
    session = deployed.session_of(deployed.wrongly_folded(model))
    found = accuracy_of(session, tested, model)
    assert "get another class than" in str(accuracy_problem(found, "fp32"))
    assert "points from eager fp32's" in str(accuracy_problem(found, "bf16"))
    assert 30 < found.changed < 300 * 0.3
    assert found.logit_error > 0.1


def test_two_swapped_classes_are_found(tested: TestSet, model: torch.nn.Module) -> None:
    """Even in the widest tolerance, int8's 10 points: a third of the images is of two classes."""
    session = deployed.with_swapped_classes(deployed.session_of(model))
    found = accuracy_of(session, tested, model)
    assert accuracy_problem(found, "int8") is not None
    assert found.top1_correct < 300 * 0.75


def test_what_rounding_changes_is_no_fault(tested: TestSet, model: torch.nn.Module) -> None:
    """A few images more or less are a result: the interval reaches into the tolerance."""
    session = deployed.session_of(model)
    noisy = Session(lambda images: session.call(images) + 1e-3 * images.mean(), session.adapt)
    found = accuracy_of(noisy, tested, model)
    assert accuracy_problem(found, "bf16") is None


def test_logits_that_are_not_finite_are_no_accuracy() -> None:
    logits = torch.zeros(3, 2)
    assert is_finite(Classified(logits, 1.0))
    logits[1, 0] = float("nan")
    assert not is_finite(Classified(logits, 1.0))


def test_the_pass_costs_little_more_than_the_calls(tested: TestSet) -> None:
    """Images are normalised many at a time: at batch 1 a call's own time is most of the pass."""
    prepare("cpu")
    calls: list[int] = []
    session = Session(lambda images: calls.append(len(images)) or torch.zeros(1, 6), lambda x: x)
    with torch.inference_mode():
        found = classify(session, tested, 1, "cpu")
    assert calls == [1] * 300
    assert found.seconds < 300 * 1e-3
