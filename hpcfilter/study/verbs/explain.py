"""The verb `explain`: its options."""

from hpcfilter.base.options import shown

SUMMARY = "what a policy, score, model, table, key or machine is; every key of a run config"
EXAMPLE = """\
examples:
  hpcfilter explain policies
  hpcfilter explain filter.kakurenbo
  hpcfilter explain optim.lr
  hpcfilter explain --config > run.toml

It works on a login node: neither torch nor MPI is needed."""


def add(parser):
    """Add the options of `explain` to a parser."""
    parser.add_argument(
        "name",
        nargs="?",
        default="",
        metavar="NAME",
        help="filter.kakurenbo, score.el2n, model.cnn, optim, optim.lr, machine.frontier; "
        "policies, scores, models, exchanges, "
        "passes, machines, tables (default: what there is)",
    )
    parser.add_argument(
        "--config",
        action="store_true",
        help="print a run config with every key, its type, its default and what it means",
    )
    parser.set_defaults(alone=True)


def run(words, comm):
    """Print it, on the first rank where there are several."""
    from hpcfilter.base.errors import InputError
    from hpcfilter.comm import speaks

    if words.config and words.name:
        raise InputError(f"explain: got {words.name} and --config, expected one of them")
    if words.config:
        from hpcfilter.study.explain.config import whole_config as text
    else:
        from hpcfilter.study.explain.page import explain

        def text():
            return explain(words.name)

    if speaks():
        shown(print, text())
