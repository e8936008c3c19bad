"""The house stands as drawn: imports run down the stairs, none is hidden, the door is light."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from raylab.cli import app

ROOT = Path(__file__).parent.parent
FILES = sorted((ROOT / "raylab").rglob("*.py"))

# Which parts of raylab each part may import. `""` is raylab/__init__.py, which imports nothing.
FLOORS = {
    "": set(),
    "errors": set(),
    "storage": {"errors"},
    "machine": set(),
    "config": {"errors"},
    "images": {"errors", "storage", "machine", "config"},
    "training": {"errors", "storage", "config", "images"},
    "results": {"errors", "storage", "machine", "config"},
    "events": {"errors", "storage", "config", "results"},
    "sweep": {"errors", "storage", "machine", "config", "images", "training", "results", "events"},
    "forecast": {
        "errors",
        "storage",
        "machine",
        "config",
        "images",
        "training",
        "results",
        "sweep",
    },
    "remote": {"errors", "storage", "config", "images", "results", "sweep"},
    "after": {
        *("errors", "storage", "config", "images", "training", "results", "events", "sweep"),
    },
    "analysis": {"errors", "storage", "config", "results"},
    "report": {"errors", "storage", "config", "images", "results", "analysis"},
    "bench": {
        *("errors", "storage", "config", "images", "training", "results", "events", "sweep"),
    },
    "api": {
        *("errors", "storage", "config", "images", "training"),
        *("results", "analysis", "events", "sweep", "after"),
    },
    "commands": {
        *("errors", "storage", "config", "images", "training", "results", "analysis", "report"),
        *("events", "sweep", "forecast", "remote", "after", "bench"),
    },
    "cli": {"commands"},
    "__main__": {"cli"},
}
# Libraries that a part refuses to know.
FORBIDDEN = {
    "errors": {"ray", "torch", "timm", "pandas", "pyarrow", "numpy"},
    "storage": {"ray", "torch", "timm", "pandas"},
    "machine": {"ray", "torch", "timm", "pandas", "pyarrow", "numpy"},
    "config": {"ray", "torch", "timm", "pandas", "pyarrow"},
    "images": {"torch", "timm"},
    "training": {"ray"},
    "events": {"torch", "timm"},
    "results": {"ray", "torch", "timm"},
    "analysis": {"ray", "torch", "timm"},
    "report": {"ray", "torch", "timm"},
}


def part_of(path: Path) -> str:
    """raylab/config/trial.py is of `config`, raylab/cli.py of `cli`."""
    first = path.relative_to(ROOT / "raylab").parts[0]
    return first.removesuffix(".py").replace("__init__", "")


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def imported(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Every imported module's full name, with its line; `from a import b` names both a and a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import in line {node.lineno}"
            yield str(node.module), node.lineno
            for alias in node.names:
                yield f"{node.module}.{alias.name}", node.lineno


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_imports_run_down_the_stairs(path: Path) -> None:
    part = part_of(path)
    assert part in FLOORS, f"raylab/{part} has no floor in the plan of the house"
    wrong = []
    for name, line in imported(ast.parse(path.read_text())):
        head, _, rest = name.partition(".")
        other = rest.partition(".")[0]
        if head == "raylab" and other in FLOORS and other not in FLOORS[part] | {part, ""}:
            wrong.append(f"line {line}: {name}")
        if head in FORBIDDEN.get(part, set()):
            wrong.append(f"line {line}: {name}")
    assert not wrong


def test_no_import_cycle() -> None:
    modules = {module_of(path): path for path in FILES}
    edges = {
        name: {m for m, _ in imported(ast.parse(path.read_text())) if m in modules and m != name}
        for name, path in modules.items()
    }
    while edges:  # take away what imports nothing that is left, until nothing is left
        free = {name for name, needs in edges.items() if not needs & edges.keys()}
        assert free, f"these modules import each other in a circle: {sorted(edges)}"
        edges = {name: needs for name, needs in edges.items() if name not in free}


@pytest.mark.parametrize("path", [p for p in FILES if part_of(p) != "commands"], ids=module_of)
def test_no_import_is_hidden_in_a_function(path: Path) -> None:
    hidden = [
        f"{function.name}: {name}"
        for function in functions(ast.parse(path.read_text()))
        for name, _ in imported(function)
    ]
    assert not hidden


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_file_is_small_and_opens_with_its_sentence(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 400
    assert path.name == "__main__.py" or ast.get_docstring(ast.parse(text))
    assert "utils" not in path.stem


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_no_function_is_a_novel(path: Path) -> None:
    long = []
    for function in functions(ast.parse(path.read_text())):
        body = function.body[1:] if ast.get_docstring(function) else function.body
        num_lines = (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
        if num_lines > 40:
            long.append(f"{function.name}: {num_lines} lines without its signature")
    assert not long


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("raylab.cli", ("torch", "ray", "pandas", "timm", "scipy")),
        ("raylab.sweep.runner", ("torch", "timm", "scipy", "sklearn")),  # trials load these
        ("raylab.training.footprint", ("torch", "timm")),  # a sweep's driver reads what was probed
        ("raylab.forecast.overview", ("torch", "ray", "pandas", "timm", "scipy")),
        ("raylab.images.parts", ("torch", "ray", "pandas", "scipy")),  # each worker's start
    ],
)
def test_what_many_processes_import_is_light(module: str, heavy: tuple[str, ...]) -> None:
    code = f"import sys, {module}; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_readme_draws_the_house_as_it_is() -> None:
    drawn, folder = set(), ""
    for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines():
        name = line.split(maxsplit=1)[0] if line.strip() else ""
        if line.startswith("  ") and name.endswith("/"):
            folder = name
        elif name.endswith(".py") and line.startswith("    "):
            drawn.add(folder + name)
        elif name.endswith(".py") and line.startswith("  "):
            drawn.add(name)
    built = {str(path.relative_to(ROOT / "raylab")) for path in FILES}
    assert drawn == {name for name in built if not name.endswith("__init__.py")}


def test_readme_names_only_commands_that_exist() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    used = set(re.findall(r"^raylab (\w+)", text, flags=re.MULTILINE))
    verbs = {command.callback.__name__ for command in app.registered_commands}
    assert used
    assert used <= verbs
    for grid in set(re.findall(r"grids/\w+\.yaml", text)):
        assert (ROOT / grid).exists(), grid
