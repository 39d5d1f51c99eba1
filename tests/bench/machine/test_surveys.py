"""What the machine can do, uses and suffers: roofline, energy, noise."""

import itertools
import os
from collections import namedtuple
from dataclasses import replace

import pytest
import torch
from simulated_device import Device

from bench.machine import noise, nvml
from bench.measure.clock import Clock, queued_call_s
from bench.measure.resources import energy, roofline
from bench.measure.resources.breakdown import break_down
from bench.record.profile import MachineFacts, NoiseFacts


def test_the_best_block_is_the_ceiling():
    """Calls of 2 ms, the fastest block 1 ms a call: 1 ms."""
    device = Device(launch_s=0.0, read_s=1e-9)
    seconds = iter([0.002] * 40 + [0.001] * 40)
    work = lambda: device.work(next(seconds, 0.002))()  # noqa: E731  # a call, timed
    assert roofline.best_call_s(work, device.clock()) == pytest.approx(0.001, rel=0.01)


def test_arithmetic_without_kernels_is_not_measured_for_minutes(monkeypatch):
    """Calls of 3 s: two of them for the first size, and no larger one."""
    device = Device(launch_s=0.0, read_s=1e-9)
    sizes = []

    def product(a, b, out):
        sizes.append(len(a))
        device.work(3.0)()

    monkeypatch.setattr(roofline.torch, "mm", product)
    monkeypatch.setitem(roofline.MATMUL_SIZES, "cpu", (64, 128))
    flops = roofline.matmul_flops("cpu", "fp16", device.clock())
    assert flops == pytest.approx(2 * 64**3 / 3)
    assert sizes == [64, 64]


def test_ceilings_of_the_cpu_are_measured(monkeypatch):
    """A matrix product and a copy give positive rates; tf32, which it has not, gives none."""
    monkeypatch.setitem(roofline.MATMUL_SIZES, "cpu", (128, 256))
    monkeypatch.setitem(roofline.COPY_BYTES, "cpu", 1 << 22)
    monkeypatch.setattr(roofline, "CONV_SHAPE", (2, 16, 8))
    found = roofline.measure("cpu", ["fp32", "tf32"], Clock())
    assert set(found.matmul_flops) == set(found.conv_flops) == {"fp32"}
    assert 1e7 < found.matmul_flops["fp32"] < 1e15
    assert 1e7 < found.conv_flops["fp32"] < 1e15
    assert 1e7 < found.copy_bytes_per_s < 1e13


def test_the_peak_of_arithmetic_is_the_best_that_was_reached():
    """A convolution of 230 GFLOP/s beats a matrix product of 170; an untried one has none."""
    machine = MachineFacts(
        matmul_flops={"fp32": 170e9, "bf16": 400e9}, conv_flops={"fp32": 230e9}, copy_bytes_per_s=1
    )
    assert machine.peak_flops("fp32") == 230e9
    assert machine.peak_flops("bf16") == 400e9
    assert machine.peak_flops("fp16") is None


def test_energy_is_the_difference_of_two_readings():
    """A counter that rises by 50 W for 3 s: 150 J for the images of those calls."""
    device = Device(launch_s=0.0)
    meter = energy.Meter(lambda: 50 * device.host_s, "a counter")
    found = energy.measure(device.work(0.1), 8, meter, device.clock(), window_s=3.0)
    assert found.joules == pytest.approx(150, rel=0.05)
    assert found.num_images == pytest.approx(8 * 30, abs=16)
    assert found.source == "a counter"


def test_a_counter_that_starts_again_is_followed():
    """From 990 J over 1,000 J, where it starts again, to 40 J are 50 J."""
    device = Device(launch_s=0.0)
    meter = energy.Meter(lambda: (990 + 50 * device.host_s) % 1000, "a counter", wrap_j=1000)
    found = energy.measure(device.work(0.1), 1, meter, device.clock(), window_s=1.0)
    assert found.joules == pytest.approx(50, rel=0.2)


def test_without_a_counter_there_is_no_energy_but_a_reason(tmp_path):
    """No RAPL folder, and a counter that stands still: null, and why."""
    reason = energy.cpu_meter(tmp_path)
    assert isinstance(reason, str)
    device = Device()
    assert energy.measure(device.work(0.1), 1, reason, device.clock()).reason == reason
    still = energy.Meter(lambda: 7.0, "a counter")
    found = energy.measure(device.work(0.1), 1, still, device.clock(), window_s=0.2)
    assert (found.joules, found.reason) == (None, "a counter did not advance in 0.2 s")


