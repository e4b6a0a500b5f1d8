"""What job scripts may say to a scheduler: a strict reader of directives, also of the options on a command
line. Standard library only.

Stricter than the schedulers, which pass over in silence what they do not understand, or what
stands in the wrong place.
"""

import re
import shlex

NUMBER = r"[1-9]\d*"
WORD = r"[A-Za-z0-9_][\w.,:+@/=~-]*"
FILE = r"[\w./%{}+~^-][\w./%{}+~^ -]*"
SIGNAL = r"USR1|USR2|TERM|INT|URG|HUP"
CLOCK = r"(\d+:)?[0-5]?\d:[0-5]\d"  # hours, minutes, seconds
FSD = r"\d+(\.\d+)?[smhd]?"  # Flux's standard duration
LSF_TIME = r"(\d+:)?[0-5]\d|\d+"  # hours and minutes, no seconds

# Flags and what their values look like; None: no value. A short flag that is another name of a
# long one stands in ALIASES.
BSUB = {
    "-P": WORD, "-G": WORD, "-W": LSF_TIME, "-nnodes": NUMBER, "-J": WORD, "-o": FILE,
    "-e": FILE, "-q": WORD, "-alloc_flags": r"(gpumps|gpudefault|smt[124]|nvme|maximizegpfs|spectral)( "
                                            r"(gpumps|gpudefault|smt[124]|nvme|maximizegpfs|spectral))*",
    "-wt": LSF_TIME, "-wa": SIGNAL,
    "-w": r"(ended|done|exit|started)\(\d+\)( *(&&|\|\|) *(ended|done|exit|started)\(\d+\))*", "-u": WORD,
    "-N": None, "-B": None, "-U": WORD, "-rn": None, "-core_isolation": r"[0-6]", "--shared-launch": None,
}
QSUB = {
    "-N": r"[A-Za-z0-9_][\w.+-]{0,229}", "-A": WORD, "-P": WORD, "-q": WORD, "-j": "oe", "-o": FILE,
    "-e": FILE, "-r": "[yn]", "-k": "doe?|oed?", "-m": "n|[abe]+", "-M": WORD,
    "-W": r"depend=(afterany|afterok|afternotok|after)(:\d+[\w.\[\]-]*)+",
    "-v": r"[A-Za-z_]\w*(=[^,]*)?(,[A-Za-z_]\w*(=[^,]*)?)*",
    "-V": None, "-l": {"select": rf"{NUMBER}(:[a-z_]+=[\w.-]+)*",
                       "place": r"(scatter|pack|free|vscatter)(:(excl|exclhost|shared))?", "walltime": CLOCK,
                       "filesystems": r"\w+(:\w+)*"},
}
SBATCH = {
    "--account": WORD, "--job-name": WORD, "--nodes": NUMBER, "--ntasks": NUMBER, "--ntasks-per-node": NUMBER,
    "--cpus-per-task": NUMBER, "--time": rf"(\d+-)?{CLOCK}", "--partition": WORD, "--qos": WORD,
    "--reservation": WORD, "--constraint": r"[\w.&|*()\[\]-]+", "--dependency":
    r"(singleton|(afterany|afterok|afternotok|after)(:\d[\w+]*)+)(,(afterany|afterok|afternotok|after)(:\d[\w+]*)+)*",
    "--array": r"\d+(-\d+)?(%\d+)?", "--output": FILE, "--error": FILE, "--mail-user": WORD,
    "--mail-type": r"[A-Z_\d]+(,[A-Z_\d]+)*", "--signal": rf"(B:)?({SIGNAL})@\d+", "--requeue": None,
    "--no-requeue": None, "--open-mode": "append", "--gpus-per-node": rf"([a-z]\w*:)?{NUMBER}",
    "--gres": r"\w+(:\w+)*", "--gpus-per-task": NUMBER, "--core-spec": r"\d+", "--mem": r"\d+[KMGT]?",
    "--mem-per-gpu": r"\d+[KMGT]", "--exclusive": None, "--hint": "nomultithread|multithread",
    "--threads-per-core": "[124]", "--network": WORD, "--image": WORD, "--module": WORD, "--uenv": WORD,
    "--view": WORD, "--environment": WORD, "--licenses": WORD, "--export": "ALL|NONE",
    "--chdir": FILE, "--parsable": None,
}
FLUX_JOB = {
    "--nodes": NUMBER, "--cores-per-slot": NUMBER, "--gpus-per-slot": r"\d+", "--exclusive": None,
    "--time-limit": FSD, "--queue": WORD, "--bank": WORD, "--job-name": WORD, "--output": FILE,
    "--error": FILE, "--signal": rf"({SIGNAL})@{FSD}", "--setattr": r"[\w.]+(=[\w.-]+)?",
    "--setopt": r"[\w.-]+(=[\w.,:-]+)?",
    "--dependency": r"(afterany|afterok|afternotok|after):[fƒ]?\w+", "--requires": r"\S+", "--cwd": FILE,
}
FLUX_BATCH = {**FLUX_JOB, "--nslots": NUMBER}
SGE = {
    "-S": "/bin/bash", "-cwd": None, "-N": r"[A-Za-z_][\w.+-]{0,229}", "-P": WORD, "-A": WORD, "-q": WORD,
    "-ar": NUMBER, "-hold_jid": r"[\w.+-]+(,[\w.+-]+)*", "-M": WORD, "-m": "n|[beas]+", "-j": "y|n",
    "-o": FILE, "-e": FILE, "-r": "y|n", "-notify": None, "-pe": WORD, "-l": {"h_rt": CLOCK, "s_rt": CLOCK,
                                                                "node_f": NUMBER, "gpu": NUMBER},
}
PAIRS = {"-pe": NUMBER}  # flags with a second value
ALIASES = {
    "SBATCH": {"-A": "--account", "-J": "--job-name", "-N": "--nodes", "-n": "--ntasks",
               "-c": "--cpus-per-task", "-t": "--time", "-p": "--partition",
               "-q": "--qos", "-C": "--constraint", "-d": "--dependency", "-a": "--array", "-o": "--output",
               "-e": "--error", "-S": "--core-spec", "-G": "--gpus", "-D": "--chdir", "-L": "--licenses"},
    "flux": {"-N": "--nodes", "-n": "--nslots",
             "-c": "--cores-per-slot", "-g": "--gpus-per-slot", "-x": "--exclusive", "-t": "--time-limit",
             "-q": "--queue", "-B": "--bank", "-S": "--setattr", "-o": "--setopt"},
}
SCHEDULERS = {  # sentinel -> (table, aliases, whether -N8 is -N 8, the flags that must be there)
              "#BSUB": (BSUB, {}, False, {"-W", "-nnodes", "-J", "-o"}),
              "#PBS": (QSUB, {}, False, {"-N", "-l"}),
              "#$": (SGE, {}, False, {"-S", "-cwd", "-N", "-l", "-o"}),
              "#SBATCH": (SBATCH, ALIASES["SBATCH"], True, {"--nodes", "--time", "--job-name", "--output"}),
              "# flux:": (FLUX_BATCH, ALIASES["flux"], True,
                          {"--nodes", "--nslots", "--time-limit", "--job-name", "--output"}),}
