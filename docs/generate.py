"""The pages of the reference, made from the code.

python docs/generate.py writes them, --check says which are stale.

Nothing is written here that stands elsewhere: keys from the schemas and the comments beside them, policies
and scores from their docstrings, verbs from the parser, the tables of the evidence from benchmarks/results/,
those of the machines from their profiles.
"""

import argparse
import re
import sys
from pathlib import Path

DOCS = Path(__file__).parent
sys.path[:0] = [str(DOCS.parent), str(DOCS)]  # this checkout, whatever else is installed

from made import machines, methods, python, reference  # noqa: E402

from benchmarks import goals  # noqa: E402
from hpcfilter.study.report import read_results  # noqa: E402

NOTE = "<!-- Made by docs/generate.py from the code: do not edit this page. -->\n\n"
FOLDERS = "policies", "reference"  # that hold nothing else
TABLES = "evidence.md", "benchmarks.md", "machines.md"  # pages with tables between two comments


def pages():
    """All pages, without the note on their first line: path below docs/ -> Markdown."""
    return {
        "reference/config.md": reference.config(),
        "reference/cli.md": reference.command_line(),
        "reference/metrics.md": reference.metrics(),
        "reference/run-folder.md": reference.run_folder(),
        "reference/api.md": python.api(),
        "reference/glossary.md": python.glossary(),
        "scores.md": methods.scores(),
        **methods.policies(),
    }


def made():
    """The text of every page that is made, and of those with tables in them: path below docs/ -> text."""
    texts = {path: f"{NOTE}{page.rstrip()}\n" for path, page in pages().items()}
    return texts | {path: with_tables((DOCS / path).read_text()) for path in TABLES if (DOCS / path).exists()}


def with_tables(page):
    """A page with the tables of benchmarks/results/ and of the machines between their comments.

    They are <!-- goals: ... --> and <!-- end of goals -->.
    """
    for name, text in (goals.parts(read_results(goals.RESULTS)) | machines.parts()).items():
        page = re.sub(
            rf"(<!-- {re.escape(name)}: [^>]*-->\n).*?(\n<!-- end of {re.escape(name)} -->)",
            lambda match, text=text: f"{match[1]}{text}{match[2]}",
            page,
            flags=re.S,
        )
    return page


def stale(texts):
    """The paths below docs/ whose text is another, and those that are made no longer. texts: as of `made`."""
    there = {str(path.relative_to(DOCS)) for folder in FOLDERS for path in (DOCS / folder).glob("*.md")}
    now = {path: (DOCS / path).read_text() if (DOCS / path).exists() else None for path in texts}
    return sorted({path for path in texts if texts[path] != now[path]} | there - set(texts))


def main(words=None):
    """Write the pages, or say which are stale. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python docs/generate.py", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 for a stale page")
    check, texts = parser.parse_args(words).check, made()
    for path in (found := stale(texts)):
        done = "written" if path in texts else "removed"
        print(f"docs/{path}: {'stale; run python docs/generate.py' if check else done}")
        if not check and path in texts:
            (DOCS / path).parent.mkdir(exist_ok=True)
            (DOCS / path).write_text(texts[path])
        elif not check:
            (DOCS / path).unlink()
    return 1 if check and found else 0


if __name__ == "__main__":
    sys.exit(main())
