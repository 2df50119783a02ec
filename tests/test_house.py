"""The rules of the house that no linter knows, as tests."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("supernet", "predictors", "search", "service")
TRAINING_BOX = ("torch", "numpy", "scipy", "pillow", "safetensors", "typer", "rich")
STANDARD_LIBRARY_ONLY = ("service.jobs", "service.errors", "service.ports")


def modules_of(*packages: str) -> list[str]:
    """Dotted names of all modules of the packages."""
    paths = (path.relative_to(ROOT) for name in packages for path in sorted((ROOT / name).rglob("*.py")))
    return [".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in paths]


def run_python(code: str, *arguments: str, options: tuple[str, ...] = ()) -> str:
    """Standard output of the code in a fresh interpreter that sees the repository first."""
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{code}"
    command = [sys.executable, *options, "-c", code, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return done.stdout


def distributions_behind(names: tuple[str, ...]) -> set[str]:
    """The distributions and all that they require on this machine, in normalised names."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in found:
            continue
        try:
            needed = requires(name) or []
        except PackageNotFoundError:
            continue
        found.add(name)
        waiting += [re.split(r"[^\w.-]", line)[0] for line in needed if "extra ==" not in line]
    return found


@pytest.mark.parametrize(
    "package", [name for name in modules_of(*PACKAGES) if (ROOT / name.replace(".", "/")).is_dir()]
)
def test_init_files_hold_a_docstring_only(package: str) -> None:
    tree = ast.parse((ROOT / package.replace(".", "/") / "__init__.py").read_text())
    assert ast.get_docstring(tree), "a package says in a docstring what it is"
    assert len(tree.body) == 1, "an import of one module must not pull in others"


# Imports the modules where the blocked top-level ones cannot be found, as on a machine without them.
IMPORT_WITHOUT = """
import importlib
from importlib.machinery import BuiltinImporter, FrozenImporter, PathFinder
blocked, modules = set(sys.argv[1].split()), sys.argv[2].split()

class Without:
    @staticmethod
    def find_spec(name, path=None, target=None):
        return None if name.partition(".")[0] in blocked else PathFinder.find_spec(name, path, target)

sys.meta_path[:] = [BuiltinImporter, FrozenImporter, Without]
for module in modules:
    importlib.import_module(module)
"""


def modules_beyond(distributions: tuple[str, ...]) -> set[str]:
    """Top-level modules on this machine that neither the distributions nor their requirements bring."""
    present = distributions_behind(distributions)
    assert present >= set(distributions)
    return {
        module
        for module, owners in packages_distributions().items()
        if not any(re.sub(r"[-_.]+", "-", owner).lower() in present for owner in owners)
    } - set(PACKAGES)


def test_supernet_imports_on_a_machine_for_training() -> None:
    blocked = modules_beyond(TRAINING_BOX)
    assert blocked >= {"pandas", "pymoo", "fastapi", "onnx", "sqlalchemy"}
    assert not blocked & {"torch", "numpy", "PIL", "sympy"}
    blocked |= {"predictors", "search", "service"}
    run_python(IMPORT_WITHOUT, " ".join(blocked), " ".join(modules_of("supernet")))


def test_a_machine_without_torch_is_noticed() -> None:
    with pytest.raises(AssertionError, match="No module named 'torch'"):
        run_python(IMPORT_WITHOUT, "torch", "supernet.network")


def test_space_and_cost_need_numpy_only() -> None:
    code = "import supernet.space, supernet.cost; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = set(run_python(code).split()) - set(sys.stdlib_module_names) - {"supernet"}
    installed = {module for module in loaded if module in packages_distributions()}
    assert "numpy" in installed
    assert installed <= {"numpy", "_distutils_hack"}


@pytest.mark.parametrize("module", STANDARD_LIBRARY_ONLY)
def test_the_core_of_the_service_needs_no_package(module: str) -> None:
    run_python(f"import {module}", options=("-S",))


def _imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module or ""


@pytest.mark.parametrize("module", modules_of(*PACKAGES))
def test_nothing_reads_pickles(module: str) -> None:
    path = ROOT / module.replace(".", "/")
    source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    tops = {name.partition(".")[0] for name in _imports(ast.parse(source.read_text()))}
    assert not tops & {"pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}


def _class_names(module: str) -> set[str]:
    return {
        node.name for node in ast.parse((ROOT / module).read_text()).body if isinstance(node, ast.ClassDef)
    }


@pytest.mark.parametrize("package", PACKAGES)
def test_every_error_names_a_field_and_a_remedy(package: str) -> None:
    errors = _class_names("supernet/errors.py")
    silent = []
    for path in sorted((ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in errors:
                given = {keyword.arg for keyword in node.keywords}
                if None not in given and not given >= {"field", "remedy"}:
                    silent.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert silent == []


def test_every_make_target_is_in_its_help() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z][\w-]*):", makefile, re.MULTILINE))
    phony = set(re.findall(r"^\.PHONY: (\S+)", makefile, re.MULTILINE))
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    listed = dict(re.findall(r"^ +make (\S+) +(\S.*)$", shown, re.MULTILINE))
    assert targets >= {"setup", "serve", "test", "check", "bench", "help"}
    assert set(listed) == targets
    assert phony == targets, "a file of a target's name must not hide it"


def test_scripts_of_the_makefile_are_there() -> None:
    makefile = (ROOT / "Makefile").read_text()
    named = re.findall(r"\b((?:scripts|benchmarks)/[\w-]+\.(?:sh|py))", makefile)
    named += [
        name.replace(".", "/") + ".py"
        for name in re.findall(rf"-m ((?:{'|'.join(PACKAGES)})[\w.]*)", makefile)
    ]
    assert named
    assert [name for name in named if not (ROOT / name).is_file()] == []


def _tracked_files() -> list[Path]:
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listing = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode()
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return [path for name in listing.split("\0") if name and (path := ROOT / name).is_file()]


def test_no_file_names_a_place_on_one_machine() -> None:
    place = re.compile(rb"(?<![\w.:/~-])/(?:work|root|home|Users|opt|mnt)/[A-Za-z0-9_.-]+[^\n\"]{0,40}")
    found = [
        f"{path.relative_to(ROOT)}: {match.group().decode(errors='replace')}"
        for path in _tracked_files()
        if (match := place.search(path.read_bytes()))
    ]
    assert found == []


def test_every_dependency_is_pinned() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    assert all("+" not in version for version in pins.values()), "local versions exist on one index only"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [project["dependencies"], *project["optional-dependencies"].values()]
    names = {re.split(r"[^\w.-]", line)[0].lower() for lines in wanted for line in lines}
    assert names <= {name.lower() for name in pins}
    assert f"torch=={pins['torch']}" in project["dependencies"]