SEVERAL = {"--setattr", "--setopt", "--env", "-x"}  # flags that may come again, with other keys
LOOKS_LIKE = re.compile(r"\s*#+\s*(BSUB|PBS|SBATCH|flux:)|\s*#+ *\$ *-", re.I)


def options(words, table, aliases=None, joined=True):
    """Read options up to the first other word. words: list of str. table: flag -> pattern of the value, None,
    or a dict of them by key.

    joined: -n8 is understood as -n 8. Returns ({flag: value or True; a list or a dict where it may come
    again}, the rest of the words). Raises AssertionError for an unknown flag, a value that does not fit,
    a flag that comes again.
    """
    found, words, aliases = {}, list(words), aliases or {}
    while words and words[0].startswith("-") and words[0] != "-":
        word = words.pop(0)
        flag, equals, value = word.partition("=") if word.startswith("--") else (word, "", "")
        if joined and re.match(r"-\w.", word):
            flag, equals, value = word[:2], "=", word[2:]
        flag = aliases.get(flag, flag)
        assert flag in table, f"unknown option {word!r}"
        pattern = table[flag]
        if pattern is None:
            assert not equals, f"{flag} takes no value, got {value!r}"
            value = True
        elif not equals:
            assert words, f"{flag} needs a value"
            value = words.pop(0)
        if flag in PAIRS and table is SGE:
            second = words.pop(0) if words else ""
            assert re.fullmatch(PAIRS[flag], second), f"{flag}: malformed value {second!r}"
            found[f"{flag} slots"] = second
        if isinstance(pattern, dict):
            key, _, value = value.partition("=")
            assert key in pattern and re.fullmatch(pattern[key], value), f"{flag}: malformed {key}={value}"
            assert key not in found.setdefault(flag, {}), f"{flag} {key} comes twice"
            found[flag][key] = value
            continue
        assert value is True or re.fullmatch(pattern, value), f"{flag}: malformed value {value!r}"
        if flag in SEVERAL:
            found.setdefault(flag, []).append(value)
            continue
        assert flag not in found, f"{flag} comes twice"
        found[flag] = value
    return found, words


