"""Jobs by submitit: what its local executor is told, and what Slurm says of a job."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from subprocess import Popen

import pytest

from bench import signals
from bench.errors import UserError
from bench.execute import lock
from bench.execute.launch import node
from bench.execute.launch.launchers import open_launcher

pytest.importorskip("submitit")
slurm = pytest.importorskip("bench.execute.launch.slurm")
ROOT = Path(__file__).parents[4]


def test_slurms_word_on_a_job_that_it_does_not_take_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An sbatch that refuses, as for GPUs that no node has."""
    for name in ("sbatch", "srun"):
        (tmp_path / name).write_text("#!/bin/sh\necho 'sbatch: error: no such\nnode' >&2; exit 1\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    launcher = open_launcher("slurm", {"gpus_per_node": 9}, tmp_path)
    with pytest.raises(UserError, match=r"^not submitted: .*sbatch: error: no such node"):
        launcher.submit(tmp_path, False)


def test_a_local_job_has_no_limit_of_time_and_is_warned_by_a_signal_at_which_it_saves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Submitit's own are two minutes, and a signal that a job does not know."""
    monkeypatch.delenv("SUBMITIT_PREEMPT_SIGNAL", raising=False)
    given: dict[str, float] = {}

    def start(**options: float) -> Popen[bytes]:
        given.update(options)
        return subprocess.Popen([sys.executable, "-c", ""])

    launcher = open_launcher("slurm", {"cluster": "local"}, tmp_path)
    monkeypatch.setattr("submitit.local.local.start_controller", start)
    launcher.submit(tmp_path, False)
    assert given["timeout_min"] > 60 * 24 * 30
    assert "SIG" + os.environ["SUBMITIT_PREEMPT_SIGNAL"] in signals._ASKING


def test_a_local_job_has_the_gpus_of_this_machine_and_shares_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Submitit hides all that it was not asked for."""
    seen: list[str | None] = []
    monkeypatch.setattr(slurm, "work", lambda folder: seen.append(os.environ.get(slurm.GPUS)))
    for names in ("2", None):
        monkeypatch.setenv(slurm.GPUS, "")
        slurm._work_here(b"", names)
    assert seen == ["2", None]
    assert [slurm._visible({}), slurm._visible({"gpus_per_node": 2})] == [None, "0,1"]
    monkeypatch.setenv(slurm.GPUS, "5,3")
    assert [slurm._visible({}), slurm._visible({"gpus_per_node": 1})] == ["5,3", "5"]
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr(slurm, "usable_cores", lambda: 8)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    options = {"cluster": "local"}
    assert open_launcher("slurm", options, tmp_path).max_jobs == 1
    assert open_launcher("slurm", options | {"gpus_per_node": 0}, tmp_path).max_jobs == 8


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_local_job_goes_on_though_its_command_is_ended(
    tmp_path: Path, number: signal.Signals
) -> None:
    """Ctrl-C, timeout and a terminal reach all processes of the command's group, repeatedly."""
    code = (
        "import sys, time; from pathlib import Path;"
        "from bench.execute.launch.launchers import open_launcher as made;"
        "made('slurm', {'cluster': 'local'}, Path(sys.argv[1])).submit(Path(sys.argv[1]), False);"
        "print(flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with Popen(command, stdout=subprocess.PIPE, start_new_session=True, env=environment) as process:
        assert process.stdout is not None
        process.stdout.readline()
        give_up = time.monotonic() + 60
        while not (tmp_path / node.SEEN).exists():
            assert time.monotonic() < give_up
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            time.sleep(0.05)


def test_threads_that_are_no_number_are_this_machines_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As torch has it: of a list the first, anything else is no wish."""
    monkeypatch.setattr(slurm, "usable_cores", lambda: 8)
    monkeypatch.setattr("bench.machine.cores.usable_cores", lambda: 8)
    for threads, most in (("2,1", 4), ("x", 1), ("", 1), ("0", 1)):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        options = {"cluster": "local", "gpus_per_node": 0}
        assert open_launcher("slurm", options, tmp_path).max_jobs == most


def test_slurm_gives_a_sitting_a_node_for_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What sbatch is handed says so; of a training it does not."""
    sbatch = f"#!/bin/sh\nfor last; do :; done; cat $last >> {tmp_path}/given; echo job 7\n"
    for name, text in (("sbatch", sbatch), ("srun", "")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    launcher, given = open_launcher("slurm", {}, tmp_path), []
    for exclusive in (False, True):
        (tmp_path / "given").unlink(missing_ok=True)
        assert launcher.submit(tmp_path, exclusive) == "7"
        given.append("#SBATCH --exclusive\n" in (tmp_path / "given").read_text())
    assert given == [False, True]


def test_all_jobs_are_asked_about_at_once_and_seldom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that an earlier command handed over too; nothing is lost where there is no answer."""
    calls, answer, now = tmp_path / "calls", tmp_path / "answer", [0.0]
    sacct = f'#!/bin/sh\nfor last; do :; done; echo "$last" >> {calls}; cat {answer}\n'
    for name, text in (("sbatch", "#!/bin/sh\necho job 7\n"), ("srun", ""), ("sacct", sacct)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(slurm.time, "monotonic", lambda: now[0])
    for job_id in ("5", "6"):
        (tmp_path / job_id).mkdir()
        (tmp_path / job_id / node.LAUNCHED).write_text(f'{{"job_id": "{job_id}"}}')
    launcher = open_launcher("slurm", {}, tmp_path)
    answer.write_text("5|COMPLETED\n6|REQUEUE_HOLD\n")
    assert [launcher.is_dead(job_id) for job_id in ("5", "6", "5", "6")] == [True, False] * 2
    assert launcher.submit(tmp_path, False) == "7"
    assert not launcher.is_dead("7")
    now[0] += slurm.ASK_EVERY_S
    answer.unlink()
    assert [launcher.is_dead(job_id) for job_id in ("5", "6", "7")] == [True, False, False]
    now[0] += slurm.ASK_EVERY_S
    answer.write_text("6|RUNNING\n7|CANCELLED by 0\n")
    assert [launcher.is_dead(job_id) for job_id in ("5", "6", "7")] == [True, False, True]
    asked = [sorted(line.split(",")) for line in calls.read_text().splitlines()]
    assert asked == [["5", "6"], ["6", "7"], ["6", "7"]]


def test_jobs_are_cancelled_by_scancel_and_here_by_a_signal_at_which_they_save(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("sbatch", "srun", "scancel"):
        (tmp_path / name).write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/given\n')
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    open_launcher("slurm", {}, tmp_path).cancel("7")
    assert (tmp_path / "given").read_text() == "7\n"
    saves = "trap 'exit 3' TERM; echo; while :; do sleep 0.1; done"
    with Popen(["sh", "-c", f'sh -c "{saves}"; echo $?'], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        open_launcher("slurm", {"cluster": "local"}, tmp_path).cancel(f"{process.pid}@0")
        assert process.stdout.read() == b"3\n"


def test_a_number_that_another_process_has_by_now_is_no_job(tmp_path: Path) -> None:
    launcher = open_launcher("slurm", {"cluster": "local"}, tmp_path)
    mine = f"{os.getpid()}@{lock.ticks(os.getpid())}"
    assert not launcher.is_dead(mine)
    assert launcher.is_dead(mine + "0")
