"""Files are replaced whole, with the mode asked for, and leave nothing else behind."""

import os
import stat

import pytest

from hyperdust.durable import PRIVATE, create_durably, hold, hold_and_load, replace_durably


def mode_of(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_a_file_is_replaced_whole_and_alone(tmp_path):
    path = tmp_path / "notes.json"
    for text in ("long before", "é"):
        replace_durably(path, text)
        assert path.read_text(encoding="utf-8") == text
    assert list(tmp_path.iterdir()) == [path]


def test_a_private_file_is_private_from_the_first_byte_whatever_was_left(tmp_path, monkeypatch):
    path = tmp_path / "key.json"
    left = tmp_path / f"key.{os.getpid()}.new"
    left.write_text("left by a process of this number")
    left.chmod(0o666)
    seen = []
    monkeypatch.setattr(os, "fsync", lambda handle: seen.append(stat.S_IMODE(os.fstat(handle).st_mode)))
    replace_durably(path, "secret", PRIVATE)
    assert seen[0] == mode_of(path) == PRIVATE


def test_the_old_file_stays_where_the_disk_takes_no_new_one(tmp_path, monkeypatch):
    path = tmp_path / "notes.json"
    replace_durably(path, "old")

    def full(_handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        replace_durably(path, "new")
    assert (path.read_text(), list(tmp_path.iterdir())) == ("old", [path])


def test_nothing_is_left_where_the_disk_takes_no_file(tmp_path, monkeypatch):
    path = tmp_path / "key.json"

    def full(_handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        create_durably(path, "half of a key")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    create_durably(path, "key")
    assert path.read_text() == "key"


def test_what_is_there_stays_where_nothing_can_be_opened(tmp_path, monkeypatch):
    path = tmp_path / "key.json"
    path.write_text("first")

    def refuse(*_):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(OSError, match="Too many"):
        create_durably(path, "second")
    monkeypatch.undo()
    assert path.read_text() == "first"


def test_what_is_there_is_not_created_again(tmp_path):
    path = tmp_path / "key.json"
    create_durably(path, "first", PRIVATE)
    with pytest.raises(FileExistsError):
        create_durably(path, "second", PRIVATE)
    assert (path.read_text(), mode_of(path)) == ("first", PRIVATE)


def test_what_is_held_is_held_by_one(tmp_path):
    path = tmp_path / "lock"
    with hold(path), pytest.raises(BlockingIOError):
        hold(path)
    hold(path).close()


def test_a_file_that_cannot_be_read_lets_go_of_its_lock(tmp_path):
    path = tmp_path / "notes.json"

    def damaged(_path):
        raise ValueError("damaged")

    with pytest.raises(ValueError, match="damaged"):
        hold_and_load(path, damaged)
    lock, content = hold_and_load(path, lambda found: found.name)
    assert content == "notes.json"
    with lock, pytest.raises(BlockingIOError):
        hold_and_load(path, damaged)