def read(text, complete=True):
    """Read the directives of a job script. complete: what every job needs must be there. Returns
    (sentinel, dict as of `options`).

    Raises AssertionError with the line. A script without directives: ("", {}).
    """
    lines = text.splitlines()
    assert lines and re.fullmatch(r"#!/bin/bash( -l)?", lines[0]), (
        f"line 1: expected #!/bin/bash, got {lines[:1]}")
    sentinel = next((known for known in SCHEDULERS for line in lines if line.startswith(f"{known} ")), "")
    numbers = [number for number, line in enumerate(lines) if sentinel and line.startswith(f"{sentinel} ")]
    for number, line in enumerate(lines):
        assert (number in numbers
                or not LOOKS_LIKE.match(line)), f"line {number + 1}: nearly a directive: {line}"
    if not sentinel:
        return "", {}
    table, aliases, joined, needed = SCHEDULERS[sentinel]
    for number in range(1, numbers[-1]):
        line = lines[number]
        comment = re.match("# |#$", line) and (number < numbers[0] or sentinel in ("#BSUB", "#SBATCH", "#$"))
        assert number in numbers or comment, f"line {number + 1}: stands among the directives: {line!r}"
    words = []
    for number in numbers:
        line = lines[number]
        assert line == line.rstrip(), f"line {number + 1}: ends with white space: {line!r}"
        try:
            here = shlex.split(line.removeprefix(sentinel))
            found, rest = options(here, table, aliases, joined)
            assert found and not rest, f"expected an option, got {rest}"
            words += here
            options(words, table, aliases, joined)
        except (AssertionError, ValueError) as error:
            raise AssertionError(f"line {number + 1}: {error}: {line}") from None
    found, _ = options(words, table, aliases, joined)
    if complete:
        _complete(sentinel, found, needed)
    return sentinel, found


def _complete(sentinel, found, needed):
    """What a job of these templates needs beyond the syntax."""
    assert needed <= set(found), f"{sentinel}: missing {sorted(needed - set(found))}"
    if sentinel == "#BSUB":
        assert ("-P" in found) != ("-G" in found), "#BSUB: one of -P and -G"
        assert ("-wt" in found) == ("-wa" in found), "#BSUB: -wt and -wa go together"
    if sentinel == "#PBS":
        assert {"select", "walltime"} <= set(found["-l"]), "#PBS: missing -l select or -l walltime"
    if sentinel == "#$":
        assert ("-pe" in found) != ("node_f" in found["-l"]), "#$: one of -pe and -l node_f"
        assert {"h_rt", "s_rt"} <= set(found["-l"]), "#$: missing -l h_rt or -l s_rt"
    if "--requeue" in found:
        assert found.get("--open-mode") == "append", ("#SBATCH: a requeue truncates the log without "
                                                      "--open-mode=append")
    if sentinel == "#SBATCH" and "--signal" in found:
        assert found["--signal"].startswith("B:"), ("#SBATCH: --signal without B: "
                                                    "goes to every process of the ranks")
