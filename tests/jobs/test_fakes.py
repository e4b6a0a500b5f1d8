"""The fake schedulers themselves, with scripts written by hand: they run jobs, pass signals on, and
refuse what real ones do."""

import os
import signal
import sys
from pathlib import Path

import pytest

import hpcfilter

LSF = """#!/bin/bash
#BSUB -P ABC123
#BSUB -W 0:10
#BSUB -nnodes 2
#BSUB -J try
#BSUB -o try.%J
#BSUB -alloc_flags "smt1 nvme"
"""
PBS = """#!/bin/bash -l
#PBS -N try
#PBS -l select=2:system=polaris
#PBS -l walltime=0:10:00
#PBS -j oe
"""
FLUX = """#!/bin/bash
# flux: -N2
# flux: -n4
# flux: -c2
# flux: -t 10m
# flux: --job-name=try
# flux: --output=try-{{id}}.out
"""
SGE = """#!/bin/bash
#$ -S /bin/bash
#$ -cwd
#$ -N try
#$ -l h_rt=0:10:00
#$ -l s_rt=0:09:00
#$ -pe mpi 50
#$ -j y
"""
TACC = """#!/bin/bash
#SBATCH --job-name=try
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --time=0:10:00
#SBATCH --output=try-%j.out
"""
NAP = ("python3 -S -c 'import os, signal, time; signal.signal(signal.SIGUSR1, lambda *a: os._exit(0)); "
       "print(\"up\", flush=True); time.sleep(60)'")
WAIT = "while :; do told=0 status=0; wait $! || status=$?; [ $told = 1 ] || break; done"


@pytest.fixture
def fake(fake_scheduler):
    """fake(text of a script, words that submit it): CompletedProcess of the submission."""

    def submit(text, *words):
        (fake_scheduler.workdir / "job.sh").write_text(text)
        return fake_scheduler.run(*words, stdin=text if words == ("bsub",) else "")

    return submit


def test_lsf_runs_ranks_where_jsrun_puts_them(fake, fake_scheduler):
    show = ("sh -c 'echo $JSM_NAMESPACE_RANK/$JSM_NAMESPACE_SIZE "
            "$JSM_NAMESPACE_LOCAL_RANK/$JSM_NAMESPACE_LOCAL_SIZE gpu $CUDA_VISIBLE_DEVICES omp "
            "${OMP_NUM_THREADS-none} ${OMPI_COMM_WORLD_RANK-hidden}'")
    done = fake(
        LSF + f"jsrun -n 3 -r 2 -a 1 -c 7 -g 2 -b packed:7 -d packed -l gpu-cpu --smpiargs=-gpu {show}\n"
        f"jsrun --nrs 1 --tasks_per_rs 2 --cpu_per_rs ALL_CPUS --bind packed:7 -E OMP_NUM_THREADS=7 {show}\n"
        "echo $LSB_JOBID $LSB_QUEUE $(sort -u $LSB_DJOB_HOSTFILE | tr '\\n' ' '); exit 3", "bsub", "job.sh")
    assert done.stdout == "Job <123> is submitted to default queue <batch>.\n" and not done.stderr
    (row,) = fake_scheduler.finished()
    assert (row["state"], row["exit"], row["options"]["-alloc_flags"]) == ("EXIT", 3, "smt1 nvme")
    lines = fake_scheduler.log(row).splitlines()
    assert sorted(lines[:3]) == ["0/3 0/2 gpu 0,1 omp none hidden", "1/3 1/2 gpu 2,3 omp none hidden",
                                 "2/3 0/1 gpu 0,1 omp none hidden"]
    assert sorted(lines[3:5]) == ["0/2 0/2 gpu omp 7 hidden", "1/2 1/2 gpu omp 7 hidden"]
    assert lines[5] == "123 batch batch1 node01 node02"


@pytest.mark.parametrize("how", ["shell", pytest.param("group", marks=pytest.mark.nightly)])
def test_lsf_signals_and_requeues(fake, fake_scheduler, how):
    """USR1 comes to the batch shell, and by jskill to the ranks; the job runs again under the same id."""
    fake_scheduler.environment["FAKE_LSF_SIGNAL"] = how
    assert fake(LSF + f"trap 'told=1; jskill -s USR1 all' USR1\njsrun -n 2 -r 1 {NAP} &\n{WAIT}\n"
                "echo left with $status\n[ -e again ] && exit 0; touch again; brequeue $LSB_JOBID; sleep 60",
                "bsub", "job.sh").returncode == 0
    for ups in (2, 4):
        fake_scheduler.until(lambda ups=ups: fake_scheduler.logs().count("up") == ups, "the ranks")
        done = fake_scheduler.run("bkill", "-s", "USR1", "123")
        assert done.stdout == "Job <123> is being signaled\n", done.stderr
    (row,) = fake_scheduler.finished()
    assert (row["state"], row["restarts"]) == ("DONE", 1)
    assert fake_scheduler.log(row).count("left with 0") == 2, "the output is appended"
    assert fake_scheduler.run("brequeue", "123").returncode == 255


