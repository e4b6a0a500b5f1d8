"""`hpcfilter jobs`: layouts, what is refused, scripts and what is submitted. No scheduler is needed here."""

import subprocess
import sys

import pytest

from hpcfilter.base.errors import Failure
from hpcfilter.cli import main
from hpcfilter.jobs.layout import draw
from hpcfilter.jobs.plan import plan
from hpcfilter.jobs.render import render
from hpcfilter.jobs.submit import command, submit
from hpcfilter.study.report import read_run

REFUSED = {  # words of the command line -> what the one line says
           "--machine nowhere": "job.machine: unknown 'nowhere'; known: abci, alps, aurora,",
           "": "job.machine: missing (--machine); known: abci,",
           "--machine summit --nodes 5000": "job.nodes: got 5000 for queue batch of summit; "
                                            "expected 1 to 45, 46 to 91, 92 to 921, 922 to 4608",
           "--machine summit --nodes 0": "got '0', expected a number from 1 on",
           "--machine summit --nodes 1,x": "got 'x', expected a number from 1 on",
           "--machine summit --nodes 46 --walltime 06:00:01":
           "job.walltime: got 06:00:01 for 46 nodes in queue batch of summit; expected at most 06:00:00",
           "--machine summit --walltime 2h": "job.walltime: expected hours, minutes and seconds",
           "--machine summit --walltime 00:00:00": "job.walltime: expected hours, minutes and seconds",
           "--machine summit --walltime 00:04:00": "job.grace_seconds: got 300 for a walltime of 00:04:00; "
                                                   "expected less, so that some time is left",
           "--machine summit --set job.account=": "job.account",
           "--machine summit --set job.nodez=1": "job.nodez: unknown key; known: "
                                                 "machine, name, account, nodes,",
           "--machine summit --set job.ranks_per_node=7": "got 7 ranks with a GPU each on summit, whose "
                                                          "nodes have 6; expected job.ranks_per_node up to 6",
           "--machine slurm-cpu --set job.gpus_per_rank=1": "whose nodes have 0; expected 0",
           "--machine summit --set job.cpus_per_rank=8": "got 6 ranks of 8 cores on summit, whose nodes have "
                                                         "42; expected at most 7 for 6 ranks",
           "--machine slurm-cpu --set job.ranks_per_node=65":
           "job.ranks_per_node: got 65 on slurm-cpu, whose nodes have 64 cores; expected at most 64",
           "--machine summit --set job.ranks_per_set=4": "job.ranks_per_set: got 4 for 6 ranks per node; "
                                                         "expected one of 1, 2, 3, 6",
           "--machine summit --set job.omp_num_threads=8": "job.omp_num_threads: got 8 for ranks of 7 cores; "
                                                           "expected 1 to 7",
           "--machine summit --set job.signal=KILL": "job.signal: expected a signal that can be caught",
           "--machine summit --set job.signal=HUP": "job.signal: got HUP, which the ranks do not listen to; "
                                                    "expected one of stop.signals: USR1, USR2, TERM",
           "--machine summit --set job.stage.method=sbcast": "got sbcast, which is Slurm's, "
                                                             "on summit with lsf; expected none, copy or tar",
           "--machine summit --set job.stage.method=tar": "job.stage.source: "
                                                          "the archive that method = tar unpacks",
           "--machine summit --set job.stage.part=true": 'job.stage.part: '
                                                         'got true with job.stage.method = "none"',
           "--machine summit --set job.stage.method=copy --set "
           "job.stage.part=true": "got the method copy and data.order = global; expected copy and shard",
           "--machine summit --set data.path=nothing.h5": "data.path: no file",
           "--machine summit --set train.epochs=0": "train.epochs",
           "--machine local --chain 2": "--chain: the local machine has no queue",
           "--machine local --nodes 2": "job.nodes: got 2 for queue here of local; expected 1 to 1",
           "--machine local --set job.log_dir=..": "job.log_dir",
           "--machine local --set job.name=a\nb": "expected one printable line",
           "--machine frontier --run-dir a\nb": "--run-dir: got 'a\\nb', expected one printable line that "
                                                "does not begin with -",
           "--machine frontier --run-dir=-x": "--run-dir: got '-x', expected one printable line that does "
                                              "not begin with -",
           "--machine frontier --nodes 1,2,1": "got '1,2,1', expected each number once",
           "--machine polaris --nodes 10 --set job.reservation=r": "got 'r' for polaris with pbs, which has "
                                                                   "none; write it into job.directives",
           "--machine frontier --set job.grace_seconds=70000 --walltime 23:00:00": "job.grace_seconds",
           "--machine frontier --set job.env.pid=1": "job.env.pid.[key]: "
                                                     "the job script has a variable of that name",
           "--machine frontier --set job.env.seed=1": "job.env.seed.[key]: the job script has a variable",
           "--machine frontier --set job.env.HPCFILTER_JOB=1": "the job script has a variable of that name",
           "--machine frontier --set job.workdir=/nowhere": "job.workdir: no folder /nowhere",
           "--machine perlmutter --set job.qos=debug": "job.qos: got 'debug'; the queues of perlmutter are "
                                                       "QOS: expected it as job.queue",
           "--machine clariden --queue debug --nodes 2 --walltime 01:00:00": "expected at most 00:45:00",
           "--machine polaris --nodes 10 --walltime 04:00:00": "expected at most 03:00:00",}


