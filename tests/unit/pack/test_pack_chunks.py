"""Chunks of foreign HDF5 files, as pack decodes them."""

import h5py
import numpy as np

from hpcfilter.data.hdf5 import find_array, open_hdf5
from hpcfilter.pack.chunked import Chunked

RNG = np.random.default_rng(0)


def test_a_chunk_is_decoded_once_by_slices_in_a_row(tmp_path, monkeypatch):
    with h5py.File(tmp_path / "c.h5", "w") as file:
        data = Chunked(file.create_dataset("x", data=np.arange(100), chunks=(64,), compression="gzip"))
        decoded, decode = [], Chunked._decode
        monkeypatch.setattr(Chunked, "_decode",
                            lambda self, corner: decoded.append(corner) or decode(self, corner))
        assert np.array_equal(np.concatenate([data[start : start + 7] for start in range(0, 100, 7)]),
                              np.arange(100))
        assert decoded == [(0,), (64,)]


def test_chunks_are_decoded_as_the_library_does(tmp_path):
    cases = (("u1", (50, 9, 5), (16, 4, 3)), (">i2", (50,), (9,)), ("?", (50, 2), (50, 1)),
             ("<f4", (5, 4), (8, 4)))
    for number, (dtype, shape, chunks) in enumerate(cases):
        values = RNG.integers(0, 3, shape).astype(dtype)
        for filters in ({}, {"compression": "gzip"}, {"compression": "lzf"}, {"shuffle": True},
                        {"fletcher32": True}, {"compression": "gzip", "shuffle": True, "fletcher32": True},
                        {"compression": "lzf", "shuffle": True, "fletcher32": True}):
            with h5py.File(tmp_path / "c.h5", "w", libver=("earliest", "v110")[number % 2]) as file:
                file.create_dataset("x", data=values, chunks=chunks, maxshape=(None, *shape[1:]), **filters)
            with open_hdf5(tmp_path / "c.h5") as file:
                array = Chunked(find_array(file, "x"))
                assert array.dtype == values.dtype and np.array_equal(array[:], values)
                for start, stop in ((0, 1), (3, 4), (2, 5), (5, 5)):
                    assert np.array_equal(array[start:stop], values[start:stop])