def test_lsf_ends_a_job_and_all_its_ranks(fake, fake_scheduler):
    fake(LSF + f"jsrun -n 2 {NAP}", "bsub", "job.sh")
    fake(LSF.replace("-J try", "-J try\n#BSUB -w ended(123)") + "echo after", "bsub")
    fake_scheduler.until(lambda: fake_scheduler.logs().count("up") == 2, "the ranks")
    assert fake_scheduler.jobs()["124"]["state"] == "PEND"
    assert fake_scheduler.run("bkill", "123").returncode == 0
    killed, after = fake_scheduler.finished(2)
    assert (killed["exit"] == 128 + signal.SIGTERM and after["state"] == "DONE"
            and fake_scheduler.log(after) == "after\n")
    # the runner of the job writes its end before it ends itself
    assert fake_scheduler.until(lambda: not list(fake_scheduler._running()), "the end of all processes")


@pytest.mark.parametrize("words, what", [
    ("bsub job.sh", "STDIN_ONLY"), ("bsub", "ARGUMENT_ONLY"), ("bsub -nodes 2 job.sh", ""),
    ("bsub -W 3:00:00 job.sh", ""), ("bsub -w ended(999) job.sh", ""), ("bsub -G bank job.sh", ""),
    ("bsub -wa USR1 job.sh", ""), ("bsub -o nowhere/out job.sh", ""), ("bsub missing.sh", ""),
])
def test_lsf_refuses(fake, fake_scheduler, words, what):
    fake_scheduler.environment |= {f"FAKE_LSF_{what}": "1"} if what else {}
    done = fake(LSF, *words.split())
    assert (done.returncode == 255 and done.stderr.startswith("bsub: ") and not done.stdout
            and fake_scheduler.jobs() == {})


@pytest.mark.parametrize("words", [
    "-n 13 -r 6", "-n 1 -c 43", "-n 7 -r 7 -g 1", "-n 1 -a 2 -c 7 -b packed:7", "-n 1 -q batch",
    "-n 1 --cpus_per_rs 2", "-n 1 --nnodes 2", "-n 1 -W 10", "-n 0", "-n 1 -c 7 -b packed", "-n 1 -n 2",
])
def test_jsrun_refuses(fake, fake_scheduler, words):
    fake(LSF + f"jsrun {words} echo ran", "bsub", "job.sh")
    (row,) = fake_scheduler.finished()
    assert row["exit"] == 1 and "ran" not in fake_scheduler.log(row) and "jsrun: " in fake_scheduler.log(row)


@pytest.mark.parametrize("code, status", [("sys.exit(5)", 5), ("os.kill(os.getpid(), 9)", 137)])
def test_a_rank_that_fails_is_seen(fake, fake_scheduler, code, status):
    fake(LSF + f"jsrun -n 1 python3 -S -c 'import os, sys; {code}'", "bsub", "job.sh")
    assert fake_scheduler.finished()[0]["exit"] == status


def test_pbs_runs_a_chain_without_the_environment_of_the_submitter(fake, fake_scheduler):
    fake_scheduler.environment["SECRET"] = "1"
    show = ("sh -c 'echo $PMI_RANK/$PMI_SIZE $PMI_LOCAL_RANK/$PMI_LOCAL_SIZE $A "
            "${OMPI_COMM_WORLD_RANK-hidden}'")
    text = PBS + "echo ${SECRET-none} $PWD ${1-}; cd $PBS_O_WORKDIR || exit\n" \
        f"mpiexec -n 2 --ppn 1 --depth=8 --cpu-bind depth --env A=b {show}\n" \
        "[ -e again ] || { touch again; qsub -W depend=afterany:$PBS_JOBID job.sh; }"
    assert fake(text, "qsub", "job.sh").stdout == "123.fake\n"
    first, second = fake_scheduler.finished(2)
    assert second["after"] == ["123.fake"] and (first["output"], second["output"]) == ("try.o123", "try.o124")
    lines = fake_scheduler.log(first).splitlines()
    assert (lines[0] == f"none {fake_scheduler.table / 'home'}"
            and sorted(lines[1:3]) == ["0/2 0/1 b hidden", "1/2 0/1 b hidden"])
    assert lines[3] == "124.fake" and len(fake_scheduler.log(second).splitlines()) == 3


