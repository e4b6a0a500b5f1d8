"""A real Slurm of emulated nodes on this machine: munge, a controller and one slurmd per node, in one
folder, without systemd.

Every node has its own host name (n1, n2, ...) and its own storage: FOLDER/scratch is another folder on each
of them, which is seen from outside as FOLDER/local/NAME. The daemons listen on 127.0.0.1 only, end with the
process that has started them, and use nothing in /etc but the names of hosts.
"""

import getpass
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil

PROGRAMS = ("munged", "slurmctld", "slurmd", "srun", "sbatch", "scontrol", "sinfo", "squeue", "scancel",
            "unshare", "setpriv")
START = 30  # seconds that a daemon may take to be there
STOP = 15  # ... and to be gone
LONGEST = 60  # characters of the folder: the path of a socket in it must fit into 107
FINAL = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "BOOT_FAIL", "DEADLINE"}

# cred_expire is also what a requeued job waits before its next start. TmpFS: in one folder the PMIx plugins
# of two nodes would collide. EnforcePartLimits: what is over a limit is refused, instead of pending for ever.
# config_overrides: more cores than the machine has.
CONFIG = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthInfo=socket={folder}/run/munge.socket,cred_expire=5
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/slurmd-%n.pid
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
TmpFS={folder}/tmp/%n
ProctrackType=proctrack/linuxproc
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
GresTypes=gpu
KillWait=5
MinJobAge=3600
ReturnToService=1
MailProg=/bin/true
JobRequeue=1
EnforcePartLimits=ALL
{nodes}
PartitionName=debug Nodes=ALL Default=YES MaxTime=1:00:00 DefaultTime=0:10:00
PartitionName=short Nodes=ALL MaxTime=0:05:00 DefaultTime=0:05:00
"""
NODE = ("NodeName={name} NodeHostname={name} NodeAddr=127.0.0.1 Port={port} CPUs={cpus} Boards=1 "
        "SocketsPerBoard=1 CoresPerSocket={cpus}")
# In the namespaces of a node: its name, its hosts file, its shared memory, its storage; then the daemon.
BOOT = """hostname "$1" && mount --bind "$2" /etc/hosts && mount -t tmpfs tmpfs /dev/shm &&
mount --bind "$3" "$4" &&
exec setpriv --pdeathsig TERM "$5" -D -N "$1\""""


class Unavailable(Exception):
    """This machine cannot run the cluster; the reason, in one line."""