@pytest.mark.parametrize("words", REFUSED)
def test_bad_input_is_one_line_and_nothing_is_submitted(run, submitted, tmp_path, words, capsys):
    before = set(tmp_path.iterdir())
    assert main(["jobs", "submit", str(run), *words.split(" ")] if words
                else ["jobs", "submit", str(run)]) == 2
    err = capsys.readouterr().err
    assert REFUSED[words] in err and err.count("\n") == 1 and err.startswith("hpcfilter: "), err
    assert not submitted() and set(tmp_path.iterdir()) == before


def test_a_missing_account(digits, config, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["jobs", "submit", str(config(digits)), "--machine", "summit"]) == 2
    assert ("job.account: missing; summit requires one (--account, or [job] account in the "
            "run config)" in capsys.readouterr().err)


def test_check_says_what_the_job_will_be(run, capsys):
    more = ["--nodes", "8", "--walltime", "01:30:00", "--set", "train.global_batch=1280"]
    assert main(["jobs", "check", str(run), "--machine", "frontier", *more]) == 0
    out = capsys.readouterr().out
    assert "8 nodes x 8 ranks = 64 ranks, each 7 cores, 1 GPU, OMP_NUM_THREADS=3" in out
    assert "12 node-hours at most, and as much in each of up to 10 requeues" in out
    assert ("local rank   7  cores  49- 55 [" in out
            and "global batch 1280, 20 samples per rank and step" in out)


def test_the_drawing_shows_every_core_once(run):
    made = plan(run, settings=["job.machine=summit", "job.ranks_per_set=3"])
    lines = draw(made.layout, made.machine).splitlines()[1:]
    marks = [line[line.index("[") + 1 : line.index("]")] for line in lines]
    assert ([mark.count("#") for mark in marks] == [7] * 6
            and all(column.count("#") == 1 for column in map("".join, zip(*marks, strict=True))))
    assert [line.rsplit("set ", 1)[1] for line in lines] == ["0", "0", "0", "1", "1", "1"]


def test_a_run_config_with_a_job_trains_and_resumes_elsewhere(run, digits, config, tmp_path):
    """The job is no part of the run: another machine may go on with it."""
    path = config(digits, job={"machine": "summit", "account": "abc"}, train={"epochs": 1})
    assert main(["train", str(path), "--run-dir", "one"]) == 0
    assert "job" not in (tmp_path / "one" / "config.toml").read_text()
    assert main(["train", str(path), "--run-dir", "one", "--resume", "--set", "job.machine=frontier",
                 "--set", "train.epochs=2"]) == 0
    assert len(read_run(tmp_path / "one")[1]) == 2


