"""`pack` reads tables: columns of numbers, names of images, images themselves."""

import io
import json
import sys

import numpy as np
import pytest
from packs import packed
from PIL import Image

from hpcfilter.base.errors import InputError

pa = pytest.importorskip("pyarrow", reason="tables need pyarrow")
csv, parquet = pytest.importorskip("pyarrow.csv"), pytest.importorskip("pyarrow.parquet")

RNG = np.random.default_rng(0)
X, Y = RNG.integers(0, 256, (40, 8, 8), np.uint8), np.arange(40) % 4


TABLE = {"width": [float(number) for number in range(20)], "height": list(range(20)),
         "species": ["b", "a"] * 10}


@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet"])
def test_tables_of_features(tmp_path, ending):
    table = pa.table(TABLE)
    if ending == "parquet":
        parquet.write_table(table, tmp_path / "s.parquet")
    else:
        csv.write_csv(table, tmp_path / f"s.{ending}",
                      csv.WriteOptions(delimiter="," if ending == "csv" else "\t"))
    rows, labels, data, said = packed(tmp_path / f"s.{ending}", tmp_path, labels="species")
    assert rows.tolist() == [[number, number] for number in range(20)] and said == ""
    assert [data.classes[label] for label in labels] == TABLE["species"]
    assert "the last one, species, is taken (--labels NAME)" in packed(tmp_path / f"s.{ending}", tmp_path)[3]


def test_a_column_that_counts_the_rows_is_said(tmp_path):
    (tmp_path / "s.csv").write_text(",a,label\n" + "\n".join(f"{number},{number % 7},{number % 2}"
                                                             for number in range(20)))
    assert "the column '' only counts the rows" in packed(tmp_path / "s.csv", tmp_path)[3]


def test_a_table_without_a_head(tmp_path):
    np.savetxt(tmp_path / "s.csv", np.c_[X.reshape(40, -1), Y], delimiter=",", fmt="%d")
    rows, labels, _, said = packed(tmp_path / "s.csv", tmp_path)
    assert np.array_equal(rows, X.reshape(40, -1)) and np.array_equal(labels, Y) and "is taken" in said
    rows, labels, _, _ = packed(tmp_path / "s.csv", tmp_path, labels="1", regression=True)
    assert np.array_equal(labels, X[:, 0, 0]) and rows.shape == (40, 64)


def test_columns_of_lists(tmp_path):
    parquet.write_table(pa.table({"embedding": X.reshape(40, -1).astype(np.float32).tolist(), "label": Y}),
                        tmp_path / "s.parquet")
    rows, labels, _, _ = packed(tmp_path / "s.parquet", tmp_path)
    assert np.array_equal(rows, X.reshape(40, -1)) and np.array_equal(labels, Y)


@pytest.mark.parametrize("text, message", [
    ("a,b,label\n1,2,0\n3,4,\n", "column label: 1 cells are empty, the first in row 1"),
    ("a,b,label\n1,red,x\n3,blue,y\n",
     "column b: holds string such as 'red', expected numbers; leave the column out"),
    ("a,b,label\n1,2,x\n3,y\n", "unequal numbers of columns"),
    ("a,b,label\n", "holds no rows"),
    ("a,class,label\n1,2,3\n", "the columns class, label may all be the labels; say which"),
    ("label\n1\n", "has no column beside the labels"),
])
def test_tables_that_cannot_be_trained_on_are_refused(tmp_path, text, message):
    (tmp_path / "s.csv").write_text(text)
    with pytest.raises(InputError, match=f"s.csv.*{message}"):
        packed(tmp_path / "s.csv", tmp_path)


@pytest.mark.parametrize("head", ["file,label\n", "image_path,class\n", ""])
def test_a_table_of_names_of_images(tmp_path, head):
    (tmp_path / "pics").mkdir()
    for number, image in enumerate(X):
        Image.fromarray(image).save(tmp_path / "pics" / f"{number}.png")
    lines = [f"pics/{number}.png,{'abcd'[label]}" for number, label in enumerate(Y)]
    (tmp_path / "s.csv").write_text(head + "\n".join(lines))
    rows, labels, data, _ = packed(tmp_path / "s.csv", tmp_path)
    assert (np.array_equal(rows, X) and np.array_equal(labels, Y) and data.classes == list("abcd")
            and data.layout == "HW")
    (tmp_path / "s.csv").write_text((head or "file,label\n") + "\n".join(lines).replace("pics/7", "pics/x7"))
    with pytest.raises(InputError, match="1 of 40 files are not there: .*x7.png"):
        packed(tmp_path / "s.csv", tmp_path)


def test_images_inside_a_table_as_hugging_face_keeps_them(tmp_path):
    (tmp_path / "set").mkdir()
    info = {"info": {"features": {"image": {"_type": "Image"},
                                  "label": {"names": ["cat", "dog", "emu", "fox"], "_type": "ClassLabel"}}}}
    for name, part in (("train-00000-of-00002", slice(15)), ("train-00001-of-00002", slice(15, 30)),
                       ("test-00000-of-00001", slice(30, 40))):
        images = []
        for image in X[part]:
            file = io.BytesIO()
            Image.fromarray(image).save(file, "PNG")
            images.append({"bytes": file.getvalue(), "path": "x.png"})
        images[3] = {"bytes": b"damaged" if name == "train-00001-of-00002" else images[3]["bytes"],
                     "path": "y.png"}
        table = pa.table({"image": images, "label": Y[part]}).replace_schema_metadata(
            {"huggingface": json.dumps(info)})
        parquet.write_table(table, tmp_path / "set" / f"{name}.parquet")
    with pytest.raises(InputError, match="train-00001-of-00002.parquet: image in row 3: "
                                         "cannot identify it as an image.*--skip-damaged 1"):
        packed(tmp_path / "set", tmp_path)
    data, said = packed(tmp_path / "set", tmp_path, skip_damaged=1)[2:]
    assert (np.array_equal(data.test.images, X[30:]) and np.array_equal(data.test.labels, Y[30:])
            and len(data.train) == 29)
    assert (data.classes == ["cat", "dog", "emu", "fox"] and data.layout == "HW"
            and said.startswith("1 damaged rows"))


def test_a_column_may_name_the_split(tmp_path):
    lines = [f"{number},{label},{'train' if number < 30 else 'validation'}" for number, label in enumerate(Y)]
    (tmp_path / "s.csv").write_text("a,label,split\n" + "\n".join(lines))
    data = packed(tmp_path / "s.csv", tmp_path)[2]
    assert data.test.images[:, 0].tolist() == list(range(30, 40)) and len(data.train) == 30


def test_tables_say_what_they_need(tmp_path, monkeypatch):
    (tmp_path / "s.csv").write_text("1,2\n3,4\n")
    monkeypatch.setitem(sys.modules, "pyarrow.csv", None)
    with pytest.raises(InputError, match=r"tables need pyarrow: pip install 'hpcfilter\[tables\]'"):
        packed(tmp_path / "s.csv", tmp_path)
