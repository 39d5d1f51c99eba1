"""What attention brings and costs: planted gains are found, beside what others publish."""

from pathlib import Path

import numpy as np
import pytest
import record_factory as make

from bench.report.derive.findings import Findings, findings
from bench.report.derive.gains import EPOCH, priced
from bench.report.derive.seeds import Stated
from bench.report.derive.speed.attention_tax import tax_lines
from bench.report.page.blocks import Table
from bench.report.page.tables.attention import attention
from bench.report.read.load import load
from bench.report.read.study import study
from bench.spec.run import ModelSpec

N = 4000
CIFAR = {"data": make.dataset("CIFAR-10", "c" * 64, N)}


def write(folder: Path, spec: ModelSpec, share: float, seeds: int = 3, **kwargs) -> None:
    """Write runs that get the first ``share`` of the images right, seeds a little apart."""
    for seed in range(seeds):
        right = np.arange(N) < (share + 0.001 * (seed - (seeds - 1) / 2)) * N
        name = f"{spec.name}-{spec.attention}-{spec.stem}-{kwargs.get('epoch_s', '')}-{seed}"
        make.write_run(folder / name, right, spec=spec, seed=seed, **kwargs)


def found(folder: Path) -> Findings:
    return findings(study(load([folder])), stated=Stated(0.001))


def test_a_gain_is_that_over_the_same_network_without(tmp_path):
    """SE brings +2 at 20 layers and +1 at 56; ECA +3; a stem without its twin brings nothing."""
    for name, share in (
        ("resnet20", 0.80),
        ("se_resnet20", 0.82),
        ("eca_resnet20", 0.83),
        ("resnet56", 0.86),
        ("se_resnet56", 0.87),
        ("cbam_resnet110", 0.9),
    ):
        write(tmp_path, make.model(name), share)
    told = {g.full.model.name: g for g in found(tmp_path).gains}
    points = {name: gain.difference.interval.estimate for name, gain in told.items()}
    assert points == pytest.approx({"se_resnet20": 0.02, "eca_resnet20": 0.03, "se_resnet56": 0.01})
    assert told["se_resnet56"].plain.model.name == "resnet56"
    assert all(gain.finding == "more" for gain in told.values())
    assert told["se_resnet20"].p_family >= told["se_resnet20"].difference.p


def test_runs_that_were_trained_otherwise_have_no_gain(tmp_path):
    """Another precision of the plain network, or another data set: nothing is compared."""
    write(tmp_path / "a", make.model("resnet20"), 0.80, precision="bf16")
    write(tmp_path / "b", make.model("se_resnet20"), 0.82)
    write(tmp_path / "c", make.model("resnet20"), 0.70, **CIFAR)
    assert found(tmp_path).gains == ()


def test_published_gains_stand_beside_ours_with_every_reason_against(tmp_path):
    """On CIFAR-10 one source has SE-ResNet-20 (-0.04 points), trained in its own way."""
    for name, share in (("resnet20", 0.92), ("se_resnet20", 0.925)):
        write(tmp_path, make.model(name), share, **CIFAR)
    (gain,) = found(tmp_path).gains
    (claim,) = gain.claims
    assert claim.gain.full.source.name == "osmr/imgclsmob"
    assert 100 * claim.gain.points == pytest.approx(-0.04)
    assert claim.why_not == ("recipe quick here, their own there",)
    assert any("−0.04" in cell for cell in cells(found(tmp_path)))


def test_an_ablation_is_beside_no_claim_about_the_usual_block(tmp_path):
    """r = 4 is not what others trained."""
    write(tmp_path, make.model("resnet20"), 0.92, **CIFAR)
    write(tmp_path, make.model("se_resnet20", reduction=4), 0.93, **CIFAR)
    (gain,) = found(tmp_path).gains
    assert gain.claims == ()


def test_whether_a_gain_falls_with_depth_is_a_contrast_with_an_interval(tmp_path):
    """+2 points at 20 layers, +0.5 at 56: SE's gain falls by 1.5; ECA's stays."""
    shares = {"": (0.80, 0.86), "se_": (0.82, 0.865), "eca_": (0.81, 0.87)}
    for prefix, (shallow, deep) in shares.items():
        write(tmp_path, make.model(f"{prefix}resnet20"), shallow)
        write(tmp_path, make.model(f"{prefix}resnet56"), deep)
    result = found(tmp_path)
    (one,) = result.attributions
    changes = {e.term.change: e for e in one.effects if e.term.name == "attention × depth"}
    assert changes.keys() == {"none → ECA, 20 → 56", "none → SE, 20 → 56"}
    fall = changes["none → SE, 20 → 56"]
    assert fall.top1.interval.estimate == pytest.approx(-0.015)
    assert fall.top1.interval.high < 0
    assert fall.finding == "less"
    assert changes["none → ECA, 20 → 56"].top1.interval.contains(0.0)
    text = next(block for block in attention(result) if hasattr(block, "items")).items
    assert any("none → SE, 20 → 56: the gain changes by −1.5 points" in told for _, told in text)
    assert any("it falls" in told for _, told in text)


