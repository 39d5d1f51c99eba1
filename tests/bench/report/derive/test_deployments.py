"""Deployments in a report: each with its own accuracy, and nothing with another's."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import record_factory as make
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure

from bench.record.deployment import CalibrationFacts, DeploymentAccuracy, QuantizationFacts
from bench.record.read_write import from_json, to_json
from bench.report.charts.draw import _deployments
from bench.report.derive.deployments import deployment_fronts, gate_losses
from bench.report.derive.findings import findings
from bench.report.derive.headline import headlines
from bench.report.derive.seeds import UNKNOWN, SeedLuck, luck_of
from bench.report.page import markdown
from bench.report.page.tables import csv_table
from bench.report.page.tables.deployments import deployment_tables
from bench.report.page.tables.main_table import main_table
from bench.report.read.deployed import adjusted_p, deployments
from bench.report.read.load import load
from bench.report.read.plausible import contradiction
from bench.report.read.study import Study, study
from bench.spec.recipe import Recipe
from bench.stats.accuracy import mcnemar
from bench.stats.hits import pack

NUM_IMAGES = 1000
Hits = np.ndarray[tuple[int], np.dtype[np.bool_]]


def hits(share: float, seed: int = 0) -> Hits:
    return np.random.default_rng(seed).random(NUM_IMAGES) < share


def losing(reference: Hits, lost: int, won: int = 0) -> Hits:
    """Return the reference with its first right images wrong, and its first wrong ones right."""
    found = reference.copy()
    found[np.flatnonzero(reference)[:lost]] = False
    found[np.flatnonzero(~reference)[:won]] = True
    return found


def accuracy(own: Hits, reference: Hits) -> DeploymentAccuracy:
    return DeploymentAccuracy(
        dataset="Shapes",
        digest="a" * 64,
        num_images=len(own),
        top1_correct=int(own.sum()),
        top5_correct=len(own),
        predictions_sha256="0" * 64,
        hits=pack(own),
        reference_hits=pack(reference),
        changed=int((own != reference).sum()),
        logit_error=0.01,
        seconds=1.0,
    )


def int8_facts() -> QuantizationFacts:
    drawn = CalibrationFacts(source="training split", num_images=256, seed=0, digest="b" * 64)
    return QuantizationFacts(method="m", int8_operators=20, operators=21, calibration=drawn)


def write(folder: Path, name: str, runtime: str, precision: str, **changes: Any) -> None:
    """Write the profiles of a model's deployment in three sittings."""
    for seed in range(3):
        record = make.profile_record(
            make.model(name),
            runtime=runtime,
            precision=precision,
            id=f"{name}-{runtime}-{precision}-{seed}",
            seed=seed,
            **changes,
        )
        assert from_json(to_json(record)) == record
        make.write_profile(folder, record)


@pytest.fixture
def shown(tmp_path: Path) -> Study:
    """A run with 800 of 1,000 right, and what deploying does to it in four rows."""
    own = hits(0.8)
    make.write_run(tmp_path / "run", own, spec=make.model("resnet50"))
    lossy = losing(own, 30, 4)
    write(tmp_path, "resnet50", "eager", "fp32", accuracy=accuracy(own, own), call_s=0.2)
    write(tmp_path, "resnet50", "openvino", "int8", accuracy=accuracy(lossy, own), call_s=0.05,
          quantization=int8_facts(), weight_bytes=23_500_000)  # fmt: skip
    write(tmp_path, "resnet50", "openvino", "bf16", call_s=0.1)
    write(tmp_path, "resnet50", "compile", "fp32", accuracy=accuracy(own, own), call_s=0.15)
    return study(load([tmp_path]))


def lines(shown: Study) -> dict[tuple[str, str], dict[str, str]]:
    read = csv.DictReader(io.StringIO(csv_table.to_csv(shown)))
    return {(row["runtime"], row["precision"]): row for row in read}


