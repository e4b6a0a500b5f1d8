"""The strict reader of directives itself: what is right passes, and each kind of mistake is
found with its line."""

import pytest
from directives import options, read

SLURM = """#!/bin/bash
#SBATCH --job-name=try
#SBATCH -N 2
#SBATCH --time=1-02:00:00
#SBATCH --output=logs/%x-%j.out
#SBATCH --signal=B:USR1@300
# a comment
#SBATCH --requeue
#SBATCH --open-mode=append

echo
"""
LSF = """#!/bin/bash
#BSUB -P ABC123
#BSUB -W 1:30
#BSUB -nnodes 2
#BSUB -J try
#BSUB -o logs/try.%J
#BSUB -alloc_flags "gpumps smt1 nvme"
#BSUB -wt 5
#BSUB -wa USR1
echo
"""
PBS = """#!/bin/bash -l
#PBS -N try
#PBS -l select=2:ncpus=4:system=polaris
#PBS -l walltime=01:30:00
#PBS -l filesystems=home:eagle
#PBS -W depend=afterany:12.server
echo
"""
FLUX = """#!/bin/bash
# flux: -N2
# flux: -n8
# flux: -c24 -g1 --exclusive
# flux: -t 90m
# flux: --job-name=try
# flux: --output=logs/try-{{id}}.out
# flux: --setattr=a=1
# flux: --setattr=b
echo
"""


def test_what_is_right_is_read():
    assert read("#!/bin/bash\necho\n") == ("", {})
    sentinel, found = read(SLURM)
    assert (sentinel == "#SBATCH" and found["--nodes"] == "2" and found["--time"] == "1-02:00:00"
            and found["--requeue"] is True)
    assert (read(LSF)[1]["-alloc_flags"] == "gpumps smt1 nvme"
            and read(LSF.replace("-P", "-G"))[1]["-G"] == "ABC123")
    assert read(PBS)[1]["-l"] == {"select": "2:ncpus=4:system=polaris", "walltime": "01:30:00",
                                  "filesystems": "home:eagle"}
    assert read(FLUX)[1]["--setattr"] == ["a=1", "b"] and read(FLUX)[1]["--gpus-per-slot"] == "1"


@pytest.mark.parametrize("text, old, new, problem", [
    (LSF, "#!/bin/bash", "#!/bin/sh", "line 1: expected #!/bin/bash"),
    (LSF, "-nnodes 2", "--nnodes 2", "line 4: unknown option '--nnodes'"),
    (LSF, "-W 1:30", "-W 1:30:00", "line 3: -W: malformed value '1:30:00'"),
    (LSF, "-W 1:30", "-W 1:75", "line 3: -W: malformed"),
    (LSF, "-W 1:30", "-W 90 ", "line 3: ends with white space"),
    (LSF, "-W 1:30", "-W 90 # minutes", "line 3: expected an option"),
    (LSF, "-J try", "-J 'try", "line 5: No closing quotation"),
    (LSF, "-wt 5", '-alloc_flags "smt4"', "line 8: -alloc_flags comes twice"),
    (LSF, '"gpumps smt1 nvme"', "gpumps smt1", "line 7: expected an option, got"),
    (LSF, "#BSUB -wt 5\n", "", "-wt and -wa go together"),
    (LSF, "#BSUB -P ABC123\n", "", "one of -P and -G"),
    (LSF, "#BSUB -J try\n", "", "missing"),
    (LSF, "echo", "echo\n#BSUB -q batch", "line 10: stands among the directives: 'echo'"),
    (LSF, "#BSUB -J", "# BSUB -J", "line 5: nearly a directive"),
    (LSF, "#BSUB -J", "##BSUB -J", "line 5: nearly a directive"),
    (LSF, "#BSUB -J try", "#PBS -N try", "line 5: nearly a directive"),
    (PBS, "#PBS -l walltime", "# a comment\n#PBS -l walltime", "line 4: stands among the directives"),
    (PBS, "#PBS -l walltime", "\n#PBS -l walltime", "line 4: stands among the directives"),
    (PBS, "01:30:00", "1h", "line 4: -l: malformed walltime=1h"),
    (PBS, "filesystems=home:eagle", "walltime=01:00:00", "line 5: -l walltime comes twice"),
    (PBS, "-l walltime=01:30:00", "-q debug", "missing -l select or -l walltime"),
    (PBS, "-N try", "-N=try", "line 2: unknown option '-N=try'"),
    (SLURM, "--signal=B:USR1", "--signal=USR1", "without B:"),
    (SLURM, "#SBATCH --open-mode=append\n", "", "a requeue truncates the log"),
    (SLURM, "-N 2", "--node=2", "line 3: unknown option '--node=2'"),
    (SLURM, "--requeue", "--requeue=yes", "line 8: --requeue takes no value"),
    (SLURM, "-N 2", "-N", "line 3: -N needs a value|line 3: --nodes needs a value"),
    (SLURM, "--job-name=try", "--job-name=try --nodes=2", "line 3: --nodes comes twice"),
    (FLUX, "-t 90m", "-t 1:30:00", "line 5: --time-limit: malformed"),
    (FLUX, "# flux: -n8", "#flux: -n8", "line 3: nearly a directive"),
    (FLUX, "# flux: -n8\n", "", "missing"),
    (FLUX, "# flux: -n8", "# a comment\n# flux: -n8", "line 3: stands among the directives"),
])
def test_mistakes(text, old, new, problem):
    assert text.count(old) >= 1
    with pytest.raises(AssertionError, match=problem):
        read(text.replace(old, new, 1))


def test_options_of_a_command_line():
    table = {"--nodes": r"\d+", "--exclusive": None}
    assert options(["-N8", "--exclusive", "program", "-x"], table,
                   {"-N": "--nodes"}) == ({"--nodes": "8", "--exclusive": True}, ["program", "-x"])
    for words in (["-N 8"], ["--nodes 8"], ["--nodes"], ["-N8", "--nodes=8"], ["--nodes="]):
        with pytest.raises(AssertionError):
            options(words, table, {"-N": "--nodes"})
