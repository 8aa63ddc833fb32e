"""The demo's folder: made anew where it is the demo's own, never at the cost of a person's file."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from perdure import AlreadyExists, InvalidInput
from perdure.demo.folder import DemoFolder, demo_folder
from perdure.hub.server import HubServer


def make_demo(path: Path) -> DemoFolder:
    """What a demo leaves, as far as the folder cares."""
    with demo_folder(path) as folder:
        folder.keep_token("secret")
        folder.script.write_text("print()\n")
        folder.model.mkdir()
        (folder.model / "README.md").write_text("card\n")
        with HubServer(folder.hub):
            pass
    return folder


def test_a_demo_makes_room_for_the_next(tmp_path: Path) -> None:
    folder = make_demo(tmp_path / "demo")
    (folder.path / "notes.txt").write_text("mine")
    with demo_folder(folder.path) as again:
        assert not any(part.exists() for part in (again.model, again.hub, again.token, again.script))
    assert (folder.path / "notes.txt").read_text() == "mine"


def test_the_token_is_for_its_owner_only(tmp_path: Path) -> None:
    folder = make_demo(tmp_path / "demo")
    assert stat.S_IMODE(folder.token.stat().st_mode) == 0o600
    assert "secret" not in (folder.path / "perdure-demo.json").read_text()


def test_a_folder_of_others_is_refused_untouched(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(AlreadyExists, match="nothing in it was touched"), demo_folder(tmp_path):
        raise AssertionError("not reached")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_file_in_the_way_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "demo"
    path.write_text("mine")
    with pytest.raises(AlreadyExists), demo_folder(path):
        raise AssertionError("not reached")
    assert path.read_text() == "mine"


@pytest.mark.parametrize("name", ["model/README.md", "model/my-notes.md", "hub/repos/pushed-later", "ask.py"])
def test_what_a_person_changed_is_never_deleted(tmp_path: Path, name: str) -> None:
    folder = make_demo(tmp_path / "demo")
    (folder.path / name).write_text("a person's words")
    with pytest.raises(AlreadyExists, match=name), demo_folder(folder.path):
        raise AssertionError("not reached")
    assert (folder.path / name).read_text() == "a person's words"
    assert folder.token.exists()


def test_a_part_that_became_a_link_is_refused(tmp_path: Path) -> None:
    folder = make_demo(tmp_path / "demo")
    folder.model.rename(tmp_path / "elsewhere")
    folder.model.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(AlreadyExists, match="model"), demo_folder(folder.path):
        raise AssertionError("not reached")
    assert (tmp_path / "elsewhere" / "README.md").exists()


def test_looking_at_the_hub_again_is_no_change(tmp_path: Path) -> None:
    folder = make_demo(tmp_path / "demo")
    with HubServer(folder.hub, user="demo", token="another-token-of-mine"):
        with pytest.raises(InvalidInput, match="in use"), demo_folder(folder.path):
            raise AssertionError("not reached")
        assert folder.model.exists()
    with demo_folder(folder.path) as again:
        assert not again.hub.exists()


def test_two_demos_do_not_share_a_folder(tmp_path: Path) -> None:
    with (
        demo_folder(tmp_path / "demo") as folder,
        pytest.raises(InvalidInput, match="in use"),
        demo_folder(folder.path),
    ):
        raise AssertionError("not reached")


def test_an_interrupted_demo_is_recognised(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), demo_folder(tmp_path / "demo") as folder:
        folder.model.mkdir()
        raise KeyboardInterrupt
    with demo_folder(tmp_path / "demo") as again:
        assert not again.model.exists()


def test_what_was_added_to_an_interrupted_demo_stays(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), demo_folder(tmp_path / "demo") as folder:
        raise KeyboardInterrupt
    folder.model.mkdir()
    (folder.model / "notes.md").write_text("mine")
    with pytest.raises(AlreadyExists, match=r"notes\.md"), demo_folder(folder.path):
        raise AssertionError("not reached")


def test_a_marker_that_is_not_ours_makes_no_demo(tmp_path: Path) -> None:
    (tmp_path / "perdure-demo.json").write_text("[not json")
    with pytest.raises(AlreadyExists), demo_folder(tmp_path):
        raise AssertionError("not reached")
    assert (tmp_path / "perdure-demo.json").read_text() == "[not json"


def test_where_nothing_can_be_written_the_message_says_so() -> None:
    with pytest.raises(InvalidInput, match="cannot keep its files"), demo_folder(Path("/proc/demo")):
        raise AssertionError("not reached")