def test_no_row_shows_the_accuracy_of_another_artefact(shown: Study) -> None:
    """What was not tested itself is empty, and accuracy_of says what was in its place."""
    found = lines(shown)
    own = hits(0.8)
    assert found["eager", "fp32"]["accuracy_of"] == "eager fp32"
    assert float(found["eager", "fp32"]["top1"]) == pytest.approx(own.mean())
    assert found["openvino", "int8"]["accuracy_of"] == "this deployment"
    assert float(found["openvino", "int8"]["top1"]) == pytest.approx(own.mean() - 0.026)
    bf16 = found["openvino", "bf16"]
    assert bf16["accuracy_of"] == "eager fp32, not this"
    empty = ("top1", "top1_low", "top1_high", "top5", "ece", "test_loss", "top1_change")
    assert [bf16[name] for name in empty] == [""] * len(empty)
    assert found["openvino", "int8"]["ece"] == ""
    assert float(bf16["throughput"]) > 0


def test_what_deploying_loses_is_paired_on_the_same_images(shown: Study) -> None:
    row = lines(shown)["openvino", "int8"]
    assert float(row["top1_change"]) == pytest.approx(-0.026)
    assert float(row["top1_change_low"]) < -0.026 < float(row["top1_change_high"]) < 0
    assert float(row["top1_change_p"]) == pytest.approx(mcnemar(30, 4))
    assert row["changed_predictions"] == "34"
    assert (row["int8_operators"], row["quantizable_operators"]) == ("20", "21")
    assert (row["calibration_images"], row["weight_bytes"]) == ("256", "23500000")


def test_p_values_are_corrected_for_the_rows_and_eager_fp32_is_none_of_them(shown: Study) -> None:
    found = deployments(shown.costs)
    adjusted = adjusted_p(found)
    names = {one.key: one.row.first.runtime for one in found}
    by_runtime = {names[key]: p for key, p in adjusted.items()}
    assert set(by_runtime) == {"openvino", "compile"}
    assert by_runtime["openvino"] == pytest.approx(2 * mcnemar(30, 4))
    assert by_runtime["compile"] == 1


def test_points_are_deployments(shown: Study) -> None:
    """int8 is the fastest and fp32 compiled the most accurate: eager is on no front."""
    (front,) = deployment_fronts(shown.costs)
    on_front = {p.deployment.row.first.runtime: p.on_front for p in front.points}
    assert on_front == {"openvino": True, "compile": True, "eager": False}
    assert [choice.deployment.row.first.runtime for choice in front.choices] == [
        "openvino",
        "compile",
    ]
    assert all(0 < point.probability <= 1 for point in front.points if point.on_front)
    assert front.withheld == ""


def test_a_chart_has_a_point_for_each_deployment_at_its_own_accuracy_and_cost(
    shown: Study,
) -> None:
    """The row in bf16, whose accuracy nobody measured, is no point."""
    (plan,) = _deployments(findings(shown))
    figure = Figure()
    plan.draw(figure)
    (axes,) = figure.axes
    drawn = np.concatenate([kind.get_offsets() for kind in axes.collections
                            if isinstance(kind, PathCollection)])  # fmt: skip
    own, seconds = 100 * hits(0.8).mean(), np.array([0.05, 0.15, 0.2])
    by_x = drawn[np.argsort(drawn[:, 0])]
    (front,) = deployment_fronts(shown.costs)
    if not front.axis.less_is_better:
        by_x = by_x[::-1]
        seconds = 1 / seconds
    np.testing.assert_allclose(by_x[:, 0] / by_x[0, 0], seconds / seconds[0], rtol=1e-6)
    np.testing.assert_allclose(by_x[:, 1], [own - 2.6, own, own])
    words = {text.get_text() for text in axes.texts}
    assert {f"resnet50 {what}" for what in ("int8 openvino", "fp32 compile")} <= words


def test_several_trained_networks_have_no_chances_by_images_alone(tmp_path: Path) -> None:
    """The luck of each training would have to be in them; one network's deployments have them."""
    for seed, name in enumerate(("resnet50", "se_resnet50")):
        own = hits(0.8, seed)
        make.write_run(tmp_path / name, own, spec=make.model(name))
        for runtime, seconds in (("eager", 0.2), ("compile", 0.1)):
            write(tmp_path, name, runtime, "fp32", accuracy=accuracy(own, own), call_s=seconds)
    (front,) = deployment_fronts(study(load([tmp_path])).costs)
    assert len(front.points) == 4
    assert "lucky" in front.withheld
    assert {point.probability for point in front.points} == {None}
    assert {choice.probability for choice in front.choices} == {None}


