"""Writing a per-sample table from the rows of all ranks."""

from hpcfilter.data import write_table
from hpcfilter.errors import InputError


def write(path, rows, columns, about, comm):
    """Write a table of `rows` rows through rank 0. columns: name -> this rank's own rows. All ranks must call.

    Raises InputError on all ranks when the folder is not there.
    """
    def check():
        if not path.parent.is_dir() or path.is_dir():
            raise InputError(f"{path}: cannot be the file to write: {'it is a folder' if path.is_dir() else f'no folder {path.parent}'}")

    comm.on_first(check)
    gathered = {name: (array.dtype, comm.gather(array)) for name, array in columns.items()}
    if comm.rank == 0:
        write_table(path, rows, gathered, about)
    comm.barrier()
