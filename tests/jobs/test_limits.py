"""What queues and nodes take: the site's prohibitions are refused before the wait, everything else that may
go wrong is a line of warning."""

import pytest

from hpcfilter.base.errors import InputError
from hpcfilter.cli import main
from hpcfilter.jobs.limits import check_memory, warnings
from hpcfilter.jobs.plan import plan
from hpcfilter.jobs.render import render

GIB = 2**30
REFUSED = {  # words of the command line -> what the one line says
    "frontier --set job.qos=debug --walltime 03:00:00":
        "got 03:00:00 for 1 nodes in queue batch with qos debug of frontier; expected at most 02:00:00",
    "frontier --set job.qos=debug --chain 2":
        "--chain: got 2 for queue batch with qos debug of frontier, where the site forbids jobs that follow",
    "clariden --queue debug --walltime 00:30:00 --chain 3": "--chain: got 3 for queue debug of clariden",
    "frontier --set job.qos=debug --set job.requeue=true":
        "job.requeue: got true for queue batch with qos debug of frontier, where the site forbids jobs that",
    "aurora --queue prod --nodes 100": "got 100 for queue prod of aurora; expected 256 to 1024, 1025 to 1999",
    "sge-openmpi --set job.signal=TERM": "job.signal: got TERM for sge-openmpi with sge, whose notice is",
    "sge-openmpi --set job.name=1st": "job.name: got '1st'; SGE takes no name that begins with a digit",
    "horizon --set job.stage.method=copy": "job.stage.method: got copy with 2 ranks on each node of horizon",
}
WARNED = {  # the same, of what goes through
    "summit": "summit is gone (2024-11-15); its profile is for machines like it",
    "summit --queue express": "the profile of summit does not know the queue express, and its limits are not "
                              "checked; it knows the queues batch, debug",
    "perlmutter --queue premium --walltime 90:00:00": "does not know the queue premium",
    "frontier --set job.qos=other --walltime 20:00:00": "does not know the qos other",
    "frontier --set job.qos=debug": "queue batch with qos debug of frontier: the site forbids jobs that "
                                    "follow each other: not requeued; submit again to go on",
    "frontier --set job.qos=debug --nodes 1,2": "takes 1 of your jobs at a time, and these are 2",
    "polaris --queue preemptable": "queue preemptable of polaris may be taken away from a job (killed "
                                   "without any warning): only what it has saved by then counts",
    "polaris --queue debug-scaling": "takes one job of yours at a time: it may refuse the one that is",
}
QUIET = ["frontier", "perlmutter", "clariden", "polaris --nodes 10", "lumi", "vista", "abci --queue rt_HF",
         "slurm-cpu --queue anything"]


@pytest.mark.parametrize("words", REFUSED)
def test_what_the_site_forbids_is_refused(run, submitted, words, capsys):
    assert main(["jobs", "submit", str(run), "--machine", *words.split()]) == 2
    err = capsys.readouterr().err
    assert REFUSED[words] in err and err.count("\n") == 1 and not submitted(), err