def test_rapl_is_read_where_the_system_offers_it(tmp_path):
    """Two packages of 3 and 4 joules are 7 joules."""
    for number, microjoules in enumerate((3_000_000, 4_000_000)):
        package = tmp_path / f"intel-rapl:{number}"
        package.mkdir()
        (package / "energy_uj").write_text(f"{microjoules}\n")
        (package / "max_energy_range_uj").write_text("262143328850\n")
    meter = energy.cpu_meter(tmp_path)
    assert isinstance(meter, energy.Meter)
    assert meter.read() == 7.0
    assert meter.source == "RAPL, 2 processor packages"


@pytest.mark.skipif(os.geteuid() == 0, reason="the administrator may read everything")
def test_a_counter_that_may_not_be_read_says_so(tmp_path):
    """Permission denied is the reason."""
    package = tmp_path / "intel-rapl:0"
    package.mkdir()
    (package / "energy_uj").write_text("1")
    (package / "energy_uj").chmod(0)
    assert "cannot be read: Permission denied" in str(energy.cpu_meter(tmp_path))


def test_a_missing_nvml_answers_nothing(monkeypatch):
    """Without the library or its GPU every question has the answer None."""
    monkeypatch.setattr(nvml, "library", lambda: None)
    assert nvml.energy_j("no-such-gpu") is None
    assert nvml.throttle_reasons("no-such-gpu") == ()
    assert "NVML is not installed" in str(energy.gpu_meter("no-such-gpu"))


def counters(**changes):
    zero = {"at": 0.0, "num_cores": 2, "busy_s": 0.0, "steal_s": 0.0, "own_s": 0.0}
    return noise._Counters(**(zero | {"cgroup_throttled": 0, "core_throttled": 0} | changes))


def test_other_work_is_what_is_busy_and_not_ours():
    """2 cores for 10 s, 16 s busy, 6 s of them ours, 1 s stolen: 50 % and 5 %."""
    after = counters(at=10.0, busy_s=16.0, own_s=6.0, steal_s=1.0)
    found = noise._noise(counters(), after, None)
    assert found.other_cpu_share == pytest.approx(0.5)
    assert found.steal_share == pytest.approx(0.05)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no affinity on this system")
def test_only_the_cores_that_we_may_run_on_are_watched(monkeypatch):
    """Of four cores two are ours: what is busy on the others disturbs nothing."""
    core = namedtuple("core", ["user", "idle"])
    times = [core(1.0, 9.0), core(100.0, 0.0), core(2.0, 8.0), core(100.0, 0.0)]
    monkeypatch.setattr(noise.psutil, "cpu_times", lambda percpu: times)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 2})
    seen = noise._counters()
    assert (seen.num_cores, seen.busy_s) == (2, 3.0)


def test_throttling_between_the_looks_is_told():
    """A quota that was used up and a hot core."""
    after = counters(at=1.0, cgroup_throttled=3, core_throttled=1)
    found = noise._noise(counters(), after, None)
    assert found.throttled == (
        "CPU: the control group's quota was used up",
        "CPU: slowed down by heat",
    )


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        (NoiseFacts(other_cpu_share=0.05, steal_share=0.01), ()),
        (NoiseFacts(other_cpu_share=0.3), ("other work used about 30 % of the cores",)),
        (NoiseFacts(steal_share=0.2), ("the hypervisor took 20 % of the cores' time",)),
        (NoiseFacts(on_battery=True), ("the machine runs on battery",)),
        (NoiseFacts(gpu_processes=2), ("2 other processes compute on the GPU",)),
        (NoiseFacts(throttled=("GPU: power cap",)), ("GPU: power cap",)),
    ],
)
def test_noise_is_told_in_words(facts, words):
    """Nothing is said of a quiet machine."""
    assert noise.warnings(facts) == words


def test_watching_sees_this_machine():
    """A look gives shares between 0 and 1."""
    found = noise.watch().end()
    assert 0 <= (found.other_cpu_share or 0) <= 1
    assert 0 <= (found.steal_share or 0) <= 1