def test_width_is_a_factor_and_interacts_with_attention(tmp_path):
    """WRN-16-4 and 16-8 differ in width alone: +3 points, and SE's gain falls from 2 to 1."""
    shares = {"wrn16_4": 0.80, "se_wrn16_4": 0.82, "wrn16_8": 0.83, "se_wrn16_8": 0.84}
    for name, share in shares.items():
        write(tmp_path, make.model(name), share)
    (one,) = found(tmp_path).attributions
    effects = {e.term.name: e.top1.interval.estimate for e in one.effects}
    assert effects == pytest.approx(
        {"attention": 0.015, "width": 0.025, "attention × width": -0.01}
    )


def test_every_attention_is_set_against_none_and_ablations_against_se(tmp_path):
    """Not one kind against the next in the alphabet."""
    write(tmp_path, make.model("resnet20"), 0.80)
    write(tmp_path, make.model("eca_resnet20"), 0.81)
    write(tmp_path, make.model("se_resnet20"), 0.82)
    write(tmp_path, make.model("se_resnet20", reduction=4), 0.83)
    (one,) = found(tmp_path).attributions
    assert {e.term.change for e in one.effects} == {
        "none → ECA",
        "none → SE",
        "none → SE (reduction=4)",
        "SE → SE (reduction=4)",
    }


def cells(result: Findings) -> set[str]:
    """Return every cell of every table in the section."""
    tables = [block for block in attention(result) if isinstance(block, Table)]
    return {cell for table in tables for row in table.rows for cell in row}


def profiles(folder: Path, name: str, call_s: float) -> None:
    own = {"seed": len(name), "sitting": "sitting"}
    record = make.profile_record(make.model(name), call_s=call_s, noise=0.001, **own)
    make.write_profile(folder, record)


def test_what_each_attention_costs_is_one_line_with_its_ratios(tmp_path):
    """Calls of 100, 125 and 170 ms in one sitting: throughputs of 0.8 and 0.588."""
    for name, call_s in (("resnet20", 0.1), ("se_resnet20", 0.125), ("cbam_resnet20", 0.17)):
        profiles(tmp_path, name, call_s)
    lines = tax_lines(study(load([tmp_path])).costs)
    rates = {line.model.name: line.taxes["throughput"].ratio.estimate for line in lines}
    expected = {"se_resnet20": 0.8, "cbam_resnet20": 0.1 / 0.17}
    assert rates == pytest.approx(expected, rel=2e-3)
    assert "MACs" in lines[0].taxes
    (time,) = lines[0].times().values()
    assert time.estimate == pytest.approx(1 / rates[lines[0].model.name])
    shown = cells(findings(study(load([tmp_path]))))
    # One sitting is one process, which decides no time: it stands in brackets.
    assert any(cell.startswith("(×0.800") and cell.endswith("@64)") for cell in shown)


def test_a_gain_meets_the_time_that_it_costs(tmp_path):
    """Profiled ratios are taken; without any the epochs', which were timed apart."""
    for name, share, seconds in (("resnet20", 0.8, 10.0), ("se_resnet20", 0.82, 13.0)):
        write(tmp_path / "runs", make.model(name), share, epoch_s=seconds)
    apart = found(tmp_path)
    (point,) = priced(apart.gains, tax_lines(apart.study.costs))
    assert (point.what, point.time.low) == (EPOCH, 0.0)
    assert point.time.estimate == pytest.approx(1.3, rel=0.01)
    for name, call_s in (("resnet20", 0.1), ("se_resnet20", 0.125)):
        profiles(tmp_path / "profiles", name, call_s)
    both = found(tmp_path)
    (point,) = priced(both.gains, tax_lines(both.study.costs))
    assert point.what == "inference of an image, batch 64, fp32, eager"
    assert point.time.estimate == pytest.approx(1.25, rel=2e-3)
    assert 0 < point.time.low < point.time.high < 1.3


def test_epochs_under_other_conditions_are_no_price(tmp_path):
    """The plain model was trained where denormals are not flushed: its epochs tell nothing."""
    for name, share, flush in (("resnet20", 0.8, "False"), ("se_resnet20", 0.82, "True")):
        env = make.environment(flags={"flush_denormal": flush})
        write(tmp_path, make.model(name), share, env=env)
    apart = found(tmp_path)
    assert apart.gains
    assert priced(apart.gains, ()) == []


def test_a_report_has_one_verdict_on_two_cells(tmp_path):
    """A gain and a gap are judged in the family of all pairs, of which there are more."""
    shares = {"resnet18": 0.80, "se_resnet18": 0.803, "resnet34": 0.81, "se_resnet34": 0.83}
    for name, share in shares.items():
        for stem, more in (("imagenet", 0.0), ("cifar", 0.002)):
            write(tmp_path, make.model(name, stem), share + more)
    said = found(tmp_path)
    pairs = {frozenset((p.first.key, p.second.key)): p for p in said.pairs.pairs}
    own = [(g.plain, g.full, g.p_family) for g in said.gains]
    own += [(g.plain, g.full, g.p_family) for a in said.attributions for g in a.gaps]
    assert len(own) > 4
    for plain, full, p_family in own:
        pair = pairs[frozenset((plain.key, full.key))]
        assert p_family == pair.p_family
        assert pair.family_size > len(said.gains)
    for gap in (gap for one in said.attributions for gap in one.gaps):
        assert bool(gap.shares) <= gap.resolved
