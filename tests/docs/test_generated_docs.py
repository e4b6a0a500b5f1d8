"""The pages that are made from the code: none is stale, and what they say of rows and files is what runs
leave behind."""

import importlib.util
import json
import re
import sys

import pytest
from conftest import CHECKOUT

from hpcfilter.cli import VERBS, main
from hpcfilter.comm import SerialComm
from hpcfilter.record.folder import FILES
from hpcfilter.record.rows import ROWS
from hpcfilter.select.policies import POLICIES
from hpcfilter.select.scores import SCORES
from hpcfilter.study.explain.comments import beside

DOCS = CHECKOUT / "docs"


@pytest.fixture(scope="module")
def generate():
    """docs/generate.py as a module."""
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    module, path = importlib.util.module_from_spec(spec), list(sys.path)
    spec.loader.exec_module(module)
    yield module
    sys.path[:] = path


def test_no_page_is_stale(generate):
    assert generate.stale(generate.made()) == [], "run: python docs/generate.py"


def test_a_stale_page_is_named(generate, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(generate, "DOCS", tmp_path)
    monkeypatch.setattr(generate, "pages", lambda: {"reference/one.md": "# One", "reference/two.md": "# Two"})
    (tmp_path / "reference").mkdir()
    (tmp_path / "reference" / "two.md").write_text("# Another")
    (tmp_path / "reference" / "old.md").write_text("# Old")
    assert generate.main(["--check"]) == 1
    assert re.findall(r"docs/(\S+): stale", capsys.readouterr().out) == [
        "reference/old.md",
        "reference/one.md",
        "reference/two.md",
    ]
    assert generate.main([]) == 0 and generate.main(["--check"]) == 0
    assert {path.name for path in (tmp_path / "reference").iterdir()} == {"one.md", "two.md"}


def test_tables_of_results_stand_between_their_comments(generate):
    page = "before\n<!-- goals: a command -->\nold\n<!-- end of goals -->\nafter\n"
    made = generate.with_tables(page)
    assert made.startswith("before\n<!-- goals: a command -->\n| what | goal ") and made.endswith(
        " |\n<!-- end of goals -->\nafter\n"
    )
    assert generate.with_tables(made) == made


def test_every_policy_score_and_verb_is_on_a_page(generate):
    pages = generate.pages()
    assert {f"policies/{name}.md" for name in POLICIES} <= set(pages)
    assert all(f"\n## {name}\n" in pages["scores.md"] for name in SCORES)
    assert all(f"\n## hpcfilter {name}\n" in pages["reference/cli.md"] for name in VERBS)
    for name in POLICIES:
        for title in ("When to take it", "What it does", "Cost", "State and bias", "Keys", "Facts"):
            assert re.search(rf"\n## {title}\n\n[^#\s]", pages[f"policies/{name}.md"]), (
                f"{name}: nothing under {title}"
            )


def test_what_a_page_says_of_a_run_config_is_taken(generate, tmp_path, digits, capsys):
    pages = generate.pages()
    for name in POLICIES:
        block = re.search(r"```toml\n(.*?)```", pages[f"policies/{name}.md"], re.S)[1]
        (tmp_path / "run.toml").write_text(f'{block}\n[data]\npath = "{digits}"\n')
        code = main(["jobs", "check", str(tmp_path / "run.toml"), "--machine", "local"])
        told = capsys.readouterr().err
        assert code == 0 or (name == "rho" and "filter.irreducible: missing" in told), f"{name}: {told}"


def test_links_between_the_pages_lead_somewhere(generate):
    made = generate.pages()
    for path, page in made.items():
        for target in re.findall(r"\]\(([^)#:\s]*)(?:#[^)]*)?\)", page):
            place = ((DOCS / path).parent / target).resolve() if target else DOCS / path
            known = place.exists() or str(place.relative_to(DOCS.resolve())) in made
            assert known or target == "../reliability.md", (
                f"{path}: {target}"
            )  # written by hand, beside these
        anchors = {
            re.sub(r"[^\w -]", "", head.lower()).strip().replace(" ", "-")
            for head in re.findall(r"^#+ (.*)$", page, re.M)
        }
        assert set(re.findall(r"\]\(#([^)]*)\)", page)) <= anchors, path


@pytest.fixture(scope="module")
def left(tmp_path_factory, digits):
    """Run folders: a finished one with its tables and its page, and one that was told to leave inside of an
    epoch."""
    folder = tmp_path_factory.mktemp("left")
    text = f'[data]\npath = "{digits}"\n[model]\nwidth = 4\n[train]\nepochs = 2\nglobal_batch = 120\n'
    (folder / "run.toml").write_text(text + '[filter]\npolicy = "kakurenbo"\n')
    done, told = folder / "done", folder / "told"
    patch = pytest.MonkeyPatch()
    with patch.context():
        assert main(["train", str(folder / "run.toml"), "--run-dir", str(done)]) == 0
        assert (
            main(["score", str(done)]) == 0
            and main(["select", str(done / "scores.h5"), "--fraction", "0.2"]) == 0
        )
        assert main(["report", str(done)]) == 0
        patch.setenv("HPCFILTER_DEADLINE", "1")
        assert main(["train", str(folder / "run.toml"), "--run-dir", str(told)]) == 0
    patch.undo()
    return done, told


def test_rows_have_the_keys_that_are_told(left):
    seen = {}
    for folder in left:
        for line in (folder / "metrics.jsonl").read_text().splitlines():
            row = json.loads(line)
            seen.setdefault(row.pop("kind"), set()).update(row)
    assert set(seen) == set(ROWS) - {"noise"}  # which takes two ranks
    assert {kind: sorted(keys) for kind, keys in seen.items()} == {
        kind: sorted(ROWS[kind].__annotations__) for kind in seen
    }


def test_the_row_of_the_noise_has_them_too():
    torch = pytest.importorskip("torch")
    from hpcfilter.train.optim.noise import NoiseScale

    taken = NoiseScale(torch.nn.Linear(2, 1), 1).take(SerialComm(), 4)
    assert {"epoch", "batch", *taken} == set(ROWS["noise"].__annotations__)


def test_every_key_of_a_row_says_what_it_is():
    for kind, row in ROWS.items():
        assert set(beside(row)) == set(row.__annotations__), kind


def test_run_folders_hold_what_is_told(left):
    """Of the files that are told all are there, but what takes a scheduler, or a file system without
    flock; and there are no others."""
    assert main(["probe", str(left[0]), "--what", "sharpness", "--samples", "50"]) == 0
    forms = {
        name: re.compile(
            re.escape(name.rstrip("/"))
            .replace(r"\*", "[^/]+")
            .replace("EPOCH", r"\d{5}")
            .replace("STEP", r"\d{6}")
        )
        for name in FILES
    }
    there = {str(path.relative_to(folder)) for folder in left for path in folder.rglob("*")} - {"checkpoints"}
    assert {path for path in there if not any(form.fullmatch(path) for form in forms.values())} == set()
    assert {name for name, form in forms.items() if not any(form.fullmatch(path) for path in there)} == {
        "job.sh",
        "lock.owner",
    }
