"""The verb `pack`: its options, and what it prints."""

import argparse
import re


def add(parser):
    """Add the options of `pack` to a parser."""
    parser.add_argument("source", help="digits, .npz, .h5, idx files (or their folder), or a folder of images by class")
    parser.add_argument("-o", "--output", required=True, help="the .h5 file to write")
    parser.add_argument("--seed", type=int, default=0, help="of the shuffle (default 0)")
    parser.add_argument("--test-fraction", type=float, default=0.2, help="split off for testing when the source has no test rows (default 0.2)")
    parser.add_argument("--size", type=_size, metavar="HEIGHTxWIDTH", help="bring the images of a folder to this size")
    parser.add_argument("--regression", action="store_true", help="keep integer targets as numbers, not as classes")
    parser.add_argument("--layout", choices=["HW", "HWC", "none"], help="axes of a row; default: guessed for uint8 images")
    parser.add_argument("--replace", action="store_true", help="overwrite the output")
    parser.set_defaults(run=run)


def _size(text):
    if not (match := re.fullmatch(r"(\d+)x(\d+)", text)):
        raise argparse.ArgumentTypeError(f"got '{text}', expected HEIGHTxWIDTH, such as 64x64")
    return int(match[1]), int(match[2])


def run(words, comm):
    """Pack on rank 0, and say what the file holds."""
    from hpcfilter.pack.pack import pack

    def do():
        layout = {"none": ""}.get(words.layout, words.layout)
        return pack(words.source, words.output, words.seed, words.test_fraction, words.size, words.regression, layout, words.replace)

    about = comm.on_first(do)
    if comm.rank == 0:
        rows, kind = about["rows"], f"{len(about['classes'])} classes" if about["classes"] else "no classes"
        print(f"{words.output}: {rows['train']} training and {rows['test']} test rows, {kind}")
