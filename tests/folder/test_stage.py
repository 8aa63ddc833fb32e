from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from folders import ONE_FILE, OTHERS, SHARDS, content, put, save

import perdure
from perdure.errors import InvalidInput, NotFound, SaveFailed
from perdure.folder import amend, commit, record, stage


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "out"


def test_a_new_folder(out: Path) -> None:
    save(out, ONE_FILE)
    assert content(out) == ONE_FILE
    assert perdure.verify(out).ok
    assert [path.name for path in out.parent.iterdir()] == ["out"]


@pytest.mark.parametrize(("first", "second"), [(ONE_FILE, SHARDS), (SHARDS, ONE_FILE)])
@pytest.mark.parametrize("others", [{}, OTHERS], ids=["alone", "shared"])
@pytest.mark.parametrize("recorded", [True, False], ids=["manifest", "stock"])
def test_nothing_stale_stays_and_nothing_foreign_goes(
    out: Path, first: dict[str, bytes], second: dict[str, bytes], others: dict[str, bytes], recorded: bool
) -> None:
    save(out, first)
    if not recorded:
        (out / "perdure.json").unlink()
    put(out, others)
    save(out, second)
    # What no manifest names, and no loader takes for weights, may be a person's own: it stays.
    kept = {} if recorded else {name: first[name] for name in first if name.startswith(("tokenizer", "additional"))}
    assert content(out) == {**kept, **others, **second}
    assert perdure.verify(out).ok or not recorded
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_a_folder_of_our_own_is_exchanged_in_one_step(out: Path) -> None:
    save(out, ONE_FILE)
    before = out.stat().st_ino
    save(out, SHARDS)
    assert out.stat().st_ino != before


def test_a_shared_folder_stays_the_same_folder(out: Path) -> None:
    save(out, ONE_FILE)
    put(out, OTHERS)
    before = out.stat().st_ino
    save(out, SHARDS)
    assert out.stat().st_ino == before


def test_the_mode_of_the_old_folder_is_kept(out: Path) -> None:
    save(out, ONE_FILE)
    out.chmod(0o750)
    save(out, SHARDS)
    assert out.stat().st_mode & 0o777 == 0o750