@pytest.mark.parametrize("verb", ["check", "submit"])
@pytest.mark.parametrize("words", WARNED)
def test_what_may_go_wrong_is_said(run, submitted, words, verb, capsys):
    assert main(["jobs", verb, str(run), "--machine", *words.split()]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning: ")]
    assert any(WARNED[words] in line for line in lines), lines
    assert bool(submitted()) == (verb == "submit")


@pytest.mark.parametrize("words", QUIET)
def test_nothing_is_said_of_what_is_right(run, words, capsys):
    assert main(["jobs", "check", str(run), "--machine", *words.split()]) == 0
    assert "warning: " not in capsys.readouterr().out


def test_a_profile_has_a_hint(run, capsys):
    """Handed on to those that are like it."""
    for verb in ("check", "submit"):
        words = ["--dry-run"] if verb == "submit" else []
        assert main(["jobs", verb, str(run), "--machine", "clariden", *words]) == 0
        assert "\nnote: clariden: without the site's network plugin NCCL talks TCP" in capsys.readouterr().out
    assert main(["jobs", "check", str(run), "--machine", "vista"]) == 0
    assert "note: " not in capsys.readouterr().out


@pytest.mark.parametrize("machine, said", [("polaris --nodes 10", "cray-mpich-abi"),
                                           ("lumi", "lumi-aif-singularity-bindings"),
                                           ("frontier", "apptainer-enable-gpu"),
                                           ("perlmutter", "--openmpi-pmi2")])
def test_a_hint_of_containers_comes_with_one(run, machine, said, capsys):
    words = ["jobs", "check", str(run), "--machine", *machine.split()]
    assert main(words) == 0 and said not in capsys.readouterr().out
    box = ["--set", "job.container.kind=podman-hpc", "--set", "job.container.image=a"]
    assert main([*words, *box]) == 0
    assert said in next(line for line in capsys.readouterr().out.splitlines()[::-1] if "note: " in line)


@pytest.mark.parametrize("folder, named", [(None, "/dev/shm"), ("/tmp/mine", "/tmp/mine")])
def test_what_is_staged_must_be_seen_by_an_edf(run, folder, named, capsys):
    words = ["jobs", "check", str(run), "--machine", "clariden", "--set", "job.container.kind=edf",
             "--set", "job.container.image=pytorch"]
    assert main(words) == 0 and "warning: " not in capsys.readouterr().out
    words += ["--set", "job.stage.method=copy", *(["--set", f"job.stage.folder={folder}"] if folder else [])]
    assert main(words) == 0
    assert (f"warning: the data is staged to {named} of each node, which only the mounts of pytorch can show"
            in capsys.readouterr().out)


def test_a_chain_takes_as_many_places_as_it_has_jobs(run, submitted, capsys):
    words = ["jobs", "submit", str(run), "--machine", "polaris", "--queue", "capacity", "--chain"]
    assert main([*words, "3"]) == 0
    assert "takes 2 of your jobs at a time, and these are 3" in capsys.readouterr().out
    assert main([*words, "2"]) == 0
    assert "at a time" not in capsys.readouterr().out and len(submitted()) == 5


def test_a_job_that_may_not_follow_another_is_not_requeued(run):
    there = ["job.machine=frontier", "job.walltime=00:30:00"]
    assert "#SBATCH --requeue\n" in render(plan(run, settings=there))
    script = render(plan(run, settings=[*there, "job.qos=debug"]))
    assert "#SBATCH --no-requeue\n" in script and "scontrol requeue" not in script


MEMORY = {  # GiB of data for a node -> what is said of lumi: 480 GiB, eight ranks
    100: [], 448: [], 449: ["about 4 GiB for each of 8 ranks are more than 480 GiB"], 481: None,
}


@pytest.mark.parametrize("size", MEMORY)
def test_data_in_memory_is_held_against_it(run, size):
    made = plan(run, settings=["job.machine=lumi", "job.stage.method=copy"])
    if MEMORY[size] is None:
        with pytest.raises(InputError, match="got copy of 481 GiB to /tmp of lumi, which is memory, of 480"):
            check_memory(made.job, made.machine, size * GIB)
        return
    check_memory(made.job, made.machine, size * GIB)
    said = warnings(made.job, made.machine, 1, size * GIB)[1:]  # behind the hint of lumi
    assert len(said) == len(MEMORY[size]) and all(part in line
                                                  for part, line in zip(MEMORY[size], said, strict=True))


@pytest.mark.parametrize("machine, more, counts", [
    ("lumi", [], True), ("lumi", ["job.stage.folder=/tmp/mine"], True), ("clariden", [], True),
    ("perlmutter", [], True), ("tuolumne", [], True), ("lumi", ["job.stage.folder=/flash/mine"], False),
    ("frontier", [], False), ("delta", [], False)])
def test_where_the_nodes_storage_is_memory(run, machine, more, counts):
    made = plan(run, settings=[f"job.machine={machine}", "job.stage.method=copy", *more])
    said = warnings(made.job, made.machine, 1, 10**15)
    assert any("which is memory" in line for line in said) == counts


def test_a_plan_knows_what_it_brings_to_a_node(run, digits, config):
    size = digits.stat().st_size
    path = config(digits, data={"order": "shard"}, job={"account": "abc"})
    there = ["job.machine=frontier", "job.nodes=4"]
    assert plan(path, settings=there).staged_bytes == 0
    assert plan(path, settings=[*there, "job.stage.method=copy"]).staged_bytes == size
    part = plan(path, settings=[*there, "job.stage.method=copy", "job.stage.part=true"])
    assert part.staged_bytes == size // 4