def test_deployments_of_one_sitting_have_no_chances(shown: Study) -> None:
    """Nothing is known of the next sitting: the front as measured, and why no chance is given."""
    rows = [replace(row, profiles=row.profiles[:1]) for row in shown.costs]
    (front,) = deployment_fronts(rows)
    assert {one.probability for one in (*front.points, *front.choices)} == {None}
    text = markdown.render(deployment_tables(replace(shown, costs=tuple(rows))))
    assert "No probabilities: a cost is of one sitting" in text
    assert "best within it" not in text
    assert "best within it" in markdown.render(deployment_tables(shown))


def test_the_report_has_a_table_of_what_precision_and_runtime_do(shown: Study) -> None:
    text = markdown.render(deployment_tables(shown))
    assert "## What precision and runtime do" in text
    assert "| int8 | openvino | 64 |" in text
    assert "20 of 21" in text
    assert "Which deployment to take, Shapes" in text


def test_the_main_table_leaves_empty_what_was_not_tested(tmp_path: Path) -> None:
    """The only row is OpenVINO's in bf16: the run's accuracy does not stand beside its speed."""
    make.write_run(tmp_path / "run", hits(0.8), spec=make.model("resnet50"))
    write(tmp_path, "resnet50", "openvino", "bf16")
    text = markdown.render(main_table(study(load([tmp_path]))))
    assert "openvino" in text
    assert "80." not in text.split("\n")[2].split("openvino")[0].split("resnet50")[1][:120]


def write_twins(folder: Path, extra: int, share: float = 0.8, rows: int = 1) -> None:
    """ResNet-50 loses 20 images of 1,000 in int8; SE-ResNet-50 as many and ``extra`` more."""
    plain, se = hits(share, 1), hits(share + 0.02, 2)
    for name, own, lost in (("resnet50", plain, 20), ("se_resnet50", se, 20 + extra)):
        for runtime in ("openvino", "onnxruntime", "compile", "eager")[:rows]:
            write(folder, name, runtime, "int8", accuracy=accuracy(losing(own, lost), own))


@pytest.mark.parametrize(
    ("extra", "seed_sd", "said"),
    [
        (60, 0.002, "SE's gate is part of what int8 costs; p < 0.001 after correction"),
        (60, 0.03, "that SE's gate is what int8 costs is not shown; p 0."),
        (60, None, "not shown; one seed, and nothing says how lucky it was"),
        (0, 0.002, "that SE's gate is what int8 costs is not shown"),
    ],
)
def test_whether_the_gate_is_what_int8_costs_rests_on_the_luck_of_training(
    extra: int, seed_sd: float | None, said: str, tmp_path: Path
) -> None:
    write_twins(tmp_path, extra)
    shown = study(load([tmp_path]))
    luck = luck_of((), seed_sd)
    (loss,) = gate_losses(shown.costs, luck)
    assert loss.extra.interval.estimate == pytest.approx(-extra / NUM_IMAGES)
    assert (loss.p_family is None) is (seed_sd is None)
    if seed_sd:  # two trainings are drawn, beside the images
        alone = gate_losses(shown.costs, SeedLuck())[0].extra.error
        assert loss.extra.error == pytest.approx(np.hypot(alone, np.sqrt(2) * seed_sd))
    text = markdown.render(deployment_tables(shown, luck))
    assert said in text
    assert ("rests" in text or "resting on the stated seed sd" in text) is (seed_sd is not None)


def test_losses_of_the_gate_are_one_family(tmp_path: Path) -> None:
    write_twins(tmp_path, 14, rows=4)
    rows = study(load([tmp_path])).costs
    losses = gate_losses(rows, luck_of((), 0.003))
    assert [loss.p_family for loss in losses] == pytest.approx([4 * losses[0].extra.p] * 4)
    alone = gate_losses([row for row in rows if row.first.runtime == "eager"], luck_of((), 0.003))
    assert (alone[0].finding, losses[0].finding) == ("less", "not resolved")


def test_networks_that_guess_lose_nothing_by_their_gate(tmp_path: Path) -> None:
    write_twins(tmp_path, 0, share=0.09)
    assert gate_losses(study(load([tmp_path])).costs, SeedLuck()) == []


