"""Tests of upsnet/storage/files.py."""

from pathlib import Path

import pytest

from upsnet.errors import UpsnetError
from upsnet.storage import make_folder, write_file


@pytest.mark.parametrize("content", ["text ü", b"\x00\xff", ""])
def test_a_file_holds_what_was_written_and_replaces_the_one_before(
    tmp_path: Path, content: str | bytes
) -> None:
    path = tmp_path / "deep" / "file"
    for written in ("before", content):
        write_file(written, path)
    assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert path.stat().st_mode & 0o777 == 0o644
    assert list(path.parent.iterdir()) == [path]


def test_a_failed_write_leaves_nothing_beside(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(UpsnetError, match=r"taken: cannot be written \(Is a directory\)"):
        write_file("text", tmp_path / "taken")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_a_folder_for_results_is_made_with_those_above_it(tmp_path: Path) -> None:
    assert make_folder(tmp_path / "a" / "b").is_dir()
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_a_file_in_the_place_of_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UpsnetError, match="file: is no folder to write results into"):
        make_folder(tmp_path / "file")
