"""The verb `pack`: its options, and what it prints."""

import argparse
import re
import sys

from hpcfilter.base.options import number, path, real, whole

SUMMARY = "make a packed file of a data set"
EXAMPLE = """\
examples:
  hpcfilter pack digits -o digits.h5
  hpcfilter pack photos/ -o photos.h5 --size 64x64
  hpcfilter pack table.csv -o table.h5 --labels price --regression"""
SOURCES = ("digits, .npz, .npy, .h5, .csv, .parquet, idx files, CIFAR's batches, a folder of one of these or "
           "of images by class; several files or a pattern in quotes are shards of one set")


def add(parser):
    """Add the options of `pack` to a parser."""
    parser.add_argument("source", type=path, nargs="+", help=SOURCES)
    parser.add_argument("-o", "--output", type=path, required=True, help="the .h5 file to write")
    parser.add_argument("--replace", action="store_true", help="overwrite the output")

    rows = parser.add_argument_group("rows")
    rows.add_argument("--images", metavar="NAME",
                      help="array or column of the rows, where it is not called images, x, data or the like")
    rows.add_argument("--size", type=_size, metavar="HEIGHTxWIDTH", help="bring image files to this size")
    rows.add_argument("--layout", choices=["HW", "HWC", "none"],
                      help="axes of a row: grey images, colour images with channels last, or neither; "
                           "default: guessed where it is certain")
    rows.add_argument("--first-frame", action="store_true",
                      help="take the first picture of image files that hold several")
    rows.add_argument("--skip-damaged", type=_none_or_more, default=0, metavar="N",
                      help="leave out up to N rows that cannot be read or hold values that are not finite "
                           "(default 0)")
    rows.add_argument("--allow-compression", type=number,
                      metavar="N", help="let a file become up to N times its stored bytes (default 200): "
                                        "for honest data that compress well")

    labels = parser.add_argument_group("labels")
    labels.add_argument("--labels", metavar="NAME", help="array or column of the labels, where it is not "
                                                         "called labels, y, target or the like")
    kinds = labels.add_mutually_exclusive_group()
    kinds.add_argument("--regression", dest="kind", action="store_const", const="numbers",
                       help="keep integer targets as numbers, not as classes")
    kinds.add_argument("--classes", dest="kind", action="store_const", const="classes",
                       help="take floating-point labels as classes")
    kinds.add_argument("--one-hot", dest="kind", action="store_const", const="one-hot",
                       help="take rows of one 1 among zeros as classes")
    labels.add_argument("--renumber", action="store_true",
                        help="number the classes anew, by the labels that occur: for -1 and 1, or gaps")

    split = parser.add_argument_group("training and test rows")
    split.add_argument("--seed", type=whole, default=0, help="of the shuffle (default 0)")
    split.add_argument("--test-fraction", type=real,
                       help="split off for testing when the source has no test rows (default 0.2)")
    split.add_argument("--split", choices=["by-class", "random"],
                       help="how: from each class alike (default), or any rows")
    split.add_argument("--test-split", choices=["test", "val"],
                       help="which rows to test with when the source has both (default test)")


def _size(text):
    if not (match := re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", text)):
        raise argparse.ArgumentTypeError(f"got '{text}', expected HEIGHTxWIDTH, such as 64x64")
    return int(match[1]), int(match[2])


def _none_or_more(text):
    return 0 if text == "0" else number(text)


def run(words, comm):
    """Pack on rank 0, and say what the file holds."""
    from hpcfilter.pack.found import plain_text, table, warnings_of
    from hpcfilter.pack.pack import pack

    def do():
        source = words.source[0] if len(words.source) == 1 else words.source
        return pack(source, words.output, words.seed, words.test_fraction,
                    words.size, layout={"none": ""}.get(words.layout, words.layout),
                    replace=words.replace, kind=words.kind, renumber=words.renumber,
                    by_class={"by-class": True, "random": False}.get(words.split),
                    test_split=words.test_split, images=words.images, labels=words.labels,
                    first_frame=words.first_frame, skip_damaged=words.skip_damaged,
                    allow_compression=words.allow_compression)

    about = comm.on_first(do)
    if comm.rank == 0:
        rows, kind = about["rows"], f"{len(about['classes'])} classes" if about["classes"] else "no classes"
        print(f"{plain_text(words.output)}: {rows['train']} training and {rows['test']} test rows, {kind}\n"
              f"{table(about)}", flush=True)
        for note in warnings_of(about):
            print(f"hpcfilter: warning: {note}", file=sys.stderr, flush=True)
