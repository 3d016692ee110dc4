import pytest

from clbook.files import write_whole


def test_a_file_is_written_and_nothing_else_is_left(tmp_path):
    assert write_whole(tmp_path / "a.txt", b"new").read_bytes() == b"new"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_a_failure_leaves_the_old_file_and_no_part(tmp_path, monkeypatch):
    write_whole(tmp_path / "a.txt", b"old")

    def full(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(tmp_path / "a.txt", b"new")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]
