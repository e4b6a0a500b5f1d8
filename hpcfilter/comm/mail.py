"""Short words between ranks that have torch.distributed but no MPI, through the store where they have met."""

import os
import threading
from collections import deque
from datetime import timedelta

import torch.distributed as dist

from hpcfilter.comm.base import Channel

TICK = 0.2  # seconds between two looks into the letter box
PATIENCE = 2  # seconds that the end waits for a thread that may be stuck


class MailChannel(Channel):
    """Messages by way of the store at MASTER_ADDR and MASTER_PORT. rank: of this process. number: of the
    channel, the same on all ranks.

    A thread of its own carries them, on a connection of its own: when the store is stuck, as with the rank
    that holds it, nobody waits for it but this thread.
    """

    def __init__(self, rank, number):
        self._rank, self._read = rank, 0
        # torchrun may start the ranks again, beside a store that has known the ones before
        self._boxes = f"hpcfilter/mail/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}/{number}"
        self._out, self._in, self._over = deque(), deque(), threading.Event()
        self._thread = threading.Thread(target=self._carry, name="hpcfilter-mail", daemon=True)
        self._thread.start()

    def post(self, text, rank):
        self._out.append((rank, text))

    def received(self):
        texts = {}
        while self._in:
            rank, text = self._in.popleft()
            texts[rank] = text
        return texts

    def close(self):
        self._over.set()
        self._thread.join(PATIENCE)

    def _carry(self):
        try:
            store = dist.TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False,
                                  timeout=timedelta(days=1))
            while not self._over.wait(TICK):
                self._send(store)
                self._fetch(store)
        except RuntimeError:
            pass  # the store has ended, and with it the rank that held it: the others hear of that otherwise

    def _send(self, store):
        while self._out:
            rank, text = self._out.popleft()
            number = store.add(f"{self._boxes}/{rank}", 1)
            store.set(f"{self._boxes}/{rank}/{number}", f"{self._rank} {text}")

    def _fetch(self, store):
        sent = store.add(f"{self._boxes}/{self._rank}", 0)
        # a letter is counted before it is there
        while self._read < sent and store.check([key := f"{self._boxes}/{self._rank}/{self._read + 1}"]):
            rank, text = store.get(key).decode().split(" ", 1)
            self._in.append((int(rank), text))
            store.delete_key(key)
            self._read += 1