@pytest.mark.parametrize("words, line", [
    ("qsub job.sh", "#PBS -l nodes=2"), ("qsub job.sh", "# a comment\n#PBS -q debug"),
    ("qsub job.sh", "\n#PBS -q debug"), ("qsub job.sh", "#PBS -l walltime=10m"),
    ("qsub -W depend=afterany:9.fake job.sh", ""), ("qsub --queue=x job.sh", ""), ("qsub missing.sh", ""),
    ("qsub job.sh", "echo\n#PBS -q debug"),
])
def test_pbs_refuses(fake, fake_scheduler, words, line):
    done = fake(PBS + line, *words.split())
    assert done.returncode == 1 and done.stderr.startswith("qsub: ") and fake_scheduler.jobs() == {}


def test_mpiexec_refuses_what_does_not_fit(fake, fake_scheduler):
    refused = "'-n 3 --ppn 1' '-n 6 --ppn 6 --depth=8' '-n 2 --cpu-bind depth' '-np 2'"
    fake(PBS + f"for words in {refused}; do mpiexec $words echo ran; done", "qsub", "job.sh")
    log = fake_scheduler.log(fake_scheduler.finished()[0])
    assert log.count("mpiexec: ") == 4 and "\nran" not in log


@pytest.mark.nightly
@pytest.mark.parametrize("old", [False, pytest.param(True, marks=pytest.mark.nightly)])
def test_flux_tells_ranks_and_script_of_the_end(fake, fake_scheduler, old):
    """Before 2025 the ranks only."""
    fake_scheduler.environment |= {"FAKE_FLUX_WARN": "1", **({"FAKE_FLUX_OLD": "1"} if old else {})}
    text = (FLUX.replace("10m", "1m\n# flux: --signal=USR1@57s") + "trap 'told=1; echo told' USR1\n"
            f"flux run -N2 -n2 -c24 -g1 -u -o mpibind=on {NAP} &\n{WAIT}\n"
            "echo left with $status job $(flux getattr jobid) ${FLUX_JOB_ID-unset}\n"
            "[ -e again ] || { touch again; flux --parent batch job.sh; }")
    assert fake(text, "flux", "batch", "job.sh").stdout == "ƒ2A123\n"
    for row in fake_scheduler.finished(2):
        log = fake_scheduler.log(row)
        assert (f"left with 0 job {row['id']} unset" in log and ("told\n" in log) != old
                and row["state"] == "DONE")


def test_flux_kills_a_script_that_does_not_expect_the_signal(fake, fake_scheduler):
    fake_scheduler.environment["FAKE_FLUX_WARN"] = "1"
    fake(FLUX.replace("10m", "1m\n# flux: --signal=USR1@59s") + f"flux run -n1 {NAP}; echo on", "flux",
         "batch", "job.sh")
    assert fake_scheduler.finished()[0]["exit"] == 128 + signal.SIGUSR1


@pytest.mark.parametrize("line",
                         ["-N2 -n4 -c42", "-N3 -n1", "-N4 -n4", "-n4 --ntasks=4", "-W 10", "-N1 -n1 -g7"])
def test_flux_run_refuses(fake, fake_scheduler, line):
    fake(FLUX + f"flux run {line} echo ran; flux batch job.sh", "flux", "batch", "job.sh")
    log = fake_scheduler.log(fake_scheduler.finished()[0])
    assert log.count("flux: ") == 2 and "ran" not in log, ("nor is a job submitted to the instance that ends "
                                                           "with this one")


def test_sge_queues_a_job_again_that_exits_with_99(fake, fake_scheduler):
    """In the same folder, with the same id and log; the submitter's environment is not there."""
    fake_scheduler.environment |= {"FAKE_SGE": "1", "SECRET": "1"}
    text = (SGE + "echo ${SECRET-none} $NHOSTS $NSLOTS; cat $PE_HOSTFILE\n"
            "[ -e again ] || { touch again; exit 99; }")
    assert fake(text, "qsub", "job.sh").stdout == 'Your job 123 ("try") has been submitted\n'
    (row,) = fake_scheduler.finished()
    assert (row["state"], row["restarts"], row["output"]) == ("DONE", 1, "try.o123")
    assert fake_scheduler.log(row) == "none 2 50\nnode01 42 all.q UNDEFINED\nnode02 42 all.q UNDEFINED\n" * 2


