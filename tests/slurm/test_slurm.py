"""Rendered job scripts on a real Slurm: they train, are requeued, survive a node, fail visibly, stage their
data, and leave nothing behind."""

import re
import socket
import sys
import tarfile
import time

import numpy as np
import pytest
from conftest import TIMEOUT
from slurm_site import RUN, Site, rows

from hpcfilter.pack.pack import pack
from hpcfilter.study.report import find_runs, read_run, study
from hpcfilter.train.config import load

pytestmark = pytest.mark.timeout(3 * TIMEOUT)

SRUN = ["srun", "-w", "n1,n2", "--ntasks-per-node=2", "--mpi=pmix", "--kill-on-bad-exit=1"]
SHORT = ["train.epochs=2", "train.global_batch=60"]


@pytest.fixture
def site(slurm, digits, tmp_path):
    site = Site(slurm, digits, tmp_path)
    yield site
    slurm.quiet()


@pytest.fixture(scope="module")
def undisturbed(digits, hpcfilter, tmp_path_factory):
    """The digest of the weights at the end of the run when nothing happens to it."""
    folder = tmp_path_factory.mktemp("undisturbed")
    (folder / "run.toml").write_text(RUN.format(data=digits))
    done = hpcfilter(2, "train", folder / "run.toml", "--run-dir", folder / "run")
    assert done.returncode == 0, done.stderr
    return read_run(folder / "run")[2]["weights"]


def test_the_nodes_have_names_and_storage_of_their_own(slurm):
    said = slurm.run("srun", "-N", "4", "bash",
                     "-c", f"hostname > {slurm.scratch}/name; cat {slurm.scratch}/name").stdout.split()
    assert sorted(said) == slurm.nodes == ["n1", "n2", "n3", "n4"]
    for name in slurm.nodes:
        assert (slurm.local(name) / "name").read_text() == f"{name}\n"
        (slurm.local(name) / "name").unlink()
    assert not list(slurm.scratch.iterdir())


def test_a_submitted_job_trains_to_the_end(site):
    start = time.time()
    (job,) = site.submit(settings=[*SHORT, "job.ranks_per_node=2"])
    submitted = time.time()
    while not rows(site.folder / "runs/hpcfilter"):  # the first row is written just before the first step
        assert time.time() < start + TIMEOUT
        time.sleep(0.02)
    print(f"{submitted - start:.2f} s for the submission, {time.time() - submitted:.2f} s from then to the "
          "first step")
    known, log, end = site.completed(job)
    run = read_run(site.folder / "runs/hpcfilter")[0]
    assert (run["ranks"], run["ranks_per_node"]) == (4, 2) and end["exit"] == 0
    assert known["Restarts"] == "0" and known["NodeList"] == "n[1-2]" and "start 1" in log
    assert (site.folder / "runs/hpcfilter/job.sh").read_text().startswith("#!/bin/bash\n")


def test_a_signal_saves_requeues_and_goes_on_to_the_same_bits(site, undisturbed):
    (job,) = site.submit()
    site.until_epoch(0)
    site.tell(job)
    known, log, end = site.completed(job)
    print(log)
    assert known["Restarts"] == "1"
    assert log.count("start 1\n") == log.count("start 2\n") == log.count("requeue 1 of 10") == 1, (
        "both starts, one behind the other")
    assert "told to leave by signal USR1" in log
    assert end["weights"] == undisturbed


@pytest.mark.nightly
def test_a_deadline_that_is_always_over_ends_at_the_bound(site):
    (job,) = site.submit(settings=["job.grace_seconds=1799", "job.max_requeues=2"])
    known, log = site.slurm.wait(job, "FAILED", TIMEOUT), site.log(job)
    assert known["Restarts"] == "2" and known["ExitCode"] == "1:0"
    # Slurm's notice is due at once as well, and may come before the ranks listen, which then say nothing
    assert (all(f"start {number}\n" in log for number in (1, 2, 3)) and "start 4\n" not in log
            and "told to leave by" in log)
    assert "not finished after 2 requeues (job.max_requeues); submit again to go on" in log.splitlines()[-1]
    assert ((site.folder / "runs/hpcfilter/REQUEUE").exists()
            and not (site.folder / "runs/hpcfilter/DONE").exists())


