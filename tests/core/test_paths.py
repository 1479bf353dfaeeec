import errno
import os
from pathlib import Path

import pytest

from gossamer import InputError, paths


def test_what_cannot_be_written_is_refused_before_it_is_made(tmp_path):
    (tmp_path / "file").write_text("kept")
    for path in (tmp_path / "file" / "below", tmp_path):
        with pytest.raises(InputError, match=r"cannot be written \(.*name another file"):
            paths.refuse_unwritable(path)
    paths.refuse_unwritable(tmp_path / "new" / "file")
    paths.refuse_unwritable(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "kept" and not any((tmp_path / "new").iterdir())


def test_writing_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file"
    paths.write_atomically(path, b"old")
    with pytest.raises(TypeError):
        paths.write_atomically(path, None)  # pyright: ignore[reportArgumentType]
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_names_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(
        os, "fsync", lambda file: (_ for _ in ()).throw(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    )
    with pytest.raises(OSError, match="No space left") as raised:
        paths.write_atomically(tmp_path / "page.html", b"new")
    assert raised.value.filename == str(tmp_path / "page.html") and not list(tmp_path.iterdir())


def test_caches_lie_where_the_environment_says_now(tmp_path, monkeypatch):
    for home in (tmp_path / "one", tmp_path / "two"):
        monkeypatch.setenv("XDG_CACHE_HOME", str(home))
        assert paths.cache("kernels") == home / "gossamer" / "kernels"
        assert not home.exists()
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert paths.cache() == tmp_path / ".cache" / "gossamer"


def test_without_a_home_a_cache_is_an_error_of_the_system(monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    with pytest.raises(OSError, match="set XDG_CACHE_HOME"):
        paths.cache("kernels")


def test_a_folder_that_is_none_says_what_was_expected(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    for name, state in (("none", "does not exist"), ("file", "is a file"), ("empty", "is empty")):
        with pytest.raises(InputError, match=f"{name} {state}.*give the one of the recordings"):
            paths.folder(tmp_path / name, "the one of the recordings")
    assert paths.folder(tmp_path, "the one of the recordings") == tmp_path