@pytest.mark.parametrize("words, line", [
    ("qsub job.sh", "#$ -l mem=2"), ("qsub job.sh", "#$ -pe mpi"), ("qsub job.sh", "#$ -N 1st"),
    ("qsub -hold_jid 999 job.sh", ""), ("qsub -W x job.sh", ""), ("qsub missing.sh", ""), ("qsub", ""),
])
def test_sge_refuses(fake, fake_scheduler, words, line):
    fake_scheduler.environment["FAKE_SGE"] = "1"
    done = fake(SGE + line, *words.split())
    assert done.returncode == 1 and done.stderr.startswith("qsub: ") and fake_scheduler.jobs() == {}


def test_mpirun_hands_on_what_is_named(fake, fake_scheduler):
    text = (PBS.replace("system=polaris", "mpiprocs=2") + "cd $PBS_O_WORKDIR; export A=1 B=2\n"
            "mpirun -np 4 -hostfile $PBS_NODEFILE -x A -x PATH sh -c 'echo ${A-none} ${B-none}'\n"
            "for words in '-np 5 -hostfile '$PBS_NODEFILE '-np 1 -x C' '-n 1' '-np 1 --ppn 1'; do\n"
            "mpirun $words echo ran; done")
    assert fake(text, "qsub", "job.sh").returncode == 0
    log = fake_scheduler.log(fake_scheduler.finished()[0])
    assert log.count("1 none\n") == 4 and log.count("mpirun: ") == 4 and "ran" not in log, log


def test_ranks_of_pmix_know_their_place_on_the_node(fake, fake_scheduler):
    """Which GPU is whose hangs on it. MPI says how many there are."""
    code = "from hpcfilter.comm import placement; print(*placement())"
    tested = Path(hpcfilter.__file__).parents[1]
    text = f"{PBS}mpiexec -n 4 --ppn 2 --pmi=pmix --env PYTHONPATH={tested} {sys.executable} -c '{code}'\n"
    assert fake(text, "qsub", "job.sh").returncode == 0
    log = fake_scheduler.log(fake_scheduler.finished()[0])
    assert sorted(log.splitlines()) == ["0 None 0", "1 None 1", "2 None 0", "3 None 1"]


@pytest.mark.parametrize("line", ["#SBATCH --gres=gpu:1", "#SBATCH --mem=0", "#SBATCH --frobnicate"])
def test_tacc_refuses(fake, fake_scheduler, line):
    done = fake(TACC + line, "sbatch", "job.sh")
    assert done.returncode == 1 and done.stderr.startswith("sbatch: ") and fake_scheduler.jobs() == {}


def test_ibrun_starts_a_rank_for_each_task_and_dies_of_a_signal(fake, fake_scheduler):
    text = TACC + "ibrun sh -c 'echo $PMI_RANK/$PMI_SIZE $MPI_LOCALRANKID'\nibrun -n 2 echo ran\n"
    fake(text + f"trap : USR1\nibrun {NAP} &\nsleep 1\nkill -USR1 $!\nwait $!\necho $?", "sbatch", "job.sh")
    log = fake_scheduler.log(fake_scheduler.finished()[0]).splitlines()
    assert sorted(log[:2]) == ["0/2 0", "1/2 0"] and "ran" not in log and log[-1] == str(128 + signal.SIGUSR1)


def test_the_walltime_ends_a_job(fake, fake_scheduler):
    fake(PBS.replace("0:10:00", "0:00:02") + "sleep 60", "qsub", "job.sh")
    assert fake_scheduler.finished()[0]["exit"] == 128 + signal.SIGTERM


def test_nothing_is_left_running(fake, fake_scheduler):
    fake(LSF + f"jsrun -n 2 {NAP}", "bsub", "job.sh")
    fake_scheduler.until(lambda: fake_scheduler.logs().count("up") == 2, "the ranks")
    assert len(list(fake_scheduler._running())) >= 5, ("the runner, the batch shell, jsrun, "
                                                       "mpirun and the ranks")
    fake_scheduler.end()
    assert list(fake_scheduler._running()) == [] and os.path.isdir(fake_scheduler.table)
