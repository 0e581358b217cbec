"""Lists of images as people and their editors write them."""

from __future__ import annotations

import pytest

from mmrazor_lite.datasets.image_list import read_list
from mmrazor_lite.errors import UserError

GOOD = [("cat/a 1.jpg", 0), ("dog/b.jpg", 12)]
FORMS = {
    "as it should be": "cat/a 1.jpg 0\ndog/b.jpg 12\n",
    "byte-order mark": "\ufeffcat/a 1.jpg 0\ndog/b.jpg 12\n",
    "Windows line ends": "cat/a 1.jpg 0\r\ndog/b.jpg 12\r\n",
    "old line ends": "cat/a 1.jpg 0\rdog/b.jpg 12",
    "blank lines": "\n\ncat/a 1.jpg 0\n   \n\t\ndog/b.jpg 12\n\n",
    "tabs": "cat/a 1.jpg\t0\ndog/b.jpg \t 12",
    "spaces around": "  cat/a 1.jpg 0 \ndog/b.jpg   12\n",
    "backslashes": "cat\\a 1.jpg 0\ndog\\b.jpg 12\n",
    "a line twice": "cat/a 1.jpg 0\ndog/b.jpg 12\n",
}


def write(path, text: str):
    path.write_bytes(text.encode("utf-8"))
    return path


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_list_reads_the_same(tmp_path, form):
    assert read_list(write(tmp_path / "l.txt", FORMS[form]), tmp_path) == GOOD


def test_a_file_may_have_a_backslash_in_its_name(tmp_path):
    (tmp_path / "a\\b.jpg").touch()
    assert read_list(write(tmp_path / "l.txt", "a\\b.jpg 0\n"), tmp_path) == [("a\\b.jpg", 0)]


def test_names_alone(tmp_path):
    file = write(tmp_path / "l.txt", "\ufeffa 1.jpg\n\nb.jpg\n")
    assert read_list(file, tmp_path, with_label=False) == [("a 1.jpg", None), ("b.jpg", None)]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("b.jpg,1", "line 3 is 'b.jpg,1', expected is an image and its label"),
        ("b.jpg", "line 3 is"),
        ("b.jpg 1.0", "line 3 is"),
        ("b.jpg -1", "line 3 is"),
        ("b.jpg \u00b2", "line 3 is"),
        ("b.jpg one", "line 3 is"),
        ("name label", "line 3 is"),
        ("# a comment", "line 3 is"),
        ("a.jpg 1", "line 3 gives 'a.jpg' label 1, line 1 gave it 0"),
        ("b.jpg 10", "line 3 has label 10, the model has 10 classes, 0 to 9"),
    ],
)
def test_a_line_that_is_none_is_told_with_its_number(tmp_path, line, problem):
    file = write(tmp_path / "l.txt", f"a.jpg 0\n\n{line}\n")
    with pytest.raises(UserError, match="train_dataloader: .*l.txt' ") as error:
        read_list(file, tmp_path, where="train_dataloader", classes=10)
    assert problem in str(error.value)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is empty"),
        (b"\n \n", "is empty"),
        ("a.jpg 0\n".encode("utf-16"), "is UTF-16 text: save it as UTF-8"),
        (b"\xe9.jpg 0\n", "not a text file in UTF-8"),
        (b"a\0.jpg 0\n", "not a text file"),
    ],
)
def test_a_file_that_is_no_list(tmp_path, content, problem):
    (tmp_path / "l.txt").write_bytes(content)
    with pytest.raises(UserError, match=problem):
        read_list(tmp_path / "l.txt", tmp_path)


def test_a_missing_list(tmp_path):
    with pytest.raises(UserError, match="cannot read the list of images .*No such file"):
        read_list(tmp_path / "l.txt", tmp_path)
