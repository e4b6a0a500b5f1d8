"""Files that hpcfilter has not made, given to it as a selection, as scores or as data: what they are is said,
and nothing is called damaged."""

import pickle

import h5py
import numpy as np
import pytest
import torch

from hpcfilter.base.errors import InputError
from hpcfilter.cli import main
from hpcfilter.comm import SerialComm
from hpcfilter.data import open_packed, read_table, write_table
from hpcfilter.filter import Filter


def hdf5(path):
    with h5py.File(path, "w") as file:
        file["keep"] = np.ones(1438)


def hdf5_of_data(path):
    """As many people have them: a data set with attributes of its own."""
    with h5py.File(path, "w") as file:
        file["images"], file["labels"] = np.zeros((10, 4)), np.zeros(10)
        file.attrs["version"] = 2


FOREIGN = {  # name -> (what writes it, what it is called)
    "keep.npy": (lambda path: np.save(path, np.ones(1438, bool)), "a .npy file"),
    "keep.npz": (lambda path: np.savez(path, keep=np.ones(3)), "a zip archive, as .npz files are"),
    "keep.pt": (lambda path: torch.save(torch.ones(3), path), "a zip archive, as .npz files are"),
    "keep.csv": (lambda path: path.write_text("index,keep\n0,1\n1,0\n"), "a text file"),
    "keep.txt": (lambda path: path.write_text("1\n0\n1\n" * 500), "a text file"),
    "keep.parquet": (lambda path: path.write_bytes(b"PAR1" + bytes(400) + b"PAR1"), "a Parquet file"),
    "keep.gz": (lambda path: path.write_bytes(b"\x1f\x8b" + bytes(400)), "a gzip file"),
    "keep.pkl": (lambda path: path.write_bytes(pickle.dumps([1] * 100)), "a pickle of Python"),
    "keep.bin": (lambda path: path.write_bytes(bytes(range(256)) * 9), "a file of another kind"),
    "keep.h5": (hdf5, "an HDF5 file"), "data.h5": (hdf5_of_data, "an HDF5 file"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_foreign_file_is_named_for_what_it_is(tmp_path, name):
    """As a table, and (HDF5 has words of its own there) as data: the kind, what is expected, and the
    way out, in one line."""
    write, kind = FOREIGN[name]
    write(tmp_path / name)
    for read in (read_table, lambda path: Filter(1438, "static", comm=SerialComm(), selection=path)):
        with pytest.raises(InputError) as error:
            read(tmp_path / name)
        message = str(error.value)
        assert (message.startswith(f"{tmp_path / name}: ") and f"is {kind}, " in message
                and "selection.h5 of `hpcfilter select`" in message)
        assert ('given={"keep": mask}' in message and not {"truncated", "seal", "damaged", "signature"}
                & set(message.replace(":", " ").split()))
    with pytest.raises(InputError,
                       match=f"{name}: .*packed file.*; make one with: hpcfilter pack .* -o PACKED.h5"):
        open_packed(tmp_path / name)


def test_a_foreign_file_on_the_command_line(tmp_path, digits, config, capsys):
    np.save(tmp_path / "keep.npy", np.ones(1438, bool))
    static = config(digits, filter={"policy": "static", "selection": str(tmp_path / "keep.npy")})
    for words, message in ((["train", static, "--run-dir", tmp_path / "run"],
                            "keep.npy: cannot read: it is a .npy file, expected a table"),
                           (["train", config(tmp_path / "keep.npy"), "--run-dir", tmp_path / "run"],
                            "keep.npy: cannot read: it is a .npy file"),
                           (["select", tmp_path / "keep.npy", "--fraction", "0.3"],
                            "keep.npy: cannot read: it is a .npy file")):
        assert main(list(map(str, words))) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1 and "Traceback" not in error
    assert not (tmp_path / "run").exists()


@pytest.fixture
def table(tmp_path):
    write_table(tmp_path / "s.h5", 500, {"importance": (np.float32, [np.ones(500, np.float32)])},
                {"data": "any", "score": "loss"})
    return tmp_path / "s.h5"


def test_our_own_file_that_is_cut_short_or_changed_is_still_called_so(table):
    """Also when nothing but the seal is gone, as after a program that opened it for writing."""
    whole = table.read_bytes()
    for length in [*range(1, 12), 100, len(whole) // 2, len(whole) - 24, len(whole) - 1]:
        table.write_bytes(whole[:length])
        with pytest.raises(InputError, match="do not end with a seal: it is truncated or changed"):
            read_table(table)
    table.write_bytes(whole)
    with h5py.File(table, "r+") as file:
        file["importance"][3] = 2
    with pytest.raises(InputError, match="do not end with a seal: it is truncated or changed"):
        read_table(table)
    table.write_bytes(b"x" + whole[1:])
    with pytest.raises(InputError, match="differ from their checksum; the file is damaged"):
        read_table(table)


def test_a_packed_data_set_is_no_table(digits):
    with pytest.raises(InputError,
                       match="digits.h5: is a packed data set, expected a table: the scores.h5 of"):
        read_table(digits)


@pytest.mark.parametrize("keep, message", [
    ("keep.npy", "given: keep: got the path keep.npy, expected the array itself"),
    ([3, 5, 7], r"given: keep: got 3 rows, expected 10; of a list of indices make a mask: "
     r"keep = numpy.zeros\(10, bool\); keep\[indices\] = True"),
    (np.arange(10), "given: keep: got int64 from 0 to 9, expected 0 or 1 for each sample"),
    (np.full(10, np.nan), "given: keep: got float64 from nan to nan"),
])
def test_what_is_no_mask(keep, message):
    with pytest.raises(InputError, match=message):
        Filter(10, "static", comm=SerialComm(), given={"keep": keep})


@pytest.mark.parametrize("weight", [-1.0, np.inf, np.nan])
def test_what_are_no_weights(weight):
    with pytest.raises(InputError, match=f"given: weight: got {weight} to {weight}, expected finite numbers "
                                         "of at least 0"):
        Filter(10, "static", comm=SerialComm(),
               given={"keep": np.ones(10, bool), "weight": np.full(10, weight)})


@pytest.mark.parametrize("kind", [bool, np.uint8, np.int64, float, list])
def test_masks_and_weights_may_be_of_any_numbers(kind):
    mask, weight = (part.tolist() if kind is list else part.astype(kind)
                    for part in (np.arange(10) % 2, np.ones(10, int)))
    of = Filter(10, "static", comm=SerialComm(), given={"keep": mask, "weight": weight})
    assert sorted(of) == [1, 3, 5, 7, 9] and of.selection.weight.dtype == np.float32
