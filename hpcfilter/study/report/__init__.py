"""What runs, scaling studies and benchmarks have to say, from their files alone: tables, pictures,
a page for a proposal."""

from hpcfilter.study.report.choice import report
from hpcfilter.study.report.form import TextTable
from hpcfilter.study.report.page import page
from hpcfilter.study.report.proposal import proposal
from hpcfilter.study.report.results import fits, read_results, results_tables
from hpcfilter.study.report.runs import compare, picture, read_run
from hpcfilter.study.report.scaling import picture as scaling_picture
from hpcfilter.study.report.scaling import tables as scaling_tables
from hpcfilter.study.report.study import find_runs, study

__all__ = ["TextTable", "compare", "find_runs", "fits", "page", "picture", "proposal", "read_results",
           "read_run", "report", "results_tables", "scaling_picture", "scaling_tables", "study"]
