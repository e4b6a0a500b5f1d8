"""Joules, where a node counts them: Cray's counter of the whole node, or the RAPL counters of the processors.
No counter, no number."""

import time
from pathlib import Path

CRAY = Path("/sys/cray/pm_counters/energy")  # "123456 J 1700000000 us", of the whole node with its GPUs
# intel-rapl:0/energy_uj and so on, one per processor; begin again at max_energy_range_uj
RAPL = Path("/sys/class/powercap")
# seconds between two looks: RAPL begins again after some minutes, and a counter that has
# gone round twice is not seen
PATIENCE = 60


class Joules:
    """The energy of this node. `source`: "node", "processors" (without GPUs and memory), or None
    where nothing counts it."""

    def __init__(self, cray=CRAY, rapl=RAPL):
        """cray, rapl: where the counters are; others in tests."""
        self._cray, self._rapl = cray, rapl
        self._last, self._spent, self._looked = self._read(), 0.0, time.monotonic()
        self.source = None if self._last is None else "node" if "node" in self._last else "processors"

    def watch(self):
        """To be called often; looks at the counters once a minute."""
        if self.source and time.monotonic() > self._looked + PATIENCE:
            self._look()

    def take(self):
        """Joules since the last call, or the start, float; None where nothing counts them."""
        self._look()
        spent, self._spent = self._spent, 0.0
        return spent if self.source else None

    def _look(self):
        now, self._looked = self._read(), time.monotonic()
        if now is None or self._last is None or now.keys() != self._last.keys():
            self.source = None
            return
        for name, (value, most) in now.items():
            self._spent += (value - self._last[name][0]) % most if most else value - self._last[name][0]
        self._last = now

    def _read(self):
        """name -> (joules, where the counter begins again or None); None without counters."""
        try:
            return {"node": (float(self._cray.read_text().split()[0]), None)}
        except (OSError, ValueError, IndexError):
            pass
        found = {}
        for zone in sorted(self._rapl.glob("intel-rapl:?")):  # the packages; their parts are zones below them
            try:
                if (zone / "name").read_text().startswith("package"):  # not psys, which has all of them in it
                    found[zone.name] = tuple(int((zone / name).read_text()) / 1e6
                                             for name in ("energy_uj", "max_energy_range_uj"))
            except (OSError, ValueError):
                continue  # only root may read them on many systems
        return found or None