def test_the_time_of_a_call_is_broken_down_by_stage_and_kind():
    """An SE network's operators are found in their stages; the parts are about the whole."""
    import senet
    from bench.measure.workload import clock_of

    torch.manual_seed(0)
    network = senet.build("se_resnet18", stem="imagenet", num_classes=10)
    images = torch.randn(2, 3, 32, 32)
    for mode in (True, False):  # also where the caller is in inference mode
        with torch.inference_mode(mode):
            found = break_down(network, images, clock_of("cpu"), 0.1)
        assert set(found.seconds) == {"stem", "stage1", "stage2", "stage3", "stage4", "head"}
        se = {"se_squeeze", "se_fc", "se_relu", "se_gate", "se_scale"}
        assert se | {"conv", "norm", "add", "activation"} <= set(found.seconds["stage2"])
        assert {"conv", "norm", "activation", "pooling"} == set(found.seconds["stem"])
        assert found.num_calls >= 2
        assert found.call_s == 0.1


def step_times(seconds):
    """Return step times whose clock showed these seconds from step to step."""
    ends = iter([0.0, *itertools.accumulate(seconds)])
    found = noise.StepTimes(lambda: next(ends))
    for _ in range(len(seconds) + 1):
        found.step()
    return found


def test_steps_that_take_twice_as_long_as_most_are_told_with_what_they_cost():
    told = step_times([0.1, 0.1, 0.1, 0.3] * 10).warning()
    assert told == (
        "other work slowed the training down: 10 of 40 steps took more than twice as long as most,"
        " which cost about 33 % of the time"
    )


@pytest.mark.parametrize(
    "seconds",
    [
        [0.1] * 100,
        [0.1] * 39 + [5.0],  # one of forty is chance
        [0.1, 0.19] * 50,
        [0.1, 0.3] * 5,  # too few to say
        [],
    ],
)
def test_steady_steps_are_not_told(seconds):
    assert step_times(seconds).warning() is None


def test_what_comes_between_steps_is_no_part_of_them():
    now = [0.0]
    found = noise.StepTimes(lambda: now[0])
    for _ in range(30):
        for _ in range(4):
            now[0] += 0.1
            found.step()
        found.pause()
        now[0] += 10.0
    assert found.seconds == pytest.approx([0.1] * 90)
    assert found.warning() is None


def test_a_gpu_is_asked_while_it_is_warm_and_not_too_often(monkeypatch):
    """Before and after it idles, at another clock and without a reason to throttle."""
    now, answers = [0.0], iter([("power cap",), (), ("power cap", "thermal slowdown")])
    clocks = iter([1980, 1200, 1410])
    monkeypatch.setattr(nvml, "throttle_reasons", lambda uuid: next(answers))
    monkeypatch.setattr(nvml, "clock_mhz", lambda uuid: next(clocks))
    monkeypatch.setattr(nvml, "other_processes", lambda uuid: 0)
    monkeypatch.setattr(nvml, "temperature_c", lambda uuid: 70)
    watched = noise.watch("GPU-1")
    watched.gpu.now = lambda: now[0]
    for now[0] in (1.0, 1.1, 1.2, 1.6, 2.0, 2.2):
        watched.sample()
    found = watched.end()
    assert found.throttled == ("GPU: power cap", "GPU: thermal slowdown")
    assert found.gpu_mhz == 1410


class Queue:
    """A device that takes a second for each operator, given to it at once."""

    def __init__(self):
        self.at, self.waits = 0.0, 0

    def mark(self):
        self.at += 0.5
        return self.at

    def clock(self):
        def wait():
            self.waits += 1

        return Clock(synchronize=wait, mark=self.mark, between=lambda a, b: b - a)


def test_operators_of_a_device_with_a_queue_are_marked_there_and_not_waited_for():
    """It is kept busy before each call, and waited for once after it."""
    queue, occupied = Queue(), []
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.ReLU()).eval()
    found = break_down(network, torch.zeros(1, 3, 4, 4), queue.clock(), 0.1, occupied.append)
    kinds = dict(itertools.chain(*(kinds.items() for kinds in found.seconds.values())))
    assert kinds == {"conv": 0.5, "activation": 0.5}
    assert occupied == [pytest.approx(0.3)] * found.num_calls
    assert queue.waits <= 2 * found.num_calls + 3


@pytest.mark.parametrize(("is_late", "seconds"), [(False, 0.5), (True, None)])
def test_a_call_that_the_device_began_before_it_was_all_given_is_not_timed(is_late, seconds):
    """A queue holds about 1,024 launches: what comes later may have been waited for."""
    clock = replace(Queue().clock(), passed=lambda mark: is_late)
    assert queued_call_s(lambda: None, clock, lambda s: None, 1.0) == seconds