@pytest.mark.nightly
def test_the_rest_of_a_chain_leaves_at_once(site):
    first, *rest = site.submit("--chain", "3", settings=SHORT)
    assert len(rest) == 2 and {site.slurm.job(job)["Reason"] for job in rest} == {"Dependency"}
    site.completed(first)
    for job in rest:
        known, log, _ = site.completed(job)
        assert known["RunTime"] <= "00:00:02" and "is finished" in log and "ranks have left" not in log
    kinds = [row["kind"] for row in rows(site.folder / "runs/hpcfilter")]
    assert [kind for kind in kinds if kind in ("run", "epoch", "end")] == ["run", "epoch", "epoch", "end"], (
        "the later jobs have written nothing")


@pytest.mark.nightly
def test_a_study_of_arrays_of_which_one_task_is_requeued(site, undisturbed):
    one, two = site.submit("--nodes", "1,2", "--repeats", "2")
    site.until_epoch(0, "runs/hpcfilter/nodes-2/repeat-1")
    site.tell(f"{two}_1")
    ended = {(nodes, task): site.completed(f"{array}_{task}", f"runs/hpcfilter/nodes-{nodes}/repeat-{task}")
             for nodes, array in ((1, one), (2, two)) for task in (1, 2)}
    assert {place: known["Restarts"] for place, (known, _, _) in ended.items()} == {(1, 1): "0", (1, 2): "0",
                                                                                    (2, 1): "1", (2, 2): "0"}
    assert ended[2, 1][2]["weights"] == undisturbed
    for nodes, task in ended:
        folder = site.folder / f"runs/hpcfilter/nodes-{nodes}/repeat-{task}"
        assert (read_run(folder)[0]["ranks"], load(folder / "config.toml").seed) == (nodes, 2 + task), (
            "each repetition has a seed of its own")
    points, _ = study(find_runs(site.folder / "runs/hpcfilter"))
    assert ([(point.ranks, point.nodes, len(point.records)) for point in points] == [(1, 1, 2), (2, 2, 2)]
            and points[1].efficiency(points[0]).half)


@pytest.mark.nightly
def test_a_node_that_goes_down(site, undisturbed):
    (job,) = site.submit()
    site.until_epoch(1)
    site.slurm.node("n2", "down")
    site.slurm.wait(job, "PENDING", TIMEOUT)
    known, log, end = site.completed(job)
    assert known["Restarts"] == "1" and "2" not in known["NodeList"] and "DUE TO NODE FAILURE" in log
    assert int(re.findall(r"from epoch (\d+)", log)[-1]) >= 1 and end["weights"] == undisturbed


@pytest.mark.nightly
def test_a_rank_that_fails(site):
    (job,) = site.submit(settings=['job.env.HPCFILTER_FAULT="rank=1,point=after_step,n=50,kind=exception"'])
    known, log = site.slurm.wait(job, "FAILED", TIMEOUT), site.log(job)
    assert known["ExitCode"] != "0:0" and known["Restarts"] == "0" and "InjectedFault" in log
    assert not (site.folder / "runs/hpcfilter/DONE").exists()


