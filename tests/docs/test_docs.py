"""The pages that people read: short sentences, links and anchors that lead somewhere, code that compiles,
configs and commands that are taken."""

import re
import shlex
import string
import subprocess
import sys
import tomllib

import pytest
import tomli_w
from conftest import CHECKOUT
from law_cases import CASES
from laws import LAWS
from pages_of_docs import PAGES, anchors, code_blocks, links, sentences, words_in

from benchmarks.__main__ import CASES as BENCHMARKS
from hpcfilter.base.errors import InputError
from hpcfilter.cli import parser
from hpcfilter.jobs.machine import load_machine
from hpcfilter.train.config import load

MOST_WORDS = 20  # of a sentence
MOST_LINES = 150  # of the README
BLOCKS = [(page, number, *block) for page in PAGES for number, block in enumerate(code_blocks(page), 1)]
VALUES = {"PATH": "x", "N": "4", "RUN": "runs/first"}
OPTIONAL = re.compile(r"\s\[[^\]]*\]|\s\.\.\.")  # [--resume], ...


def blocks(*languages):
    """The code blocks of these languages, as parameters of a test."""
    return pytest.mark.parametrize("text",
                                   [pytest.param(text, id=f"{name(page)}-{number}")
                                    for page, number, language, text in BLOCKS if language in languages])


def name(page):
    return str(page.relative_to(CHECKOUT))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_sentences_are_short(page):
    assert [f"{count} words: {text}"
            for text in sentences(page) if (count := words_in(text)) > MOST_WORDS] == []


def test_the_readme_is_short():
    assert len((CHECKOUT / "README.md").read_text().splitlines()) <= MOST_LINES


def test_the_readme_says_what_the_evidence_says():
    """Its number for, and its number against."""
    tables, said = (CHECKOUT / "docs" / "evidence.md").read_text(), (CHECKOUT / "README.md").read_text()
    clean, wrong = tables.partition("### clean, batch 256")[2], tables.partition("### noise_40")[2]
    row = r"two-sided 0.5 .*?\| \+([\d.]+) ± ([\d.]+) .*?\| ([\d.]+) % \| ([\d.]+) % \|"
    gain, spread, passes, compute = re.search(row, wrong).groups()
    loss = re.search(r"InfoBatch 0.5 .*?\| -([\d.]+ ± [\d.]+) ", clean)[1]
    assert (f"rises {float(gain):.1f} ± {float(spread):.1f} points at {float(passes):.0f} % of "
            "the passes" in said)
    assert f"{float(compute):.0f} % of the compute" in said
    assert f"half the passes cost {loss} points" in said


def test_the_table_of_laws_has_every_case_and_every_law():
    page = (CHECKOUT / "docs" / "how-it-works.md").read_text()
    assert f"| policy | {' | '.join(LAWS)} |" in page
    rows = [line.strip("|").split(" | ") for line in page.splitlines() if line.count("| yes ") > 3]
    assert [row[0].strip(" `") for row in rows] == list(CASES)
    assert ({cell.strip() for row in rows for cell in row[1:]} == {"yes", "-"}
            and {len(row) for row in rows} == {1 + len(LAWS)})


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page):
    lost = []
    for target in links(page):
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists():
            lost.append(target)
        elif anchor and anchor not in anchors(file):
            lost.append(target)
    assert lost == []


def test_every_page_is_in_the_table_of_contents():
    listed = (CHECKOUT / "docs" / "index.md").read_text()
    for page in (page.relative_to(CHECKOUT / "docs")
                 for page in PAGES if page.is_relative_to(CHECKOUT / "docs")):
        assert page.stem == "index" or re.search(rf"^{page.with_suffix('')}$", listed, re.MULTILINE), page


@blocks("python")
def test_python_compiles(text):
    compile(text, "block", "exec")


@pytest.fixture
def a_script():
    """What a training script has when a block of the pages begins: a data set, a model, an
    optimiser. Names -> values."""
    torch = pytest.importorskip("torch")
    data = torch.utils.data
    model = torch.nn.Linear(4, 3)
    return {"__name__": "block",
            "EPOCHS": 3, "DataLoader": data.DataLoader, "cross_entropy": torch.nn.functional.cross_entropy,
            "train": data.TensorDataset(torch.randn(16, 4), torch.arange(16) % 3), "model": model,
            "optimizer": torch.optim.SGD(model.parameters(), lr=0.1)}


@blocks("python run")
def test_python_that_says_so_runs(text, a_script, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    exec(compile(text, "block", "exec"), a_script)


@blocks("toml")
def test_toml_is_a_run_config_or_a_machine(text, tmp_path, monkeypatch):
    """A run config that shows some tables only gets a path of its data, too. A machine's
    profile says `scheduler`, or which other it is like."""
    found, path = tomllib.loads(text), tmp_path / "file.toml"
    if {"scheduler", "like"} & set(found):
        path.write_text(text)
        monkeypatch.setenv("HPCFILTER_MACHINES", str(tmp_path))
        load_machine("file")
    else:
        found.setdefault("data", {}).setdefault("path", "data.h5")
        path.write_text(tomli_w.dumps(found))
        load(path)


COMMANDS = [pytest.param(line, id=f"{name(page)}-{number}: {line[:60]}")
            for page, number, language, text in BLOCKS
            if language in ("", "sh", "text") for line in re.sub(r"\\\n\s*", " ", text).splitlines()
            if re.match(r"(\$ )?(mpirun .*|srun .*)?hpcfilter [a-z]", line)]


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_are_taken(line):
    words = shlex.split(OPTIONAL.sub("", line.split("   #")[0].split(" #")[0]))
    words = [VALUES.get(word.strip(string.punctuation), word)
             for word in words[words.index("hpcfilter") + 1:]]
    try:
        parser().parse_args(words)
    except (InputError, SystemExit) as error:
        raise AssertionError(f"{line}: {error}") from None


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_benchmarks_and_files_that_are_named_are_there(page):
    text = page.read_text()
    assert set(re.findall(r"python -m benchmarks ([a-z]+)", text)) <= set(BENCHMARKS)
    named = re.findall(r"(?<![\w/.])(?:benchmarks|examples|hpcfilter|jobs|tests)/[\w/]+\.\w+", text)
    assert [path for path in named if not (CHECKOUT / path).exists()] == []


@blocks("python", "python run", "toml", "sh", "text", "")
def test_nothing_in_a_block_is_wider_than_a_page(text):
    assert [line for line in text.splitlines() if len(line) > 130] == []


def test_the_site_builds_without_a_warning(tmp_path):
    pytest.importorskip("sphinx", reason="no Sphinx: pip install '.[docs]'")
    words = ["-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", CHECKOUT / "docs", tmp_path / "site"]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site" / "index.html").exists()


def test_the_checker_sees_long_sentences_and_lost_links(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# A title\n\nShort. " + "word " * 21 + "end.\n\n| a | b |\n|---|---|\n| x | y |\n\n```\n"
                    + "code " * 30 + "\n```\n- see [this](other.md#there)\n\n"
                    "<!-- x: python -m benchmarks goals -->\n" + "word " * 30 + "\n<!-- end of x -->\n")
    assert [words_in(text) for text in sentences(page)] == [2, 1, 22, 1, 1, 1, 1, 2]
    assert links(page) == ["other.md#there"] and anchors(page) == {"a-title"}