class SlurmCluster:
    """The cluster, up while the context lasts. Raises Unavailable where something it needs is missing."""

    def __init__(self, folder, nodes=4, cpus=4, gpus=0):
        """folder: a short path. nodes; cpus and gpus (imitated, of no use) per node."""
        self.folder, self.cpus, self.gpus = Path(folder), cpus, gpus
        self.nodes = [f"n{number}" for number in range(1, nodes + 1)]
        self.scratch = self.folder / "scratch"  # the storage of each node, as the node sees it
        self.environment = {  # what a client needs
                            "SLURM_CONF": str(self.folder / "slurm.conf"),
                            "MUNGE_SOCKET": str(self.folder / "run" / "munge.socket"),
                            # loopback; without ofi, which sleeps a second at its start; more ranks than cores
                            "OMPI_MCA_btl_tcp_if_include": "lo", "OMPI_MCA_btl": "^ofi",
                            "OMPI_MCA_pml": "ob1", "OMPI_MCA_mpi_yield_when_idle": "1"}
        self._daemons = []  # (name, Popen), in the order of their starts

    def __enter__(self):
        with ExitStack() as failed:
            failed.callback(self.stop)
            self._check()
            self._configure()
            self._start("munged", _program("munged"),
                        "--foreground", "--socket", self.environment["MUNGE_SOCKET"], "--num-threads", "2",
                        *(f"--{what}-file={self.folder / 'munge' / what}" for what in ("key", "seed", "pid")))
            self._until(lambda: Path(self.environment["MUNGE_SOCKET"]).exists(), "munged")
            self._start("slurmctld", _program("slurmctld"), "-D")
            self._until(lambda: "is UP" in self.run("scontrol", "ping", check=False).stdout, "slurmctld")
            for name in self.nodes:
                self._start(name, *_namespaces(), "bash", "-c", BOOT, "bash", name,
                            self.folder / f"hosts-{name}", self.local(name), self.scratch, _program("slurmd"),
                            setpriv=False)
            self._until(self._idle, "the nodes")
            if (done := self.run("srun", "--mpi=pmix", "true", check=False)).returncode:
                raise Unavailable("srun cannot start MPI by PMIx (Debian: apt-get install libpmix-dev): "
                                  f"{done.stderr.splitlines()[0]}")
            failed.pop_all()
        return self

    def __exit__(self, *_):
        self.stop()

    def local(self, name):
        """The storage of one node, as it is seen from outside. Returns Path."""
        return self.folder / "local" / name

    def left(self):
        """What lies in the storage of the nodes. Returns a list of Path."""
        return [path for name in self.nodes for path in self.local(name).iterdir()]

    def run(self, *words, timeout=60, check=True, **more):
        """Run a client command to its end. timeout: seconds. more: for subprocess.run; env: further
        variables. Returns CompletedProcess, text."""
        own = {name: value for name, value in os.environ.items()
               if not name.startswith(("SLURM", "SBATCH", "SRUN", "PMI", "OMPI"))}
        env = {**own, **self.environment, **more.pop("env", {})}
        done = subprocess.run([*map(str, words)], env=env, capture_output=True, text=True, timeout=timeout,
                              check=False, **more)
        assert not check or done.returncode == 0, (f"{' '.join(map(str, words))}: "
                                                   f"exit code {done.returncode}: {done.stdout}{done.stderr}")
        return done

    def job(self, number):
        """What the controller knows of a job, or of a task of an array ("7_1"). Returns dict of str to
        str: JobState, Restarts, ExitCode, ..."""
        line = self.run("scontrol", "show", "job", "-o", number).stdout.splitlines()[0]
        return dict(re.findall(r"(\S+?)=(.*?)(?=\s+[A-Z][\w:/]*=|\s*$)", line))

    def wait(self, number, states, timeout=60):
        """Wait until a job is in one of the states. Returns its dict. AssertionError when it has ended in
        another one, or the time is over."""
        end, states = time.monotonic() + timeout, {states} if isinstance(states, str) else set(states)
        while (job := self.job(number))["JobState"] not in states:
            assert (job["JobState"] not in FINAL
                    and time.monotonic() < end), f"job {number}, expected {states} within {timeout} s: {job}"
            time.sleep(0.2)
        return job

    def node(self, name, state):
        """Set a node's state: down, drain, resume, ..."""
        self.run("scontrol", "update", f"nodename={name}", f"state={state}", "reason=test")

    def quiet(self):
        """Cancel all jobs, and have all nodes back. AssertionError when they are not there
        after some time."""
        self.run("scancel", "--user", getpass.getuser())
        for name in self.run("sinfo", "-h", "-N", "-p", "debug", "-t", "down", "-o", "%N").stdout.split():
            self.node(name, "resume")
        assert _until(self._idle, START), self.run("sinfo", "-N").stdout

    def stop(self):
        """End the jobs, then the daemons, then whatever a job has left behind. Does nothing
        where nothing runs."""
        daemons, self._daemons = self._daemons, []
        if "slurmctld" in dict(daemons):
            # a controller that does not answer is ended all the same
            with suppress(subprocess.TimeoutExpired):
                self.run("scancel", "--user", getpass.getuser(), timeout=STOP, check=False)
                _until(lambda: not self.run("squeue", "-h", timeout=STOP, check=False).stdout, STOP)
        for name, process in reversed(daemons):
            _end(process, gently=name != "slurmctld")  # which would save its state first
        left = [process
                for process in psutil.process_iter() if process.pid != os.getpid() and self._is_ours(process)]
        for process in left:
            process.kill()
        psutil.wait_procs(left, STOP)

    def _idle(self):
        return (set(self.nodes)
                == set(self.run("sinfo", "-h", "-N", "-p", "debug", "-t", "idle", "-o", "%N").stdout.split()))

    def _is_ours(self, process):
        """Whether a process has been started by a daemon or a client of this cluster."""
        try:
            return process.environ().get("SLURM_CONF") == self.environment["SLURM_CONF"]
        except psutil.Error:
            return False

    def _check(self):
        if missing := [program for program in PROGRAMS if _program(program) is None]:
            raise Unavailable(f"no {', '.join(missing)} on this machine (Debian: "
                              "apt-get install slurm-wlm munge)")
        words = [*_namespaces(), "bash", "-c", "hostname n1 && mount --bind /tmp /tmp"]
        done = subprocess.run(words, capture_output=True, text=True, timeout=START, check=False)
        if done.returncode:
            raise Unavailable(f"no right to give a node its own name and mounts: {done.stderr.strip()}")
        assert len(str(self.folder)) < LONGEST, (f"{self.folder}: expected a path of less than {LONGEST} "
                                                 "characters")

    def _configure(self):
        self.folder.chmod(0o755)  # munged wants its socket within reach of everybody
        for part in ("run", "log", "state", "munge", "scratch",
                     *(f"{part}/{name}" for part in ("spool", "tmp", "local") for name in self.nodes)):
            (self.folder / part).mkdir(parents=True)
        (self.folder / "munge").chmod(0o700)
        (self.folder / "munge" / "key").write_bytes(os.urandom(1024))
        (self.folder / "munge" / "key").chmod(0o600)
        hosts = [line for line in Path("/etc/hosts").read_text().splitlines() if "localhost" not in line]
        for name in self.nodes:
            (self.folder / f"hosts-{name}").write_text("\n".join([f"127.0.0.1 localhost {name}", *hosts, ""]))
        port, *ports = _free_ports(1 + len(self.nodes))
        nodes = "\n".join(NODE.format(name=name, port=port, cpus=self.cpus) + f" Gres=gpu:{self.gpus}"
                          * bool(self.gpus) for name, port in zip(self.nodes, ports, strict=True))
        host = socket.gethostname().partition(".")[0]
        (self.folder / "slurm.conf").write_text(CONFIG.format(host=host, user=getpass.getuser(), port=port,
                                                              folder=self.folder, nodes=nodes))
        # Without this line Slurm looks for the version of cgroups, and ends where there are none.
        (self.folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
        (self.folder / "gres.conf").write_text("".join(f"NodeName={name} Name=gpu "
                                                       f"File={self._device(number)}\n"
                                                       for name in self.nodes for number in range(self.gpus)))

    def _device(self, number):
        """A character device, as Slurm wants for a GPU: a copy of /dev/null."""
        path = self.folder / f"gpu{number}"
        if not path.exists():
            os.mknod(path, 0o666 | 0o020000, os.makedev(1, 3))
        return path

    def _start(self, name, *words, setpriv=True):
        """Start a daemon. setpriv: have it end with this process, unless the words see to that themselves."""
        with open(self.folder / "log" / name, "w") as log:
            words = [*(["setpriv", "--pdeathsig", "TERM"] if setpriv else []), *map(str, words)]
            process = subprocess.Popen(words, env={**os.environ, **self.environment},
                                       stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                       start_new_session=True)
        self._daemons.append((name, process))

    def _until(self, condition, what):
        """Wait for what has been started. RuntimeError, with the ends of the logs, when a daemon has
        left or the time is over."""
        def gone():
            return [name for name, process in self._daemons if process.poll() is not None]

        if not _until(lambda: gone() or condition(), START) or gone():
            logs = "".join(f"\n{path.name}: {path.read_text()[-1000:]}"
                           for path in sorted((self.folder / "log").iterdir()))
            problem = f"{', '.join(gone())} left" if gone() else f"not there after {START} s"
            raise RuntimeError(f"{what} of the Slurm cluster in {self.folder}: {problem}{logs}")


def _program(name):
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def _namespaces():
    """The words that give a program its own host name and mounts; for an ordinary user by a
    namespace of users."""
    user = [] if os.geteuid() == 0 else ["--user", "--map-current-user", "--keep-caps"]
    return ["unshare", *user, "--uts", "--mount", "--propagation", "private"]


def _free_ports(count):
    """Ports of 127.0.0.1 that nobody listens on now."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _until(condition, seconds):
    """Wait for a condition. Returns whether it came."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def _end(process, gently):
    process.send_signal(signal.SIGTERM if gently else signal.SIGKILL)
    try:
        process.wait(timeout=STOP)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