@pytest.mark.parametrize("words, settings, message", [
    ([], ["train.epoch=3"], "train.epoch: unknown key; known: epochs"),
    ([], ["job.ranks_per_node=5"], "job.ranks_per_node: got 5 on testbed, whose nodes have 4 cores"),
    # walltime over the limit of the partition
    (["--queue", "short"], [], "sbatch has refused runs/hpcfilter/job.sh: sbatch: error: "),
    (["--queue", "fast"], [], "invalid partition specified: fast"),
    (["--nodes", "5"], [], "sbatch has refused"),
])
def test_what_is_refused_is_one_line_and_no_job(site, words, settings, message):
    assert message in site.refused(*words, settings=settings)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A packed file of several blocks."""
    folder, random = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    np.savez(folder / "images.npz", x=random.integers(0, 256, (6000, 32, 32), np.uint8),
             y=random.integers(0, 10, 6000))
    pack(folder / "images.npz", folder / "images.h5")
    return folder / "images.h5"


STAGED = re.compile(r"^node \d \((n\d)\): .*: (?:copied|checked|unpacked) (\d+) of (\d+) bytes of ",
                    re.MULTILINE)


def staged(log):
    """What the nodes say of their copies. Returns [(node, bytes brought, bytes of the whole file), ...]."""
    return sorted((name, int(part), int(whole)) for name, part, whole in STAGED.findall(log))


@pytest.mark.parametrize("method", ["sbcast", pytest.param("tar", marks=pytest.mark.nightly)])
def test_each_node_reads_its_own_copy(site, digits, method):
    settings = [f"job.stage.method={method}", *SHORT]
    if method == "tar":
        with tarfile.open(site.folder / "data.tar", "w") as archive:
            archive.add(digits, f"some/folder/{digits.name}")
        settings.append(f"job.stage.source={site.folder / 'data.tar'}")
    (job,) = site.submit(settings=settings)
    _, log, _ = site.completed(job)
    size = digits.stat().st_size
    assert staged(log) == [("n1", size, size), ("n2", size, size)]
    assert re.search(rf"^{site.slurm.scratch}/\S+/{digits.name}: 1438 samples, 2 ranks", log, re.MULTILINE)
    assert site.slurm.left() == []


@pytest.mark.nightly
def test_each_node_reads_its_own_part(site, images):
    (job,) = site.submit(settings=["job.stage.method=copy", "job.stage.part=true", "data.order=shard",
                                   f"data.path={images}", "train.epochs=1", "train.global_batch=200"])
    _, log, _ = site.completed(job)
    (one, first, _), (two, second, _) = staged(log)
    assert (one, two) == ("n1", "n2") and max(first, second) < images.stat().st_size < first + second
    assert site.slurm.left() == []


@pytest.mark.nightly
def test_a_requeued_job_stages_anew_and_leaves_nothing(site, undisturbed):
    (job,) = site.submit(settings=["job.stage.method=copy"])
    site.until_epoch(0)
    site.tell(job)
    known, log, end = site.completed(job)
    assert known["Restarts"] == "1" and len(staged(log)) == 4 and end["weights"] == undisturbed
    assert site.slurm.left() == []


@pytest.mark.nightly
def test_bad_input_under_srun_is_one_line(slurm, tmp_path):
    path = tmp_path / "none.toml"
    done = slurm.run(*SRUN, sys.executable, "-m", "mpi4py", "-m", "hpcfilter", "train", path,
                     "--run-dir", tmp_path / "run", check=False)
    ours = [line for line in done.stderr.splitlines() if not line.startswith(("srun:", "slurmstepd"))]
    assert (done.returncode == 2
            and ours == [f"hpcfilter: {path}: cannot read the run config: No such file or directory"]), done


@pytest.mark.nightly
def test_the_doctor_sees_both_nodes(slurm, tmp_path):
    done = slurm.run(*SRUN, sys.executable, "-m", "mpi4py", "-m", "hpcfilter", "doctor", "--folder", tmp_path,
                     env={"HDF5_USE_FILE_LOCKING": "FALSE"})
    print(done.stdout)
    assert (re.search(r"\bn1\b", done.stdout) and re.search(r"\bn2\b", done.stdout)
            and "problem: none" in done.stdout)


@pytest.mark.nightly
def test_a_job_whose_ranks_meet_without_mpi(site, undisturbed):
    (job,) = site.submit(settings=["job.mpi4py=false", "job.env.MASTER_ADDR='127.0.0.1'"])
    _, log, end = site.completed(job)
    assert "gradients: by torch: not Horovod: the ranks of this launch have met without MPI" in log
    assert end["weights"] == undisturbed


@pytest.mark.nightly
def test_srun_without_mpi(slurm, tmp_path, digits, undisturbed):
    """Ranks that Slurm counts, and torch.distributed brings together: to the same bits."""
    (tmp_path / "run.toml").write_text(RUN.format(data=digits))
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(found.getsockname()[1])}
    slurm.run("srun", "-w", "n1,n2", "--ntasks-per-node=1", "--kill-on-bad-exit=1",
              sys.executable, "-m", "hpcfilter", "train", tmp_path / "run.toml", "--run-dir",
              tmp_path / "run", env={"HPCFILTER_COMM": "torch", **meeting})
    run, _, end = read_run(tmp_path / "run")
    assert (run["ranks"], run["ranks_per_node"], run["backend"], run["engine"]) == (2, 1, "torch", "torch")
    assert end["weights"] == undisturbed