def test_the_current_folder_is_not_pulled_away(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(out, ONE_FILE)
    monkeypatch.chdir(out)
    save(Path(), SHARDS)
    assert content(Path.cwd()) == SHARDS


def test_a_link_to_a_folder_stays_a_link(out: Path) -> None:
    save(out, ONE_FILE)
    link = out.parent / "link"
    link.symlink_to(out)
    save(link, SHARDS)
    assert link.is_symlink()
    assert content(out) == SHARDS


def test_a_link_in_the_folder_is_replaced_and_not_followed(out: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_bytes(b"precious")
    save(out, ONE_FILE)
    put(out, OTHERS)
    (out / "model.safetensors").unlink()
    (out / "model.safetensors").symlink_to(precious)
    save(out, {**ONE_FILE, "model.safetensors": b"new"})
    assert precious.read_bytes() == b"precious"
    assert (out / "model.safetensors").read_bytes() == b"new"
    assert not (out / "model.safetensors").is_symlink()


def test_an_error_before_the_commit_changes_nothing(out: Path) -> None:
    save(out, ONE_FILE)
    with pytest.raises(ZeroDivisionError), stage(out) as staged:
        staged.write("config.json", b"new")
        raise ZeroDivisionError
    assert content(out) == ONE_FILE
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_an_error_of_ours_keeps_its_own_words(out: Path) -> None:
    with pytest.raises(NotFound, match="no such thing"), stage(out):
        raise NotFound("There is no such thing.")


def test_a_folder_in_the_way_of_a_file(out: Path) -> None:
    put(out, {"model.safetensors/notes": b"mine"})
    with pytest.raises(InvalidInput, match="nothing was replaced"):
        save(out, ONE_FILE)
    assert content(out) == {"model.safetensors/notes": b"mine"}


def test_a_file_where_the_folder_should_be(out: Path) -> None:
    put(out.parent, {"out": b"a file"})
    with pytest.raises(InvalidInput, match="not a folder"):
        save(out, ONE_FILE)
    assert out.read_bytes() == b"a file"


@pytest.mark.parametrize("place", ["/", "/proc/perdure", "a\0b"])
def test_impossible_places(place: str) -> None:
    with pytest.raises((InvalidInput, SaveFailed)):
        save(Path(place), ONE_FILE)


def test_without_exchange_files_are_replaced_one_by_one(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(out, ONE_FILE)
    monkeypatch.setattr("perdure.folder.commit.exchange", lambda one, other: False)  # a filesystem that has none
    save(out, SHARDS)
    assert content(out) == SHARDS
    assert perdure.verify(out).ok


def test_what_appears_in_the_moment_of_the_exchange_is_carried_over(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(out, ONE_FILE)
    real = commit.exchange

    def late(new: Path, target: Path) -> bool:
        put(target, {"notes.md": b"just in time", "sub/more.txt": b"x"})
        return bool(real(new, target))

    monkeypatch.setattr("perdure.folder.commit.exchange", late)
    save(out, SHARDS)
    assert content(out) == {**SHARDS, "notes.md": b"just in time", "sub/more.txt": b"x"}


def test_an_unmovable_file_undoes_the_replacement(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(out, ONE_FILE)
    put(out, OTHERS)
    before = content(out)
    real = Path.rename

    def rename(source: Path, target: Path) -> Path:
        if source.name == "model-00002-of-00002.safetensors":
            raise PermissionError(1, "Operation not permitted")
        return real(source, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(SaveFailed, match="is whole"):
        save(out, SHARDS)
    monkeypatch.undo()
    assert content(out) == before
    assert perdure.verify(out).ok
    save(out, SHARDS)
    assert content(out) == {**OTHERS, **SHARDS}


def test_amend_adds_and_replaces_and_keeps_the_manifest_true(out: Path) -> None:
    save(out, ONE_FILE)
    put(out, OTHERS)
    amend(out, {"README.md": b"# one"})
    amend(out, {"README.md": b"# two", "results/all.json": b"{}"})
    assert content(out) == {**ONE_FILE, **OTHERS, "README.md": b"# two", "results/all.json": b"{}"}
    assert perdure.verify(out).ok


def test_amend_needs_a_saved_folder_and_stays_in_it(out: Path) -> None:
    with pytest.raises(NotFound):
        amend(out, {"README.md": b""})
    save(out, ONE_FILE)
    with pytest.raises(InvalidInput, match="nothing was written"):
        amend(out, {"ok.md": b"", "../README.md": b""})
    for name in ("perdure.json", "model.safetensors", "named/adapter_model.safetensors"):
        with pytest.raises(InvalidInput, match=r"[Nn]othing was written"):
            amend(out, {name: b"x"})
    assert content(out) == ONE_FILE


def test_record_takes_an_edit_into_the_manifest(out: Path) -> None:
    save(out, {**ONE_FILE, "README.md": b"# generated"})
    (out / "README.md").write_bytes(b"# by hand")
    assert [problem.path for problem in perdure.verify(out).problems] == ["README.md"]
    record(out, ["README.md"])
    assert perdure.verify(out).ok
    with pytest.raises(InvalidInput, match="damage"):
        record(out, ["model.safetensors"])
    with pytest.raises(NotFound):
        record(out, ["missing.md"])
    (out / "notes.md").write_bytes(b"mine")
    with pytest.raises(NotFound, match="it is yours"):
        record(out, ["notes.md"])


def test_a_persons_words_outlive_the_next_save(out: Path) -> None:
    save(out, {**ONE_FILE, "README.md": b"# generated", "results.json": b"{}", "old.txt": b"generated"})
    put(out, {"README.md": b"# by hand", "results.json": b'{"mine": 1}', "notes.md": b"mine"})
    save(out, SHARDS)
    assert content(out) == {**SHARDS, "README.md": b"# by hand", "results.json": b'{"mine": 1}', "notes.md": b"mine"}
    save(out, {**ONE_FILE, "README.md": b"# brought"})
    assert content(out)["README.md"] == b"# brought"


def test_a_persons_folder_with_a_name_like_ours_stays(out: Path) -> None:
    save(out, ONE_FILE)
    put(out, {".perdure-notes/todo.md": b"mine"})
    put(out.parent, {".out.perdure-backup/model.safetensors": b"mine"})
    save(out, SHARDS)
    assert (out / ".perdure-notes/todo.md").read_bytes() == b"mine"
    assert (out.parent / ".out.perdure-backup/model.safetensors").read_bytes() == b"mine"


def test_the_group_is_kept(out: Path) -> None:
    groups = [group for group in (*os.getgroups(), *((1234,) if os.geteuid() == 0 else ())) if group != os.getegid()]
    if not groups:
        pytest.skip("waits for a user who belongs to two groups")
    save(out, ONE_FILE)
    os.chown(out, -1, groups[0])
    out.chmod(0o2775)
    save(out, SHARDS)
    assert {path.stat().st_gid for path in (out, *out.rglob("*"))} == {groups[0]}
    assert out.stat().st_mode & 0o7777 == 0o2775


@pytest.mark.parametrize("name", ["perdure.json", "config.json"])
def test_pipes_and_devices_are_not_waited_for(out: Path, name: str) -> None:
    save(out, ONE_FILE)
    for make in (os.mkfifo, lambda path: path.symlink_to("/dev/zero"), lambda path: path.mkdir()):
        (out / name).unlink()
        make(out / name)
        try:
            assert not perdure.verify(out).ok
        except perdure.Corrupt as error:
            assert name in str(error)
        if (out / name).is_dir():
            (out / name).rmdir()
            (out / name).touch()


def test_savers_at_once_leave_one_whole_model(out: Path) -> None:
    code = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1]); from folders import save\n"
        "name = sys.argv[3]; files = {'model.safetensors': name.encode() * 9, f'only-{name}': b'x'}\n"
        "for n in range(15): save(Path(sys.argv[2]), files)"
    )
    for others in ({}, OTHERS):
        put(out, others)
        savers = [
            subprocess.Popen([sys.executable, "-c", code, str(Path(__file__).parent), str(out), name]) for name in "abc"
        ]
        assert [saver.wait(60) for saver in savers] == [0, 0, 0]
        found = perdure.verify(out)
        assert found.ok, found.problems
        assert len([path for path in out.iterdir() if path.name.startswith("only-")]) == 1
        assert not [path for path in out.iterdir() if path.name.startswith(".")]
        assert [path.name for path in out.parent.iterdir()] == ["out"]


@pytest.mark.parametrize("others", [{}, OTHERS], ids=["alone", "shared"])
def test_verify_beside_a_saver_never_mixes_two_saves(out: Path, others: dict[str, bytes]) -> None:
    save(out, ONE_FILE)
    put(out, others)
    code = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1])\n"
        "from folders import ONE_FILE, SHARDS, save\n"
        "while True: save(Path(sys.argv[2]), SHARDS); save(Path(sys.argv[2]), ONE_FILE)"
    )
    saver = subprocess.Popen([sys.executable, "-c", code, str(Path(__file__).parent), str(out)])
    try:
        for _ in range(150):
            assert perdure.verify(out).ok
            assert saver.poll() is None
    finally:
        saver.kill()
        saver.wait()
