"""One sitting: from a specification to records, on small networks."""

import pytest
import torch
from torch import nn

from bench.compute import inference
from bench.compute.session import Session
from bench.machine import heap, noise
from bench.machine import numerics as devices
from bench.measure import settle, workload
from bench.measure.profile import check, profile
from bench.measure.resources import breakdown, roofline
from bench.measure.rows import groups, is_complete
from bench.record.cost import CostFacts
from bench.record.read_write import from_json, to_json
from bench.spec.profile import ProfileSpec, TimingSpec
from bench.spec.run import ModelSpec

QUICK = TimingSpec(
    min_blocks=2, block_s=1e-3, max_s=0.02, min_warmup_s=0, max_warmup_s=0.02, single_stream_s=0.02
)
PLAIN = ModelSpec(name="plain", num_classes=4, image_size=8)
WIDE = ModelSpec(name="wide", num_classes=4, image_size=8)


@pytest.fixture(autouse=True)
def small_machine(monkeypatch):
    """Measure the machine's ceilings by small work: these tests are not about them."""
    monkeypatch.setitem(roofline.MATMUL_SIZES, "cpu", (64,))
    monkeypatch.setitem(roofline.COPY_BYTES, "cpu", 1 << 20)
    monkeypatch.setattr(roofline, "BLOCK_S", 1e-4)
    monkeypatch.setattr(noise, "GLANCE_S", 0.0)
    monkeypatch.setattr(breakdown, "BUDGET_S", 0.0)
    monkeypatch.setattr(workload, "SPLIT_S", 0.0)


def network(model, seed=0):
    torch.manual_seed(seed)
    width = {"plain": 4, "wide": 16}[model.name]
    return nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(width, model.num_classes),
    )


def count(model, image_size):
    return CostFacts(params=7, macs=11, flops=22, uncounted={"relu": 1})


def run(**changes):
    given = {"models": (PLAIN,), "batch_sizes": (4,), "timing": QUICK, "memory": False} | changes
    return list(profile(ProfileSpec(**given), build=network, count=count))


def test_every_combination_is_a_record():
    """2 models × 2 runtimes × batch 1 (two scenarios) and 4 (one) are 12 records."""
    records = run(models=(PLAIN, WIDE), runtimes=("eager", "channels_last"), batch_sizes=(1, 4))
    found = {(r.model.name, r.runtime, r.batch_size, r.scenario) for r in records}
    assert len(records) == len(found) == 12
    assert {r.status for r in records} == {"ok"}
    assert ("wide", "channels_last", 1, "single_stream") in found
    assert ("plain", "eager", 4, "single_stream") not in found


def test_a_record_survives_its_file():
    """JSON and back gives the same record, with cost, raw blocks and parity."""
    record = run(modes=("infer",))[0]
    assert from_json(to_json(record)) == record
    assert record.cost.macs == 11
    assert record.timing is not None
    assert len(record.timing.block_s) >= 2
    assert record.parity is not None
    assert record.parity.error == 0.0


def test_rows_of_a_group_share_their_rounds():
    """Models of one group take turns: same sitting, same group, same rounds."""
    first, second = run(models=(PLAIN, WIDE), batch_sizes=(4,))
    assert (first.sitting, first.group) == (second.sitting, second.group)
    assert first.timing
    assert second.timing
    assert set(first.timing.block_round) == set(second.timing.block_round)


def test_the_model_is_not_changed_by_profiling_it():
    """Weights stay in fp32 and in place while bf16 and channels-last sessions are made."""
    model = settle.candidate(PLAIN, network(PLAIN).eval(), 0.0, count, None)
    before = {name: tensor.clone() for name, tensor in model.network.state_dict().items()}
    for name in ("eager", "channels_last"):
        inference.RUNTIMES[name](model.network, torch.zeros(1, 3, 8, 8), "cpu", "bf16")
    for name, tensor in model.network.state_dict().items():
        assert torch.equal(before[name], tensor)
        assert before[name].dtype == tensor.dtype


def test_a_runtime_that_computes_something_else_is_wrong_and_not_timed(monkeypatch):
    """Logits off by 10 % of the largest: status wrong, with the error, without times."""

    def off(model, example, device, precision):
        session = inference.eager(model, example, device, precision)
        return Session(lambda x: session.call(x) * 1.1, session.adapt)

    monkeypatch.setitem(inference.RUNTIMES, "off", off)
    records = run(runtimes=("eager", "off"))
    wrong = [record for record in records if record.runtime == "off"]
    assert [record.status for record in wrong] == ["wrong"]
    assert wrong[0].timing is None
    assert wrong[0].parity is not None
    assert wrong[0].parity.error == pytest.approx(0.1, rel=1e-3)
    assert "tolerance 0.001" in str(wrong[0].reason)
    assert {r.status for r in records if r.runtime == "eager"} == {"ok"}


