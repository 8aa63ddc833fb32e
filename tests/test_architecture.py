"""The house stands as ARCHITECTURE.md draws it: floors, no cycles, optional libraries in their own rooms."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

import perdure

SOURCE = Path(perdure.__file__).parent
ROOT = SOURCE.parents[1]

# room → rooms it may import. `errors` and `_optional` stand below all; the root names things and is imported by none
# but the command line and the demo.
ARROWS: dict[str, set[str]] = {
    "io": set(),
    "format": {"io"},
    "folder": {"format", "io"},
    "checks": {"folder", "format", "io"},
    "card": {"folder", "format", "io"},
    "model": {"folder", "format", "io"},
    "hub": {"format", "io"},
    "state": {"distributed", "format", "io"},
    "distributed": set(),
    "checkpoint": {"state", "distributed", "model", "publishing", "folder", "format", "io"},
    "publishing": {"checks", "card", "folder", "format", "io"},
    "integrations": {
        "checkpoint",
        "state",
        "distributed",
        "model",
        "card",
        "checks",
        "publishing",
        "folder",
        "format",
        "io",
    },
    "demo": {"<root>", "hub"},
    "cli": {"<root>", "hub", "demo"},
}

# library → the only places that may import it
OPTIONAL: dict[str, tuple[str, ...]] = {
    "torch": ("model", "state", "distributed", "checkpoint", "integrations", "demo"),
    "transformers": ("model", "integrations", "demo"),
    "trl": ("integrations", "demo"),
    "datasets": ("integrations", "demo"),
    "tokenizers": ("demo",),
    "accelerate": ("integrations",),
    "peft": ("model/adapter.py",),
    "huggingface_hub": tuple(f"publishing/{one}.py" for one in ("client", "remote", "remote_read", "border", "bounds")),
    "matplotlib": ("publishing/plot.py", "card/curves.py"),
    "starlette": ("hub",),
    "uvicorn": ("hub",),
    "dulwich": ("hub",),
    "lz4": ("hub",),
    "jinja2": ("hub/web", "card/template.py"),
    "markupsafe": ("hub/web",),
    "markdown_it": ("hub/web",),
    "nh3": ("hub/web",),
    "click": ("cli",),
}


def files() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, in functions too; what is imported for types alone is left out."""
    tree = ast.parse(path.read_text())
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for statement in node.body
        for inner in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room_of(module: str) -> str:
    """The room of a dotted name within perdure; the root itself is "<root>"."""
    parts = module.split(".")
    return (
        parts[1]
        if len(parts) > 1 and ((SOURCE / parts[1]).is_dir() or (SOURCE / f"{parts[1]}.py").exists())
        else "<root>"
    )


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_arrows_point_down(path: Path) -> None:
    room = path.relative_to(SOURCE).parts[0]
    if room == "__init__.py":
        allowed = set(ARROWS)
    elif room.endswith(".py"):
        allowed = {"cli"} if room == "__main__.py" else set()
    else:
        allowed = ARROWS[room] | {room}
    for module in imports(path):
        if module.split(".")[0] == "perdure":
            assert room_of(module) in allowed | {"errors", "_optional"}, f"{path.name} imports {module}"


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_optional_libraries_stay_in_their_rooms(path: Path) -> None:
    relative = path.relative_to(SOURCE).as_posix()
    for module in imports(path):
        homes = OPTIONAL.get(module.split(".")[0])
        assert homes is None or relative.startswith(homes), f"{relative} imports {module}"


def test_no_cycles_between_modules() -> None:
    graph: dict[str, set[str]] = {}
    names = {
        ".".join(("perdure", *path.relative_to(SOURCE).with_suffix("").parts)).removesuffix(".__init__")
        for path in files()
    }
    for path in files():
        name = ".".join(("perdure", *path.relative_to(SOURCE).with_suffix("").parts)).removesuffix(".__init__")
        targets = {module if module in names else module.rpartition(".")[0] for module in imports(path)}
        graph[name] = {target for target in targets if target in names and target not in (name, "perdure")}
        # A package's __init__ that re-exports its own modules is no cycle as long as they do not import it back.

    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " → ".join((*trail, name))
        if name not in done:
            for target in sorted(graph[name]):
                visit(target, (*trail, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_import_is_light() -> None:
    heavy = [*OPTIONAL, "numpy", "safetensors", "yaml", "blake3"]
    code = f"import sys, perdure; print([m for m in {heavy!r} if m in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert loaded == "[]"


def test_every_public_name_resolves_and_is_listed_once() -> None:
    assert perdure.__all__ == sorted(set(perdure.__all__))
    assert set(perdure._HOME) == set(perdure.__all__) - {"__version__"}
    for name in perdure.__all__:
        assert getattr(perdure, name) is not None
    with pytest.raises(AttributeError, match="no_such_name"):
        perdure.no_such_name  # noqa: B018


def test_no_room_takes_a_public_name() -> None:
    rooms = {path.name.removesuffix(".py") for path in SOURCE.iterdir()}
    assert not rooms & set(perdure.__all__), "importing a room binds its name on the package, over the public one"


PAGE = (ROOT / "ARCHITECTURE.md").read_text()


def named(room: str) -> set[str]:
    """The files and patterns that the page names in a room: the root's own where `room` is ""."""
    tree = PAGE.partition("src/perdure/\n")[2].partition("```")[0]
    rooms = {head.split()[0]: head for head in re.split(r"\n(?=  \S)", f"\n{tree}") if head.strip()}
    text = rooms.get(f"{room}/", "") if room else "".join(rooms[name] for name in rooms if name.endswith(".py"))
    return set(re.findall(r"[\w*/]+\.py", text))


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_the_page_names_every_module(path: Path) -> None:
    room, _, name = path.relative_to(SOURCE).as_posix().rpartition("/")
    room, _, inner = room.partition("/")
    if path.name not in ("__init__.py", "__main__.py"):
        name = f"{inner}/{name}" if inner else name
        assert any(fnmatch(name, pattern) for pattern in named(room)), f"ARCHITECTURE.md leaves out {room}/{name}"


@pytest.mark.parametrize("room", ["", *ARROWS])
def test_the_page_names_nothing_that_is_not_there(room: str) -> None:
    for pattern in named(room):
        assert list((SOURCE / room).glob(pattern)), f"{room}/{pattern}"


def test_the_page_names_every_room() -> None:
    for room in ARROWS:
        assert f"\n  {room}/ " in PAGE, f"ARCHITECTURE.md does not mention {room}/"
    for room in {path.relative_to(SOURCE).parts[0] for path in files() if path.parent != SOURCE}:
        assert room in ARROWS, f"{room} has no floor"


def test_dangers_and_their_tests_are_there() -> None:
    rows = re.findall(r"^\| (`[^|]+) \|[^|]+\| ([^|]+) \|$", PAGE, re.MULTILINE)
    assert len(rows) > 5
    for places, tests in rows:
        for place in re.findall(r"`([^`]+)`", places):
            assert list(SOURCE.glob(place)), place
        for test in re.findall(r"`(tests/[^`]+)`", tests):
            assert list(ROOT.glob(test)), test


def test_test_files_have_names_of_their_own() -> None:
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert not [name for name in names if names.count(name) > 1], "pytest collects only one of them"
