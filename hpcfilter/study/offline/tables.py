"""Writing a per-sample table from the rows of all ranks."""

from hpcfilter.base.errors import Failure
from hpcfilter.base.paths import check_output, trouble
from hpcfilter.data import write_table
from hpcfilter.data.table import is_table


def write(path, rows, columns, about, comm):
    """Write a table of `rows` rows through rank 0. columns: name -> this rank's own rows.
    All ranks must call.

    Raises InputError on all ranks when the folder is not there, Failure on rank 0 when the disk refuses; what
    stood at `path` is then untouched.
    """
    comm.on_first(lambda: check_output(path, mine=is_table, what="table of hpcfilter"))
    gathered = {name: (array.dtype, comm.gather(array)) for name, array in columns.items()}
    if comm.rank == 0:
        try:
            write_table(path, rows, gathered, about)
        except OSError as error:
            raise Failure(f"{path}: cannot be written: {trouble(error)}") from error
    comm.barrier()