def test_what_guesses_or_was_measured_otherwise_is_on_no_front(tmp_path: Path) -> None:
    """int8 that lost all it knew is the fastest; a row with other flags stands for itself."""
    own = hits(0.8)
    other = make.environment(flags={"flush_denormal": "False"})
    write(tmp_path, "resnet50", "eager", "fp32", accuracy=accuracy(own, own), call_s=0.2)
    write(tmp_path, "resnet50", "compile", "fp32", accuracy=accuracy(own, own), call_s=0.1)
    facts = accuracy(hits(0.1, 3), own)
    write(tmp_path, "resnet50", "openvino", "int8", accuracy=facts, call_s=0.05)
    write(tmp_path, "resnet50", "onnxruntime", "fp32", accuracy=accuracy(own, own), env=other)
    shown = study(load([tmp_path]))
    (front,) = deployment_fronts(shown.costs)
    assert {point.deployment.row.first.runtime for point in front.points} == {"eager", "compile"}
    assert "(no better than guessing)" in markdown.render(deployment_tables(shown))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"top1_correct": 1}, "hits are marked, 1 counted"),
        ({"hits": "!"}, "not base64"),
        ({"reference_hits": "gA=="}, "1 bytes long"),
        ({"changed": 1001}, "1001 of 1000 test images"),
        ({"seconds": -1.0}, "seconds is -1"),
    ],
)
def test_an_accuracy_that_contradicts_itself_is_set_aside(
    changes: dict[str, Any], said: str
) -> None:
    own = hits(0.8)
    facts = accuracy(own, own).model_copy(update=changes)
    record = make.profile_record(make.model("resnet50"), accuracy=facts)
    assert said in str(contradiction(record))


def test_the_main_table_shows_the_mean_over_the_seeds_whose_weights_were_timed(
    tmp_path: Path,
) -> None:
    """Each seed's own accuracy counts once, another training's never, a missing one is told."""
    shares = {"run-0": 0.80, "run-1": 0.90}
    for seed, run in enumerate(("run-0", "run-1", "run-2")):
        own = hits(shares.get(run, 0.5), seed)
        make.write_run(tmp_path / run, own, spec=make.model("resnet50"), seed=seed, id=run,
                       precision="bf16")  # fmt: skip
    recipe = Recipe(name="long", epochs=9, milestones=())
    make.write_run(tmp_path / "longer", hits(0.99), spec=make.model("resnet50"), id="longer",
                   recipe=recipe, precision="bf16")  # fmt: skip
    for seed, (run, share) in enumerate([*shares.items(), ("longer", 0.99)]):
        own = hits(share, seed)
        record = make.profile_record(
            make.model("resnet50"), seed=seed, run_id=run, accuracy=accuracy(own, own)
        )
        make.write_profile(tmp_path, record)
    mean = (hits(0.80, 0).mean() + hits(0.90, 1).mean()) / 2
    short, longer = headlines(study(load([tmp_path])))
    assert [one.row.first.run_id for one in short.own] == ["run-0", "run-1"]
    told = [line.own_top1.value for line in (short, longer) if line.own_top1]
    assert told == pytest.approx([mean, hits(0.99, 2).mean()])
    [table] = main_table(study(load([tmp_path])))
    column = table.columns.index("top-1 % (95 % CI: images)")
    assert f"{100 * mean:.2f}" in table.rows[0][column]
    assert "(2 of 3 seeds)" in table.rows[0][column]


def test_networks_of_several_seeds_are_told_apart_and_paired_by_seed(tmp_path: Path) -> None:
    """Each table is of one network; an SE network's loss is held against its own seed's twin."""
    for seed in (0, 1):
        for name in ("resnet50", "se_resnet50"):
            own = hits(0.8, seed)
            for runtime, precision, got in (
                ("eager", "fp32", own),
                ("openvino", "int8", losing(own, 10 * (seed + 1))),
            ):
                record = make.profile_record(
                    make.model(name), runtime=runtime, precision=precision, seed=seed,
                    id=f"{name}-{runtime}-{seed}", run_id=f"{name}-e3-s{seed}-0123abcd",
                    accuracy=accuracy(got, own),
                )  # fmt: skip
                make.write_profile(tmp_path, record)
    found = study(load([tmp_path]))
    losses = gate_losses(found.costs, UNKNOWN)
    assert [(loss.se.seed, loss.plain.seed) for loss in losses] == [(0, 0), (1, 1)]
    told = markdown.render(deployment_tables(found))
    for seed in (0, 1):
        assert f"### resnet50, cifar stem, 32 px, seed {seed}: Shapes" in told
        assert f"- **int8 in openvino, batch 64, seed {seed}:**" in told
