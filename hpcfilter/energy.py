"""Joules, where a node counts them: Cray's counter of the whole node, or the RAPL counters of the processors. No counter, no number."""

from pathlib import Path

CRAY = Path("/sys/cray/pm_counters/energy")  # "123456 J 1700000000 us", of the whole node with its GPUs
RAPL = Path("/sys/class/powercap")  # intel-rapl:0/energy_uj and so on, one per processor; begin again at max_energy_range_uj


class Joules:
    """The energy of this node since the meter was made."""

    def __init__(self, cray=CRAY, rapl=RAPL):
        """cray, rapl: where the counters are; others in tests."""
        self._cray, self._rapl = cray, rapl
        self._last, self._spent = self._read(), 0.0

    def spent(self):
        """Joules so far, float; None where nothing counts them. To be asked more often than a counter overflows (some minutes)."""
        now = self._read()
        if now is None or self._last is None or now.keys() != self._last.keys():
            return None
        for name, (value, most) in now.items():
            self._spent += (value - self._last[name][0]) % most if most else value - self._last[name][0]
        self._last = now
        return self._spent

    def _read(self):
        """name -> (joules, where the counter begins again or None); None without counters."""
        try:
            return {"node": (float(self._cray.read_text().split()[0]), None)}
        except (OSError, ValueError, IndexError):
            pass
        found = {}
        for zone in sorted(self._rapl.glob("intel-rapl:?")):  # the packages; their parts are zones below them
            try:
                found[zone.name] = tuple(int((zone / name).read_text()) / 1e6 for name in ("energy_uj", "max_energy_range_uj"))
            except (OSError, ValueError):
                continue  # only root may read them on many systems
        return found or None
