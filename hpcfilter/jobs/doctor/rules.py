"""From facts to problems: pure functions of `ranks`, the facts of all ranks in rank order. A rule yields
one line per problem."""

from collections import defaultdict

from hpcfilter.jobs.doctor.words import say, where

# ROCm numbers GPUs within what the last one shows
VISIBILITY = ("HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "ZE_AFFINITY_MASK")
HIDING = VISIBILITY[:3]  # that hide all GPUs when they are empty; Level Zero then shows them all


def problems(ranks, measured):
    """What must be mended before a run. measured: of `trial.measure`. Returns list of str, one line
    each: what, found, expected, what to do."""
    return [line for rule in RULES for line in rule(ranks)] + list(sums(measured))


def shared(ranks, look):
    """What several ranks of a node have in common. look: facts of a rank -> anything, or None for nothing.
    Returns rank -> it, of those ranks."""
    groups = defaultdict(list)
    for rank, facts in enumerate(ranks):
        if (found := look(facts)) is not None:
            groups[facts["host"], found].append(rank)
    return {rank: found for (_, found), group in groups.items() for rank in group if len(group) > 1}


def device(facts):
    """The GPU that a rank takes, as the node numbers it, by the variables that show a part of them. Returns
    str, None without a GPU."""
    number = facts["torch"].get("index")
    for variable in VISIBILITY:
        shown = facts["environment"].get(variable, "").split(",")
        if isinstance(number, int) and shown != [""] and number < len(shown):
            number = int(shown[number]) if shown[number].isdecimal() else shown[number]
    return None if number is None else str(number)


def threads(facts):
    """OMP_NUM_THREADS of a rank: int, None when it is unset or no number."""
    text = facts["environment"].get("OMP_NUM_THREADS", "").split(",")[0]
    return int(text) if text.isdecimal() else None


def wants_no_gpu(facts):
    """Whether the user hides all GPUs from a rank."""
    return any(facts["environment"].get(variable) in ("", "-1") for variable in HIDING)


def same_versions(ranks):
    """All ranks run the same code."""
    for package in ranks[0]["versions"]:
        found = {rank: facts["versions"].get(package) or "missing" for rank, facts in enumerate(ranks)}
        if len(set(found.values())) > 1:
            yield (f"{package}: got {say(found)}, expected one version on all ranks; "
                   "give all nodes the same environment")


def libraries(ranks):
    """torch and h5py can be imported."""
    for name, remedy in (("torch", "install torch, or activate the environment that has it"),
                         ("hdf5", "reinstall h5py")):
        if found := where(ranks, lambda facts, name=name: facts[name].get("error")):
            yield f"{name}: cannot be used: {found}; {remedy}"


def own_gpus(ranks):
    """No two ranks of a node take the same GPU."""
    if same := shared(ranks, lambda facts: facts["torch"].get("uuid") or device(facts)):
        found = say({rank: f"GPU {device(ranks[rank])} of {ranks[rank]['host']}" for rank in same})
        yield (f"GPU: got {found}, expected one per rank; have the launcher bind them, set HPCFILTER_GPU, "
               "or start fewer ranks per node")


def seen_gpus(ranks):
    """torch sees the GPUs that the node has."""
    def blind(facts):
        return facts["gpu_files"] and facts["torch"].get("gpus") == 0 and not wants_no_gpu(facts)

    if found := where(ranks, lambda facts: f"torch for {facts['torch']['build']} sees none"
                      if blind(facts) else None):
        yield (f"GPU: the node has GPUs, but {found}; ask the scheduler for them, or install a torch for "
               "them; if none is wanted, export CUDA_VISIBLE_DEVICES=")


def own_cores(ranks):
    """No two ranks of a node are bound to the same single core."""
    if same := shared(ranks, lambda facts: facts["cores"][0]
                      if len(facts["cores"]) == 1 < facts["machine_cores"] else None):
        found = say({rank: f"core {core} of {ranks[rank]['host']}" for rank, core in same.items()})
        yield (f"cores: got {found} alone, expected own cores for each rank; srun -c N --cpu-bind=cores, "
               "jsrun -c N, mpirun --bind-to none")


def own_threads(ranks):
    """A rank has no more threads than cores."""
    def excess(facts):
        wanted, cores = threads(facts), len(facts["cores"])
        return f"{wanted} threads on {cores} core{'s' * (cores > 1)}" if wanted and wanted > cores else None

    if found := where(ranks, excess):
        yield (f"OMP_NUM_THREADS: got {found}, expected as many threads as cores at most; "
               "lower it, or give each rank more cores")


def folder(ranks):
    """HDF5 can write and lock in the folder, on every node."""
    for can, remedy in (("write", "give another --folder"), ("lock", "export HDF5_USE_FILE_LOCKING=FALSE")):
        def failed(facts, can=can):
            return (f"{facts['folder']['path']} ({facts['folder'][can]})"
                    if facts["folder"] and facts["folder"].get(can) else None)

        if found := where(ranks, failed):
            yield f"folder: HDF5 cannot {can} there: {found}; {remedy}"


def deadline(ranks):
    """There is time left."""
    if found := where(ranks, lambda facts: facts["deadline"]["error"]
                      if isinstance(facts["deadline"], dict) else None):
        yield found
    if found := where(ranks, lambda facts: "" if not isinstance(facts["deadline"], dict)
                      and facts["deadline"] <= facts["now"] else None):
        yield (f"HPCFILTER_DEADLINE: is past on {found}, expected seconds since 1970 that are to come: "
               "a run leaves at once; set it anew or unset it")


def sums(measured):
    """The ranks add up right. measured: of `trial.measure`."""
    if "error" in measured:
        yield f"allreduce: failed: {measured['error']}"
    if measured.get("wrong"):
        yield (f"allreduce: got {measured['wrong']} wrong elements on {measured['ranks']} ranks together, "
               "expected none; the network is broken: try other nodes, and NCCL_DEBUG=INFO")


RULES = (same_versions, libraries, own_gpus, seen_gpus, own_cores, own_threads,
         folder, deadline)
