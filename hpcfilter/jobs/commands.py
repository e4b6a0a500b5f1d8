"""What `hpcfilter jobs ...` does: plans, a study of several of them, and what is printed of them."""

import json

from hpcfilter.base.errors import Failure, InputError, Interrupted
from hpcfilter.comm import placement
from hpcfilter.jobs.limits import warnings
from hpcfilter.jobs.machine import files, load_machine, profiles
from hpcfilter.jobs.plan import describe, plan
from hpcfilter.jobs.render import render
from hpcfilter.jobs.submit import check_chain, command, shown, submit
from hpcfilter.jobs.surroundings import remarks, settled
from hpcfilter.jobs.training import check_training, is_finished

FLAGS = ("machine", "walltime", "account", "queue")  # of the command line, which are keys of [job] too


def plans(words, repeats=1, **more):
    """The plans of the words of a command line: one per number of nodes, and per repetition where the
    scheduler has no arrays. Returns a list.

    Repetition k has the seed of the run config plus k - 1, in an array too.
    """
    own = [f"job.{flag}={json.dumps(value, ensure_ascii=False)}"
           for flag in FLAGS if (value := getattr(words, flag)) is not None]
    own += [f"job.{name}={json.dumps(value)}" for name, value in more.items()]
    sizes = words.nodes or [None]
    found = []
    for nodes in sizes:
        settings = [*words.settings, *own, *([f"job.nodes={nodes}"] if nodes else [])]
        first = plan(words.config, words.run_dir, settings)
        if len(sizes) == repeats == 1:
            return [first]
        array = first.machine.scheduler == "slurm"
        folder = f"{first.run_dir}/nodes-{first.layout.nodes}"
        if array or repeats == 1:
            found.append(plan(words.config, folder, settings, repeats))
        else:
            found += [plan(words.config, f"{folder}/repeat-{number + 1}",
                           [*settings, f"seed={first.config.seed + number}"]) for number in range(repeats)]
    return found


def render_script(words):
    """`jobs render`."""
    for each in plans(words):
        print(render(each), end="")


def _checked(found, chain=1):
    """What the ranks of some plans would refuse is refused; of several, with the size of the job. chain: jobs
    that follow each other. Returns a list of lines for each plan: what may go wrong, what is not checked."""
    lines, jobs = [], sum(each.repeats for each in found) * chain
    for each in found:
        try:
            lines.append([*warnings(each.job, each.machine, jobs, each.staged_bytes), *check_training(each)])
        except InputError as error:
            raise type(error)(f"--nodes {each.layout.nodes}: {error}" if len(found) > 1
                              else str(error)) from error
    return lines


def _unfinished(found):
    """The plans of a study that are not finished yet; one alone is refused when it is."""
    for each in found if len(found) > 1 else []:
        if is_finished(each):
            print(f"{each.run_dir}: is finished, and left out")
    return [each for each in found if len(found) == 1 or not is_finished(each)]


def check_layout(words):
    """`jobs check`. It renders as well, so that nothing is left to fail at submission but the scheduler."""
    found = _unfinished(plans(words))
    for each, left in zip(found, _checked(found), strict=True):
        render(each)
        print("\n".join([describe(each), *left]))
    if len(found) > 1:
        print(f"all {len(found)} jobs: {sum(each.node_hours for each in found):.6g} node-hours at most, "
              "without requeues")


def submit_jobs(words):
    """`jobs submit`. Prints the ids of the jobs, each on a line of its own."""
    found = _unfinished(plans(words, words.repeats, **({"requeue": False} if words.chain > 1 else {})))
    for each, left in zip(found, _checked(found, words.chain), strict=True):
        check_chain(each, words.chain)
        render(each)  # all of them before the first is submitted
        hours = f"{each.node_hours * each.repeats * words.chain:.6g} node-hours at most"
        about = (describe(each, words.chain) if len(found) == 1
                 else f"{each.run_dir}: {each.layout.nodes} nodes, {hours}")
        print("\n".join([about, *left]))
    for line in remarks(found[0]) if found else []:
        print(line)
    if words.dry_run:
        return _show_submission(found, words.chain)
    submitted = []
    try:
        for each in found:
            for job in submit(each, words.chain):
                print(f"submitted: {job}" if job else f"{each.run_dir}: the job has ended", flush=True)
                submitted += [job] if job else []
    except (InputError, Failure) as error:
        raise type(error)(f"{error}; submitted before: {', '.join(submitted)}" if submitted
                          else str(error)) from None
    except KeyboardInterrupt:
        before = f"; submitted before: {', '.join(submitted)}" if submitted else ""
        raise Interrupted(f"interrupted{before}; look at the queue for one that was just "
                          "being submitted") from None
    return None


def _show_submission(found, chain):
    for each in map(settled, found):
        print(f"\n# {each.workdir}/{each.script}\n{render(each)}\n# would be submitted, in {each.workdir}:")
        after = None
        for _ in range(chain):
            print(shown(each, after))
            after = "ID_OF_THE_LAST" if command(each, "x") != command(each) else None


def stage_data(words):
    """`jobs stage`, on one node of a job."""
    from hpcfilter.jobs.stage.stage import stage

    print(stage(words.source, words.dest, words.method, placement().rank, words.part), flush=True)


def list_machines(words):
    """`jobs list-machines`: every profile that can be found, those of machines that are gone apart, the wrong
    ones with what is wrong."""
    gone = []
    for name, path in profiles().items():
        try:
            machine = load_machine(name)
            lines = [_in_a_line(machine), f"{'':14} {machine.source} ({machine.date}); {machine.checked}"]
        except InputError as error:
            machine, lines = None, [f"{name:14} cannot be used: {error}"]
        if path.parent != files() / "machines":
            lines.append(f"{'':14} {path}")
        if machine and machine.retired:
            gone += [f"{lines[0]} ({machine.retired})", *lines[1:]]
        else:
            print("\n".join(lines))
    if gone:
        print("\n".join(["", "machines that are gone, for those like them:", *gone]))


def _in_a_line(machine):
    node = machine.node
    return f"{machine.name:14} {machine.scheduler:6} {node.cpus:4} cores {node.gpus} GPUs  {machine.about}"
