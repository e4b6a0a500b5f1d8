"""Gradients as 16 bits on the wire, added up in 32."""

import torch
import torch.distributed as dist

_gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor  # of torch 2.13, and before
TYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}


class SixteenBits:
    """A communication hook of DistributedDataParallel: each rank gets one part of the bucket from all ranks
    as 16 bits, takes their mean in float32, and gives it to all as 16 bits.

    As many bytes travel as in a ring-allreduce of 16 bits, whose sums would be rounded at every rank they
    pass. group: process group of the gradients. compression: of TYPES.
    """

    def __init__(self, group, compression):
        self._group, self._type = group, TYPES[compression]
        self._stream = None  # on a GPU: beside the backward pass

    def send(self, _, bucket):
        """The hook. bucket: torch.distributed.GradBucket. Returns Future of its mean."""
        flat = bucket.buffer()
        if flat.device.type != "cuda":  # a Future waits for CUDA's streams alone
            result = torch.futures.Future()
            result.set_result(self._mean(flat))
            return result
        self._stream = self._stream or torch.cuda.Stream(flat.device)
        self._stream.wait_stream(torch.cuda.current_stream(flat.device))
        result = torch.futures.Future(devices=[flat.device])
        with torch.cuda.stream(self._stream):  # which the one who takes the result waits for
            result.set_result(self._mean(flat))
        return result

    def _mean(self, flat):
        """The mean of a bucket over the ranks, in place. flat: float32 (n,)."""
        ranks, count = self._group.size(), flat.numel()
        part = -(-count // ranks)
        sent = torch.zeros(ranks * part, dtype=self._type, device=flat.device)
        sent[:count] = flat
        received = torch.empty_like(sent)
        # as bytes: not every library knows both types
        dist.all_to_all_single(received.view(torch.uint8), sent.view(torch.uint8), group=self._group)
        mine = received.view(ranks, part).float().mean(0).to(self._type)
        _gather(sent.view(torch.uint8), mine.view(torch.uint8), group=self._group)
        return flat.copy_(sent[:count])
