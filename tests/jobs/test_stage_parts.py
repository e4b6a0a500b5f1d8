"""Staging of parts: a node holds the blocks that its ranks read, the rest is holes, which nobody reads or
trains on without a word."""

import re
import shutil

import numpy as np
import pytest
from stages import NODES, PER_NODE, RANKS, beside, flip, staged_part

from hpcfilter.base.errors import InputError
from hpcfilter.base.shard import shard
from hpcfilter.data import open_packed, read_table
from hpcfilter.data.packed import Dataset, Split
from hpcfilter.data.seal import BLOCK, Seal, blocks_with_holes
from hpcfilter.jobs.stage.stage import stage
from hpcfilter.study.report import read_run

RNG = np.random.default_rng(0)


# ---- parts

def test_a_part_holds_what_its_ranks_need_and_no_more(vectors, node):
    dataset, whole = open_packed(vectors), vectors.read_bytes()
    for number in range(NODES):
        blocks = set(dataset.blocks(number * PER_NODE, (number + 1) * PER_NODE, RANKS))
        line = stage(vectors, node, "copy", number, (NODES, PER_NODE))
        count = int(re.search(r"copied (\d+) of", line)[1])
        assert 0.45 < count / len(whole) < 0.65, "half of the rows, and the blocks that both nodes need"
        held = node.read_bytes()
        assert len(held) == len(whole) and node.stat().st_blocks * 512 <= count + BLOCK // 2, (
            "the rest takes no room")
        for block in range(len(dataset.seal.sums)):
            start, stop = dataset.seal.span(block)
            assert held[start:stop] == (whole[start:stop] if block in blocks else bytes(stop - start))
        assert held[dataset.seal.length :] == whole[dataset.seal.length :] and beside(node) == ["packed.h5"]
        assert "kept what was there" in stage(vectors, node, "copy", number, (NODES, PER_NODE))
    assert ": copied " in stage(vectors, node, "copy", 0,
                                (NODES, PER_NODE)), "the part of another node is not kept"
    assert ": copied " in stage(vectors, node), "nor is a part for the whole"
    assert "kept what was there" in stage(vectors, node, "copy", 1,
                                          (NODES, PER_NODE)), "but the whole for a part"


def test_parts_that_cannot_be(vectors, digits, node):
    for number in (-1, 2):
        with pytest.raises(InputError, match=f"part: got node {number} of 2 with 2 ranks, "
                                             "expected one process on each node"):
            stage(vectors, node, "copy", number, (2, 2))
    with pytest.raises(InputError, match="digits.h5: got 2000 ranks for 1438 training samples"):
        stage(digits, node, "copy", 0, (1000, 2))
    for part in ((0, 1), (1, 0)):
        with pytest.raises(InputError, match="part"):
            stage(vectors, node, "copy", 0, part)


def test_a_small_file_has_no_parts(digits, node):
    stage(digits, node, "copy", 1, (2, 2))
    assert node.read_bytes() == digits.read_bytes()


@pytest.mark.parametrize("poisoned", [True, False])
def test_a_part_is_good_for_its_own_ranks_in_shard_order_and_for_nobody_else(vectors, tmp_path, poisoned):
    """Whether the file is read in full or not: where it has holes it is."""
    if poisoned:
        staged_part(vectors, tmp_path)
    else:
        for number in range(NODES):
            stage(vectors, tmp_path / f"node{number}" / "packed.h5", "copy", number, (NODES, PER_NODE))

    def refused(number, order, ranks, verify):
        dataset, found = open_packed(tmp_path / f"node{number}" / "packed.h5"), []
        for rank in range(ranks):
            try:
                dataset.check(rank, ranks, verify, order)
            except InputError as error:
                assert "differ from their checksum" in str(error)
                found.append(rank)
        return found

    # what was written over the holes only reading finds
    for verify in (True, False) if not poisoned else (True,):
        for number in range(NODES):
            assert refused(number, "shard", RANKS, verify) == ([2, 3] if number == 0 else [0, 1])
            assert refused(number, "shard", 1, verify) == [0] and refused(number, "global", 1, verify) == [0]
            assert refused(number, "shard", 3, verify) and refused(number, "shard", 8, verify)
            assert refused(number, "global", RANKS, verify)
            assert refused(number, "shard", 2, verify) == [1 - number], "one rank per node has the same rows"


def test_a_file_without_holes_is_not_read_when_it_need_not_be(vectors, tmp_path):
    path = tmp_path / "p.h5"
    shutil.copyfile(vectors, path)
    assert len(blocks_with_holes(path)) == 0
    flip(path, 3 * BLOCK)
    for order in ("shard", "global"):
        open_packed(path).check(0, 1, False, order)
        with pytest.raises(InputError, match="differ from their checksum"):
            open_packed(path).check(0, 1, True, order)


def test_holes_are_found(tmp_path):
    path = tmp_path / "f"
    with open(path, "wb") as file:
        for block in (1, 2, 5):
            file.seek(block * BLOCK)
            file.write(RNG.bytes(BLOCK))
        file.seek(7 * BLOCK + BLOCK // 2)
        file.write(b"end")
    assert blocks_with_holes(path).tolist() == [0, 3, 4, 6, 7]
    path.write_bytes(b"")
    assert len(blocks_with_holes(path)) == 0


@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 8])
def test_ranks_in_shard_order_read_every_byte_and_what_they_work_with(vectors, tmp_path, ranks):
    path, dataset = tmp_path / "p.h5", open_packed(vectors)
    shutil.copyfile(vectors, path)
    copy = open_packed(path)
    for block in range(len(dataset.seal.sums)):
        flip(path, block * BLOCK + 5)
        found = []
        for rank in range(ranks):
            try:
                copy.check(rank, ranks, True, "shard")
            except InputError:
                found.append(rank)
        flip(path, block * BLOCK + 5)
        assert (found == [rank for rank in range(ranks) if block in dataset.blocks(rank, rank + 1, ranks)]
                and found)


