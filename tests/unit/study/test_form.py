"""Tables as text, Markdown and CSV."""

import csv

from hpcfilter.study.report import (
    TextTable,
)
from hpcfilter.study.report.form import Interval, Share, number, word


def test_forms():
    table = TextTable("T", ["name", "x"], [["a|b<i>", Interval(1234.5678, 2.0)], ["c,d", None]], ["note"])
    assert "a\\|b&lt;i>" in table.markdown() and table.markdown().startswith("## T")
    assert list(csv.reader(table.csv().splitlines())) == [["table", "name", "x", "x ±"],
                                                          ["T", "a|b<i>", "1234.5678", "2.0"],
                                                          ["T", "c,d", "", ""]]
    assert table.text().splitlines()[2] == "a|b<i>  1,235 ± 2"
    assert [number(value) for value in (None, 0, 0.0, 3, 1234567.8, 0.012345, 1e-7, 5e13, -2.5)] == \
        ["-", "0", "0", "3", "1,234,568", "0.0123", "1.00e-07", "5.00e+13", "-2.5"]
    assert [word(cell) for cell in ("a", Interval(10.0, None), Share(0.25))] == ["a", "10", "25.00 %"]
