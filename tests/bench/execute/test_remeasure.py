"""A profile that other work starved is measured again, by itself and on demand."""

import pytest
import record_factory as make

from bench.execute import experiment
from bench.execute.jobs import ProfileJob, do, profiles_in
from bench.record.profile import NoiseFacts
from bench.spec.experiment import load_or_compare
from bench.spec.profile import ProfileSpec

SPEC = ProfileSpec(models=(make.model("resnet50"),), batch_sizes=(64,), device="cpu")


@pytest.fixture
def sittings(monkeypatch, tmp_path):
    """Return a job, and what makes its sittings see these shares of the cores used by others."""
    job = ProfileJob(SPEC, out=tmp_path)
    done = []

    def plan(*shares):
        def sit(jobs, how, exclusive):
            (job,) = jobs
            share = shares[min(len(done), len(shares) - 1)]
            done.append(share)
            noise = NoiseFacts(other_cpu_share=share)
            record = make.profile_record(make.model("resnet50"), seed=len(done))
            make.write_profile(job.folder, record.model_copy(update={"noise": noise}))
            return []

        monkeypatch.setattr(experiment, "_done", sit)
        return done

    return job, plan


def profiled(job, remeasure=False):
    return experiment._profiled(job, experiment._How(print, None, None, 0), remeasure)


def test_a_good_sitting_is_done_once(sittings):
    """Nothing starved: one sitting, and none when the command is repeated."""
    job, plan = sittings
    done = plan(0.01)
    profiled(job)
    profiled(job)
    assert done == [0.01]


def test_a_sitting_that_was_handed_over_twice_is_done_once(tmp_path, monkeypatch):
    """As by two commands, the first of which was killed before it noted that it had done so."""
    begun = []
    monkeypatch.setattr("bench.measure.profile.profile", lambda *_, **__: begun.append(1) or ())
    job = ProfileJob(SPEC, alone=True, out=tmp_path)
    do(job, print)
    assert begun == [1]
    make.write_profile(tmp_path, make.profile_record(make.model("resnet50")))
    do(job, print)
    assert begun == [1]


def test_a_starved_sitting_is_measured_again_and_not_read(sittings):
    """Two thirds of the cores were others': the second sitting alone is left to read."""
    job, plan = sittings
    done = plan(0.65, 0.01)
    profiled(job)
    assert done == [0.65, 0.01]
    assert [r.noise.other_cpu_share for r in profiles_in(job.folder)] == [0.01]
    assert len(list(job.folder.glob("*.json.old"))) == 1


def test_a_machine_that_stays_busy_is_not_waited_for(sittings):
    """Every sitting starved: as many as stated, the last of which is kept with its mark."""
    job, plan = sittings
    done = plan(0.65)
    profiled(job)
    assert len(done) == experiment.MAX_SITTINGS == 2
    assert [r.noise.starved for r in profiles_in(job.folder)] == [True]
    profiled(job)
    assert len(done) == 2  # the same command does not try for ever


def test_a_good_sitting_is_measured_again_on_demand(sittings):
    """--remeasure puts aside what is there."""
    job, plan = sittings
    done = plan(0.01)
    profiled(job)
    profiled(job, remeasure=True)
    assert len(done) == 2
    assert len(profiles_in(job.folder)) == 1


def test_a_profile_is_repeated_in_sittings_of_their_own(tmp_path):
    """Each draws its own turns and has its own folder; what was measured once is found again."""
    found = load_or_compare(["se_resnet18", "resnet18"], "shapes")
    once = experiment._profile_jobs(found, "cpu", runs_of(found), tmp_path)
    entry = found.profile.model_copy(update={"repeat": 3})
    many = experiment._profile_jobs(found.changed(profile=entry), "cpu", runs_of(found), tmp_path)
    assert [(job.spec.seed, job.spec.series) for job in once] == [(0, None)]
    assert [job.spec.seed for job in many] == [0, 1, 2]
    assert {job.spec.series for job in many} == {once[0].spec.digest()}
    assert len({job.folder for job in [*once, *many]}) == 4


def runs_of(found):
    return [experiment.run_spec(found, "cpu", m, 0) for m in experiment.models(found, None)]
