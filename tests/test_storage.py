"""Tests of upsnet/storage.py."""

from pathlib import Path

import pytest

from upsnet.storage import write_file


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
    with pytest.raises(OSError, match="taken"):
        write_file("text", tmp_path / "taken")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]