def test_submit_writes_the_script_and_hands_it_over(run, submitted, tmp_path, capsys):
    assert main(["jobs", "submit", str(run), "--machine", "frontier", "--run-dir", "runs/first",
                 "--set", "filter.policy=kakurenbo"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "submitted: 4711"
    assert submitted() == ["sbatch --parsable runs/first/job.sh "]
    script = (tmp_path / "runs" / "first" / "job.sh").read_text()
    assert script == render(plan(str(run), "runs/first",
                                 ["filter.policy=kakurenbo", 'job.machine="frontier"']))
    assert "--set filter.policy=kakurenbo)" in script and "job.machine" not in script
    assert (tmp_path / "logs").is_dir()


@pytest.mark.parametrize("name, words", [("summit", "bsub"), ("polaris", "qsub"), ("tuolumne", "flux batch"),
                                         ("vista", "sbatch --parsable")])
def test_each_scheduler_has_its_own_way(run, submitted, name, words, capsys):
    assert main(["jobs", "submit", str(run), "--machine", name, "--run-dir", "runs/r", "--nodes", "10"]) == 0
    assert submitted() == [f"{words} runs/r/job.sh "] and "submitted: " in capsys.readouterr().out


def test_queues_that_are_qos(run):
    script = render(plan(run, settings=["job.machine=perlmutter"]))
    assert "#SBATCH --qos=regular\n" in script and "--partition" not in script


def test_constraints_as_each_scheduler_has_them(run):
    staged = 'job.stage.method="copy"'
    assert "--constraint=(a|b)&nvme\n" in render(plan(run, settings=["job.machine=frontier",
                                                                     "job.constraint=a|b", staged]))
    assert ('-alloc_flags "gpumps smt1 nvme"\n'
            in render(plan(run, settings=["job.machine=summit", "job.constraint=gpumps&smt1", staged])))


def test_relative_paths_mean_the_folder_of_the_submission(run, digits, config, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "data.h5").symlink_to(digits)
    made = plan(config("data.h5"), "runs/x", ["job.machine=slurm-cpu", f"job.workdir={tmp_path}/elsewhere"])
    assert made.run_dir == f"{tmp_path}/runs/x" and f"--set data.path={tmp_path}/data.h5" in render(made)


def test_a_chain_waits_for_the_one_before(run, submitted, tmp_path, capsys):
    assert main(["jobs", "submit", str(run), "--machine", "frontier", "--chain", "3"]) == 0
    assert (submitted() == ["sbatch --parsable runs/hpcfilter/job.sh "]
            + ["sbatch --parsable --dependency=afterany:4711 runs/hpcfilter/job.sh "] * 2)
    assert "3 node-hours at most, 3 jobs of 1; not requeued" in capsys.readouterr().out
    assert "#SBATCH --no-requeue" in (tmp_path / "runs" / "hpcfilter" / "job.sh").read_text()
    for name, waiting in {"summit": ["-w", "ended(7)"], "polaris": ["-W", "depend=afterany:7"],
                          "tuolumne": ["--dependency=afterany:7"]}.items():
        assert command(plan(run, settings=[f"job.machine={name}", "job.nodes=10"]),
                       "7")[-1 - len(waiting) : -1] == waiting
    sge = plan(run, settings=["job.machine=tsubame4"])
    assert command(sge, "7") == ["qsub", "-g", "abc123", "-hold_jid", "7", "runs/hpcfilter/job.sh"]


def test_a_study_is_one_job_per_size(run, submitted, tmp_path, capsys):
    words = ["--run-dir", "runs/study", "--nodes", "1,2,4", "--repeats", "2"]
    assert main(["jobs", "submit", str(run), "--machine", "frontier", *words]) == 0
    assert submitted() == [f"sbatch --parsable runs/study/nodes-{nodes}/job.sh " for nodes in (1, 2, 4)]
    script = (tmp_path / "runs/study/nodes-4/job.sh").read_text()
    assert ("#SBATCH --array=1-2" in script and "run=runs/study/nodes-4/repeat-$SLURM_ARRAY_TASK_ID\n"
            in script and "#SBATCH --nodes=4" in script)
    assert "nodes-4: 4 nodes, 8 node-hours at most" in capsys.readouterr().out
    (tmp_path / "runs/study/nodes-2/repeat-1").mkdir()
    (tmp_path / "runs/study/nodes-2/repeat-1/DONE").touch()
    assert main(["jobs", "submit", str(run),
                 "--machine", "summit", *words]) == 0, "no arrays here: a job for each that is not finished"
    assert submitted()[3:] == [f"bsub runs/study/nodes-{nodes}/repeat-{number}/job.sh " for nodes in (1, 2, 4)
                               for number in (1, 2) if (nodes, number) != (2, 1)]
    assert ("seed=$(( 3 + SLURM_ARRAY_TASK_ID - 1 ))\n" in script
            and ' --set "seed=$seed")\n' in script), "each has a seed of its own"
    assert " --set seed=4)\n" in (tmp_path / "runs/study/nodes-4/repeat-2/job.sh").read_text()


def test_a_dry_run_shows_all_and_does_nothing(run, submitted, tmp_path, capsys):
    before = set(tmp_path.iterdir())
    assert main(["jobs", "submit", str(run), "--machine", "frontier", "--chain", "2", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert ("#SBATCH --nodes=1" in out
            and "sbatch --parsable --dependency=afterany:ID_OF_THE_LAST runs/hpcfilter/job.sh" in out)
    assert not submitted() and set(tmp_path.iterdir()) == before


def test_a_finished_run_is_not_submitted_again(run, submitted, tmp_path, capsys):
    (tmp_path / "runs" / "hpcfilter").mkdir(parents=True)
    (tmp_path / "runs" / "hpcfilter" / "DONE").touch()
    assert main(["jobs", "submit", str(run), "--machine", "frontier"]) == 2
    assert "the run is finished; to train it further" in capsys.readouterr().err and not submitted()


def test_a_machine_without_its_scheduler(run, monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["jobs", "submit", str(run), "--machine", "frontier"]) == 2
    assert "sbatch: not found on PATH; frontier is a machine with slurm" in capsys.readouterr().err


def test_a_refusal_names_what_was_submitted_before(run, submitted, tmp_path, monkeypatch, capsys):
    (tmp_path / "bin" / "sbatch").write_text('#!/bin/bash\ncase "$*" in *nodes-2*) echo "error: no such\n'
                                             'partition" >&2; exit 1;; esac\necho 4711\n')
    assert main(["jobs", "submit", str(run), "--machine", "frontier", "--nodes", "1,2"]) == 2
    assert ("sbatch has refused runs/hpcfilter/nodes-2/job.sh: error: no such | partition; "
            "submitted before: 4711" in capsys.readouterr().err)


@pytest.mark.parametrize("answer, job", [
    ("4711", "4711"), ("4711;cluster", "4711"),
    ("\n--- Welcome 2 ---\n--> queue (gh)...OK\n4711\n\n", "4711"),
    ("4711\n--> queue (gh)...OK", None), ("--> queue...OK", None), ("", None), ("job 4711", None)])
def test_the_id_is_the_last_line_of_what_sbatch_says(run, submitted, tmp_path, answer, job):
    """A site's own sbatch may print a banner before it, with --parsable too."""
    (tmp_path / "answer").write_text(answer)
    (tmp_path / "bin" / "sbatch").write_text(f"#!/bin/bash\ncat {tmp_path}/answer\n")
    submission = submit(plan(str(run), settings=["job.machine=frontier"]))
    if job:
        assert list(submission) == [job]
    else:
        with pytest.raises(Failure, match="sbatch: exit code 0, but no id of a job in its answer to runs/h"):
            list(submission)


def test_jobs_need_neither_torch_nor_mpi(run, submitted):
    code = ("import sys; from hpcfilter.cli import main\nfor words in (['list-machines'], *([verb, "
            f"{str(run)!r}, '--machine', 'frontier'] for verb in ('render', 'check', 'submit'))):\n"
            "    assert main(['jobs', *words]) == 0\n"
            "print([m for m in ('torch', 'mpi4py', 'horovod') if m in sys.modules])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                          timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