def test_logits_that_are_not_finite_are_wrong(monkeypatch):
    """NaN never passes the check, and JSON has no NaN."""

    def broken(model, example, device, precision):
        return Session(lambda x: torch.full((len(x), 4), float("nan")), lambda x: x)

    monkeypatch.setitem(inference.RUNTIMES, "broken", broken)
    (record,) = run(runtimes=("broken",))
    assert record.status == "wrong"
    assert "not finite" in str(record.reason)
    assert from_json(to_json(record)) == record


def test_what_a_device_cannot_run_is_a_row_with_its_reason():
    """CUDA graphs and TF32 on the CPU: unsupported, and why."""
    (record,) = run(runtimes=("cudagraph",))
    assert (record.status, record.timing) == ("unsupported", None)
    assert "CUDA graphs need a CUDA GPU" in str(record.reason)
    (record,) = run(precisions=("tf32",))
    assert "tf32 needs a CUDA GPU" in str(record.reason)


def test_flags_are_recorded_as_they_are_while_measuring(monkeypatch):
    """TF32 set by somebody is off for fp32 rows, and the record says so."""
    monkeypatch.setattr(
        devices, "flags", lambda _: {"tf32": str(torch.backends.cuda.matmul.allow_tf32)}
    )
    with devices.computing_in("cpu", "tf32"):
        assert run()[0].environment.flags == {"tf32": "False"}


@pytest.mark.skipif(heap.state() == "unchanged", reason="freed memory is the system's affair here")
def test_denormals_are_flushed_again_after_a_session_that_turned_that_off(monkeypatch):
    """A runtime whose session leaves them on is timed, as those beside it, with them off."""

    def careless(model, example, device, precision):
        torch.set_flush_denormal(False)
        return inference.RUNTIMES["eager"](model, example, device, precision)

    monkeypatch.setitem(inference.RUNTIMES, "careless", careless)
    records = run(runtimes=("careless", "eager"))
    assert [r.environment.flags["flush_denormal"] for r in records] == ["True", "True"]


def test_a_flag_that_changes_while_rows_are_timed_tells_both(monkeypatch):
    """A call that turns flushing off: it began on and ended off."""

    def careless(model, example, device, precision):
        session = inference.RUNTIMES["eager"](model, example, device, precision)

        def call(images):
            torch.set_flush_denormal(False)
            return session.call(images)

        return Session(call, session.adapt)

    monkeypatch.setitem(inference.RUNTIMES, "careless", careless)
    (record,) = run(runtimes=("careless",))
    assert record.environment.flags["flush_denormal"] == "True, then False"
    torch.set_flush_denormal(True)


def test_freed_memory_is_kept_while_profiling_unless_it_shall_not_be(monkeypatch):
    """The rows say so, and afterwards it is returned again."""
    monkeypatch.setattr(heap, "_past", "returned")
    told = [run(keep_freed=keep)[0].environment.flags["freed_memory"] for keep in (False, True)]
    with heap.kept():
        assert told == ["returned", heap.state()]
    assert heap.state() == "returned, kept before"


def test_only_on_a_cpu_keeping_freed_memory_is_another_profile():
    """Folders of profiles of a GPU keep the names that they had before there was a choice."""

    def digests(device):
        specs = [ProfileSpec(models=(PLAIN,), device=device, keep_freed=k) for k in (True, False)]
        return {spec.digest() for spec in specs}

    assert len(digests("cpu")) == 2
    assert len(digests("cuda:0")) == 1


def test_memory_that_does_not_suffice_is_a_row(monkeypatch):
    """An allocation that fails makes that row out_of_memory, and the others go on."""

    def hungry(model, example, device, precision):
        raise torch.OutOfMemoryError("out of memory: tried to allocate 1 EiB")

    monkeypatch.setitem(inference.RUNTIMES, "hungry", hungry)
    records = run(runtimes=("hungry", "eager"), batch_sizes=(4,))
    assert [(r.runtime, r.status) for r in records] == [
        ("hungry", "out_of_memory"),
        ("eager", "ok"),
    ]


def test_an_untrained_deep_network_has_logits_of_ordinary_size():
    """BatchNorm statistics are set from a batch, so that activations do not grow with depth."""
    network = nn.Sequential(*(nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)) for _ in "ab"))
    with torch.no_grad():
        network[0][0].weight *= 1000
    settle.settle_untrained(network, 8)
    with torch.no_grad():
        assert network(workload.random_images(16, 8, seed=0)).std() < 2
    assert not network.training


def test_trained_statistics_are_kept():
    """A network whose BatchNorms have seen data is profiled as it is."""
    trained = network(PLAIN)
    trained(workload.random_images(4, 8, seed=1))
    before = trained[1].running_mean.clone()
    found = settle.candidate(PLAIN, trained.eval(), 0.5, count, "run-1")
    assert torch.equal(found.network[1].running_mean, before)


