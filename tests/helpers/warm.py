"""Ranks that start at once: a server has imported what takes seconds, and forks itself for whoever asks.

A rank of the tests has work for some tenths of a second, and imports torch for seconds before. Here a server
imports it once. What mpirun starts is only a client: it hands its words, environment, folder and output to
the server, which forks. The child is a process like any other: it starts MPI itself, and ends, fails or
kills itself as a rank does. The client passes signals on and ends as the child has ended. If the client is
killed, so is the child.

This cannot show what happens while torch is being imported, in which order libraries are loaded, or what a
stopped process does to its launcher. Tests of these take ranks that start from nothing.

    python warm.py serve SOCKET MODULE...        the server; it ends with its standard input
    python -I -S warm.py SOCKET:SOCKET WORDS...  in place of `python WORDS...`; the ranks take turns
"""

import json
import os
import signal
import socket
import sys

PASSED_ON = signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2
RANKS = "OMPI_COMM_WORLD_RANK", "JSM_NAMESPACE_RANK", "PMIX_RANK"  # where a launcher says it
NO_ANSWER = 70  # the exit code of a client whose server is gone


def client(sockets, words):
    """Have `python WORDS` done by a server, and end as it ends. sockets: their paths. Does not return."""
    while words[:1] == ["-u"]:
        words = words[1:]  # as the servers are
    if not words or (words[0].startswith("-") and words[0] not in ("-c", "-m")):
        os.execv(sys.executable, [sys.executable, *words])
    rank = int(next((os.environ[name] for name in RANKS if name in os.environ), "0"))
    server = socket.socket(socket.AF_UNIX)
    server.connect(sockets[rank % len(sockets)])
    job = json.dumps({"words": words, "environment": dict(os.environ), "folder": os.getcwd()}).encode()
    socket.send_fds(server, [len(job).to_bytes(4, "big")], [0, 1, 2])
    server.sendall(job)
    child = _number(server)
    for number in PASSED_ON:
        signal.signal(number, lambda number, _: _kill(child, number))
    status = _number(server)
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    os._exit(os.WEXITSTATUS(status))


def _number(server):
    data = server.recv(4, socket.MSG_WAITALL)
    if len(data) < 4:
        print("warm.py: the server is gone", file=sys.stderr, flush=True)
        os._exit(NO_ANSWER)
    return int.from_bytes(data, "big")


def _kill(process, number):
    try:
        os.kill(process, number)
    except ProcessLookupError:
        pass  # it has just ended


class Server:
    """Forks for each client that connects to `path`."""

    def __init__(self, path):
        import ctypes
        import selectors

        self._libc = ctypes.CDLL(None)  # before there is a child
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen(64)
        self._children = {}  # connection -> (process, pidfd)
        self._events = selectors.DefaultSelector()
        self._watch(sys.stdin.fileno(), self._end)
        self._watch(self._listener, self._begin)

    def _watch(self, file, do, *arguments):
        self._events.register(file, 1, (do, arguments))  # 1: readable

    def serve(self):
        """Until standard input ends. Returns in the children only: the job of this one, dict, and its
        standard files, descriptors."""
        while True:
            for key, _ in self._events.select():
                do, arguments = key.data
                if work := do(*arguments):
                    return work

    def _begin(self):
        """A client is there."""
        connection, _ = self._listener.accept()
        size, files, _, _ = socket.recv_fds(connection, 4, 3)
        text = connection.recv(int.from_bytes(size, "big"), socket.MSG_WAITALL)
        try:
            job = json.loads(text)
        except ValueError:
            job = None  # the client was killed before it had said all
        if job is None:
            for file in [connection.detach(), *files]:
                os.close(file)
            return None
        if (child := os.fork()) == 0:
            self._leave(connection)
            return job, files
        for file in files:
            os.close(file)
        self._children[connection] = child, os.pidfd_open(child)
        self._send(connection, child)
        self._watch(connection, self._gone, connection)
        self._watch(self._children[connection][1], self._ended, connection)
        return None

    def _leave(self, connection):
        """In a child: a session of its own, which ends with the server, and nothing of the server's files."""
        self._libc.prctl(1, int(signal.SIGKILL))  # PR_SET_PDEATHSIG
        os.setsid()
        self._events.close()
        self._listener.close()
        connection.close()
        for other, (_, pidfd) in self._children.items():
            other.close()
            os.close(pidfd)

    def _gone(self, connection):
        """A client has been killed."""
        if connection not in self._children:
            return  # in the same moment the child has ended
        self._events.unregister(connection)
        _kill(self._children[connection][0], signal.SIGKILL)

    def _ended(self, connection):
        """A child has ended."""
        child, pidfd = self._children.pop(connection)
        _, status = os.waitpid(child, 0)
        self._events.unregister(pidfd)
        os.close(pidfd)
        if connection in self._events.get_map():
            self._events.unregister(connection)
        self._send(connection, status)
        connection.close()

    @staticmethod
    def _send(connection, number):
        try:
            connection.sendall(number.to_bytes(4, "big"))
        except OSError:
            pass  # the client has been killed meanwhile

    def _end(self):
        for child, _ in self._children.values():
            _kill(child, signal.SIGKILL)
        os._exit(0)


def become(job, files):
    """Do in this process what `python WORDS` does. job: "words", "environment", "folder". files: descriptors
    of its standard files."""
    import runpy

    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.chdir(job["folder"])
    own = {os.path.dirname(__file__), *_python_path()}
    os.environ.clear()
    os.environ.update(job["environment"])
    sys.path[:] = [*_python_path(), *(folder for folder in sys.path if folder not in own)]
    first, *more = job["words"]
    if first == "-m":
        sys.argv[:] = more
        sys.path.insert(0, os.getcwd())
        runpy.run_module(more[0], run_name="__main__", alter_sys=True)
    elif first == "-c":
        sys.argv[:] = ["-c", *more[1:]]
        sys.path.insert(0, "")
        exec(more[0], {"__name__": "__main__"})
    else:
        sys.argv[:] = [first, *more]
        sys.path.insert(0, os.path.dirname(os.path.abspath(first)))
        runpy.run_path(first, run_name="__main__")


def _python_path():
    return [folder for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep) if folder]


def main(words):
    """The command line of this file."""
    if words[0] != "serve":
        client(words[0].split(":"), words[1:])
    import gc
    import importlib

    for name in words[2:]:
        importlib.import_module(name)
    server = Server(words[1])
    gc.collect()
    gc.freeze()  # what all children share stays where it is
    print("ready", flush=True)
    become(*server.serve())


if __name__ == "__main__":
    main(sys.argv[1:])
