"""What a communicator can do: numbers between ranks, and nothing else. SerialComm is the whole
of it for one process."""

import traceback
from abc import ABC, abstractmethod
from contextlib import contextmanager

import numpy as np

from hpcfilter.base.errors import OwnCode, Refusal


class Comm(ABC):
    """One rank among all. What a communicator lacks is an error when it is made, never a silent no-op.

    rank, size: position among all ranks. local_rank, local_size: position among the ranks of this node.
    backend: its name. sent: bytes of payload that this rank has handed to collectives so far.
    """

    rank, size, local_rank, local_size = 0, 1, 0, 1
    backend = ""
    sent = 0
    _last = ()  # what is done before the communicator is left

    @abstractmethod
    def sum(self, array):
        """Elementwise sum over the ranks. array: numpy array or number. Returns a new array of
        the same shape and type."""

    @abstractmethod
    def max(self, array):
        """Elementwise maximum over the ranks."""

    @abstractmethod
    def min(self, array):
        """Elementwise minimum over the ranks."""

    @abstractmethod
    def exscan(self, value):
        """Sum over the ranks before this one; 0 on rank 0. value: int, or int64 array (elementwise).
        Returns the same shape."""

    @abstractmethod
    def allgather(self, array):
        """Every rank's array (first axis may differ in length), in rank order, on every
        rank. Returns a list."""

    @abstractmethod
    def gather(self, array):
        """On rank 0 an iterator over every rank's array in rank order, one in memory at a
        time; elsewhere an empty one.

        Rank 0 must run it to its end.
        """

    @abstractmethod
    def bcast(self, value, root=0):
        """`value` of rank `root`, a small Python object, on every rank."""

    @abstractmethod
    def alltoallv(self, parts):
        """Send parts[r] to rank r. parts: one array per rank, equal type. Returns what each rank
        sent here, in rank order."""

    @abstractmethod
    def barrier(self):
        """Wait for all ranks."""

    @abstractmethod
    def channel(self):
        """A line of its own between the ranks, for a thread beside the work. All ranks must
        call. Returns Channel."""

    @abstractmethod
    def abort(self, code):
        """End all ranks at once with an exit code, for errors that only this rank knows of."""

    @abstractmethod
    def close(self):
        """Leave the communicator, so that a process may then exit with any code without
        being taken for a crash."""

    def before_close(self, action):
        """Have `action` run when the communicator is left. Whoever brings a library that uses the
        ranks too ends it so."""
        self._last = (*self._last, action)

    @contextmanager
    def together(self):
        """A refusal on any rank (bad input, a full disk) is one of all: the first rank's is raised
        everywhere, no rank hangs.

        All ranks must enter the block; nothing inside it may communicate.
        """
        error = None
        try:
            yield
        except Refusal as caught:
            error = type(caught), str(caught), caught.trace or "".join(traceback.format_exception(caught))
        first = int(self.min(self.size if error is None else self.rank))
        if first < self.size:
            some = int(self.sum(int(error is not None))) < self.size
            kind, text, trace = self.bcast(error, root=first)
            shared = kind(f"rank {first} of {self.size} failed: {text}" if some and kind is OwnCode else text)
            shared.shared, shared.trace = True, trace
            raise shared

    def on_first(self, action):
        """Run `action` on rank 0 alone and give its result (a small Python object) to all;
        its refusal too."""
        result = None
        with self.together():
            if self.rank == 0:
                result = action()
        return self.bcast(result)


class SerialComm(Comm):
    """One process: every sum is what it was."""

    backend = "serial"

    def sum(self, array):
        return np.array(array)

    def max(self, array):
        return np.array(array)

    def min(self, array):
        return np.array(array)

    def exscan(self, value):
        return 0 * value

    def allgather(self, array):
        return [np.asarray(array)]

    def gather(self, array):
        return iter([np.asarray(array)])

    def bcast(self, value, root=0):
        return value

    def alltoallv(self, parts):
        return [np.array(parts[0])]

    def barrier(self):
        pass

    def channel(self):
        return Channel()

    def abort(self, code):
        raise SystemExit(code)

    def close(self):
        pass


class Channel:
    """Short words from rank to rank that nobody waits for. This one says nothing: with one process there
    is nobody to talk to."""

    def post(self, text, rank):
        """Send a text to a rank; does not wait for it."""

    def received(self):
        """What has arrived since the last call, the last word of each rank. Returns rank -> text."""
        return {}

    def close(self):
        """Nobody listens any longer."""
