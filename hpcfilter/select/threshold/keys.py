"""float32 scores as uint32 keys in the same order."""

import numpy as np

TOP = np.uint32(0xFFFFFFFF)  # the key of every NaN


def order_keys(scores):
    """uint32 keys in the order of the float32 scores (n,); -0.0 equals 0.0, every NaN gets
    the top key, above +inf."""
    scores = np.asarray(scores, dtype=np.float32)
    bits = (scores + np.float32(0)).view(np.uint32)
    keys = np.where(bits >> 31, ~bits, bits | np.uint32(0x80000000))
    keys[np.isnan(scores)] = TOP
    return keys


def key_score(key):
    """The float32 score of a key: the inverse of `order_keys`."""
    key = np.uint32(key)
    bits = key & np.uint32(0x7FFFFFFF) if key >> 31 else ~key
    return float(np.array(bits, dtype=np.uint32).view(np.float32))