@pytest.mark.parametrize("trial", range(30))
def test_blocks_by_brute_force(tmp_path, trial):
    """Arrays of any size at any place: what `blocks` says is what each byte's owner says."""
    rng = np.random.default_rng(trial)
    path, place, arrays = tmp_path / "f", int(rng.integers(0, 2 * BLOCK)), []
    for _ in ("train", "test"):
        rows = int(rng.integers(8, 3000))
        for row_bytes in (int(rng.choice([64, 3000, 8000])), 8, 8):
            arrays.append((place, rows, row_bytes))
            place += rows * row_bytes + int(rng.choice([0, 0, 64, BLOCK, 3 * BLOCK]))
    length = place + int(rng.integers(0, 100))
    with open(path, "wb") as file:
        file.truncate(length)
    maps = [np.memmap(path, np.uint8, "r", offset, (rows, row)) for offset, rows, row in arrays]
    seal = Seal(np.zeros(-(-length // BLOCK), np.uint32), length, b"")
    dataset = Dataset("f", Split("train", *maps[:3]), Split("test", *maps[3:]), [], "", None, None, "", seal)
    parts = int(rng.integers(1, 9))
    first = int(rng.integers(0, parts))
    last = int(rng.integers(first + 1, parts + 1))
    needed = np.ones(length, bool)
    for offset, rows, row in arrays:
        needed[offset : offset + rows * row] = False
    for offset, rows, row in arrays:
        for rank in range(first, last):
            own = shard(rows, rank, parts)
            needed[offset + own.start * row : offset + own.stop * row] = True
    expected = [block for block in range(len(seal.sums)) if needed[block * BLOCK : (block + 1) * BLOCK].any()]
    assert dataset.blocks(first, last, parts).tolist() == expected
    assert (sorted(set().union(*(dataset.blocks(rank, rank + 1, parts) for rank in range(parts))))
            == list(range(len(seal.sums))))


# ---- training on parts, on real ranks

@pytest.fixture
def on_nodes(tmp_path, program, vectors):
    """on_nodes(ranks, words): the command line on ranks whose nodes have a part each as packed.h5,
    poisoned where it has holes."""
    staged_part(vectors, tmp_path)
    return lambda ranks, *words: program(ranks, "own_folder", tmp_path, PER_NODE, *words)


TABLES = {"train": {"epochs": 2, "global_batch": 480, "deterministic": True},
          "model": {"name": "mlp", "width": None},
          "filter": {"policy": "kakurenbo", "fraction": 0.3, "tau": 0.2}, "data": {"order": "shard"}}


@pytest.mark.nightly
def test_training_on_parts_gives_the_same_bits(tmp_path, vectors, config, hpcfilter, on_nodes):
    """Select, train, refresh, evaluate: none of them looks at a row that its rank does not own."""
    whole = hpcfilter(RANKS, "train", config(vectors, **TABLES), "--run-dir", tmp_path / "whole")
    parts = on_nodes(RANKS, "train", config("packed.h5", **TABLES), "--run-dir", tmp_path / "parts")
    assert whole.returncode == 0 and parts.returncode == 0, parts.stderr
    (_, epochs, end), (_, others, other_end) = read_run(tmp_path / "whole"), read_run(tmp_path / "parts")
    assert epochs[-1]["hidden"] and epochs[-1]["refreshed"]
    assert [row["selection"] for row in epochs] == [row["selection"] for row in others]
    assert end["weights"] == other_end["weights"] and end["accuracy"] == other_end["accuracy"]


def test_scores_from_parts_are_the_same(tmp_path, vectors, config, hpcfilter, on_nodes):
    """In both orders of the run: scoring looks at a rank's own rows only."""
    path = config(vectors,
                  **{**TABLES, "data": {"order": "global"}, "train": {**TABLES["train"], "epochs": 1}})
    assert hpcfilter(1, "train", path, "--run-dir", tmp_path / "run").returncode == 0
    parts = on_nodes(RANKS, "score", tmp_path / "run", "--set", "data.path=packed.h5",
                     "-o", tmp_path / "parts.h5")
    whole = hpcfilter(RANKS, "score", tmp_path / "run", "-o", tmp_path / "whole.h5")
    assert parts.returncode == 0 and whole.returncode == 0, parts.stderr
    tables = [read_table(tmp_path / name)[0]["importance"] for name in ("parts.h5", "whole.h5")]
    assert len(tables[0]) == 2880 and np.array_equal(*tables)


@pytest.mark.parametrize("ranks, order", [(RANKS, "global"), (3, "shard"), (1, "shard")])
def test_training_on_parts_of_another_layout_is_refused(tmp_path, config, on_nodes, ranks, order):
    path = config("packed.h5", **{**TABLES, "data": {"order": order}})
    done = on_nodes(ranks, "train", path, "--run-dir", tmp_path / "run")
    assert (done.returncode == 2 and "packed.h5: bytes" in done.stderr
            and "differ from their checksum" in done.stderr), done.stderr
    assert not (tmp_path / "run").exists()
