"""What a run and its steps take, in seconds."""

import time
from contextlib import contextmanager


class Stopwatch:
    """Seconds by phase: `with watch("train"): ...`; `seconds` is name -> float. A phase inside another one
    is not counted twice."""

    def __init__(self, *phases, spent=None):
        """spent: name -> seconds that have been spent before, by a part of the same work."""
        self.seconds = {**dict.fromkeys(phases, 0.0), **(spent or {})}
        self._start, self._inner = time.perf_counter() - sum(self.seconds.values()), 0.0
        self._open = {}  # phase -> since when it is open

    @contextmanager
    def __call__(self, phase):
        start, outer, self._inner = time.perf_counter(), self._inner, 0.0
        self._open[phase] = start
        try:
            yield
        finally:
            whole = time.perf_counter() - self._open.pop(phase)
            self.seconds[phase] += whole - self._inner
            self._inner = outer + whole

    def so_far(self):
        """The seconds by phase, with those of the outermost phase that is still open."""
        spent = sum(self.seconds.values())
        return {**self.seconds,
                **{phase: self.seconds[phase] + self.total() - spent for phase in list(self._open)[:1]}}

    def total(self):
        """Seconds since the watch was made, and those spent before."""
        return time.perf_counter() - self._start


class Laps:
    """What the parts of a training step take: `lap("forward")` is the time since the last call. Cheap
    enough for every step."""

    def __init__(self, *parts, wait=None):
        """wait: function that returns when the device has done what it was told to; without it, times on a
        GPU are those of the telling."""
        self._parts, self._wait = parts, wait
        self.reset()

    def reset(self):
        """Begin to count anew."""
        self.seconds = dict.fromkeys(self._parts, 0.0)
        self.start()

    def start(self):
        """Begin to count here; what was since the last lap is in no part."""
        self._last = time.perf_counter()

    def __call__(self, part):
        if self._wait:
            self._wait()
        now = time.perf_counter()
        self.seconds[part] += now - self._last
        self._last = now
