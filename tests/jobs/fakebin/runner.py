"""Runs one job of a fake scheduler, as the daemon of a real one does: waits for its dependency, runs its
script, warns it, ends it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import table

TICK = 0.05  # seconds
GRACE = 3  # seconds between asking a job to end and killing what it has left


def main(job):
    row = table.read(job)
    for other in row["after"]:
        while table.read(other)["state"] in ("PEND", "RUN"):
            if asked(job, "kill"):
                return finish(row, 143)
            time.sleep(TICK)
    while True:
        code = once(row)
        if not take(job, "requeue") and code != row.get("again"):
            return finish(row, code)
        row["restarts"] += 1


def once(row):
    """Run the script to its end. Returns its exit code, as a shell says it."""
    job, spool = row["id"], table.folder() / f"{row['id']}.spool"
    environment = {**os.environ, table.MARK: job}
    names = [spool, None] if row["spool"] else [row["output"] or os.devnull, row["error"]]
    output, error = (Path(row["cwd"], name).open("ab") if name else None for name in names)
    shell = subprocess.Popen([table.folder() / f"{job}.script"], cwd=row.get("start_in", row["cwd"]),
                             env=environment, start_new_session=True, stdin=subprocess.DEVNULL, stdout=output,
                             stderr=error or output)
    for file in (output, error):
        if file:
            file.close()
    row.update(state="RUN", shell=shell.pid, started=time.time())
    table.write(row)
    end = time.monotonic() + row["walltime"]
    warnings = [(end - seconds, number) for seconds, number in row["warn"]]
    while shell.poll() is None:
        for warning in [warning for warning in warnings if time.monotonic() > warning[0]]:
            warnings.remove(warning)
            table.notify(row, warning[1])
        if asked(job, "kill") or asked(job, "requeue") or time.monotonic() > end:
            stop(shell)
        time.sleep(TICK)
    for process in table.marked(job):
        table.send(process, signal.SIGKILL)  # nothing outlives its job
    if row["spool"]:
        # brought back at the end, over what was there
        Path(row["cwd"], row["output"]).write_bytes(spool.read_bytes())
    return 128 - shell.returncode if shell.returncode < 0 else shell.returncode


def stop(shell):
    """End the batch shell and what it waits for; mpirun ends its ranks."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(shell.pid, number)
        except ProcessLookupError:
            pass
        if table.wait_until(lambda: shell.poll() is not None, GRACE):
            return


def finish(row, code):
    row.update(state="EXIT" if code else "DONE", exit=code)
    table.write(row)


def asked(job, what):
    return (table.folder() / f"{job}.{what}").exists()


def take(job, what):
    wanted = asked(job, what)
    (table.folder() / f"{job}.{what}").unlink(missing_ok=True)
    return wanted


if __name__ == "__main__":
    main(sys.argv[1])