def test_unknown_runtimes_are_refused_before_anything_is_built():
    """The error lists the known ones."""
    with pytest.raises(ValueError, match="unknown runtime 'fast'; choose from: eager"):
        list(profile(ProfileSpec(models=(PLAIN,), runtimes=("fast",)), build=None, count=None))


def test_mps_with_fallback_to_the_cpu_is_refused(monkeypatch):
    """What would run on the CPU must not be timed as mps."""
    monkeypatch.setenv("PYTORCH_ENABLE_MPS_FALLBACK", "1")
    with pytest.raises(ValueError, match="PYTORCH_ENABLE_MPS_FALLBACK is set"):
        check(ProfileSpec(models=(PLAIN,), device="mps"))
    check(ProfileSpec(models=(PLAIN,), device="cpu"))


def test_training_is_timed_with_its_parts():
    """A training row has a gradient parity of 0 in eager fp32 and three positive parts."""
    (record,) = run(modes=("train",))
    assert record.status == "ok"
    assert record.parity is not None
    assert (record.parity.of, record.parity.error) == ("gradients", 0.0)
    assert record.split is not None
    assert len(record.split.forward_s) == len(record.split.update_s) >= 3
    assert min(record.split.forward_s + record.split.backward_s + record.split.update_s) > 0


def test_a_runtime_that_does_not_train_says_which_do():
    """Frozen weights cannot learn: unsupported, with the runtimes that can."""
    (record,) = run(modes=("train",), runtimes=("compile_frozen",))
    assert record.status == "unsupported"
    assert "runtimes that do: eager, channels_last, channels_last_matmul, compile" in str(
        record.reason
    )


def test_every_timed_row_knows_its_machine_and_its_noise():
    """Ceilings, shares of other work, and why there is no energy, are in the row."""
    (record,) = run()
    assert record.machine is not None
    assert record.machine.matmul_flops["fp32"] > 0
    assert record.machine.copy_bytes_per_s > 0
    assert record.noise is not None
    assert 0 <= (record.noise.other_cpu_share or 0.0) <= 1
    assert record.energy is not None
    assert (record.energy.joules is None) == (record.energy.reason is not None)


def test_the_largest_eager_batch_has_its_time_broken_down():
    """Kinds of operators of the largest batch only, in inference only."""
    small, large = run(batch_sizes=(2, 4))
    assert small.breakdown is None
    assert large.breakdown is not None
    kinds = {kind for stage in large.breakdown.seconds.values() for kind in stage}
    assert {"conv", "norm", "activation", "pooling", "linear"} <= kinds


def test_the_batch_that_fits_is_the_largest(monkeypatch):
    """Beside the size auto no other has its time broken down."""
    monkeypatch.setattr("bench.measure.profile.fitting_batch_size", lambda sitting, group: 8)
    small, fitting = run(batch_sizes=(4, "auto"))
    assert (fitting.batch_size, fitting.wanted_batch_size) == (8, "auto")
    assert small.breakdown is None
    assert fitting.breakdown is not None


def test_the_batch_size_auto_is_halved_until_all_models_fit(monkeypatch):
    """The second model fits at 64 and below: both are timed at 64, and auto is remembered."""

    class Server:
        def __enter__(self):
            return self

        def __exit__(self, *error):
            return None

        def expect(self, jobs):
            return None

        def wait(self):
            return None

        def ask(self, job):
            too_large = job.model.name == "wide" and job.batch_size > 64
            return "OutOfMemoryError: out of memory" if too_large else "unknown model"

    monkeypatch.setattr("bench.measure.prepare.MemoryServer", Server)
    records = run(models=(PLAIN, WIDE), batch_sizes=("auto",))
    assert [(r.batch_size, r.wanted_batch_size) for r in records] == [(64, "auto"), (64, "auto")]


def test_a_batch_that_a_fresh_process_has_no_memory_for_is_not_tried_here(monkeypatch):
    """The process that may fail is asked first; the row says out_of_memory."""

    class Server:
        def __enter__(self):
            return self

        def __exit__(self, *error):
            return None

        def expect(self, jobs):
            return None

        def wait(self):
            return None

        def ask(self, job):
            return "the process was ended by signal -9"

    monkeypatch.setattr("bench.measure.profile.MemoryServer", Server)
    (record,) = run(memory=True)
    assert (record.status, record.timing) == ("out_of_memory", None)
    assert "batch size 4 does not fit into the memory of cpu" in str(record.reason)


def test_a_sitting_is_complete_when_every_row_is_there():
    """Rows that could not run count with their reason; one row less is not complete."""
    spec = ProfileSpec(models=(PLAIN,), runtimes=("eager", "cudagraph"), timing=QUICK, memory=False)
    records = list(profile(spec, build=network, count=count))
    assert len(groups(spec)) == 2
    assert is_complete(spec, records)
    for i in range(len(records)):
        assert not is_complete(spec, records[:i] + records[i + 1 :])
