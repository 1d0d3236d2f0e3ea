"""The house rules that a machine can hold: who imports whom, and how modules look. Section 2 of the design."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

import pytest

from policies.code import PACKAGES

ROOT = Path(__file__).resolve().parent.parent
OURS = {*PACKAGES, "tests"}
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))

# What of ours each package may import beside itself. An entry with a dot allows that module alone.
ALLOWED: dict[str, set[str]] = {
    "ledger": set(),
    "privacy": {"ledger.errors", "ledger.canonical"},
    "policies": {"ledger", "privacy"},
    "adapters": {"ledger", "policies", "privacy"},
    "tasks": {"ledger", "policies", "privacy", "adapters"},
    "flows": {"ledger", "policies", "privacy", "adapters", "tasks"},
    "deployments": {"ledger", "policies", "privacy", "adapters", "tasks", "flows", "wardround"},
    "wardround": {"ledger", "policies", "privacy", "adapters", "tasks", "flows", "deployments"},
}
# Flows order steps; of the adapters they may only name where things lie. A longer list is domain logic in a flow.
FLOWS_ADAPTERS = {"adapters.objects", "adapters.home", "adapters.outbox", "adapters"}
CORE_STRANGERS = {"prefect", "http", "httpx", "requests", "urllib3", "aiohttp", "pydicom", "mlflow", "monai"}
CORE_STRANGERS |= {"great_expectations", "pandas", "nibabel", "socket"}
PICKLES = {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
# One meaning that two modules can find out, each in its own words.
SHARED_CODES = {"data.refused", "privacy.secret-copy", "usage.option"}
CODE = re.compile(r"^[a-z][a-z0-9.-]{0,63}$")


def imports(path: Path) -> set[str]:
    """Every module that the file imports, at its top or on use; `from a import b` counts as `a` and `a.b`."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            assert node.level == 0, f"{path} imports relatively"
            found |= {node.module, *(f"{node.module}.{name.name}" for name in node.names)}
    return found


def package_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0]


def allowed(module: str, rules: set[str]) -> bool:
    return any(module == rule or module.startswith(f"{rule}.") for rule in rules)


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_point_inward_only(package: str) -> None:
    rules = {package} | ALLOWED[package]
    outward = {
        f"{path.relative_to(ROOT)}: {module}"
        for path in MODULES
        if package_of(path) == package
        for module in imports(path)
        if module.split(".")[0] in OURS
        and not allowed(module, rules)
        # `from ledger import canonical` names the package on the way to an allowed module.
        and not any(rule.startswith(f"{module}.") and rule in imports(path) for rule in rules)
    }
    assert outward == set()


@pytest.mark.parametrize("package", ["ledger", "policies", "privacy"])
def test_the_core_knows_no_orchestrator_no_network_and_no_hospital_data(package: str) -> None:
    strangers = {
        f"{path.relative_to(ROOT)}: {module}"
        for path in MODULES
        if package_of(path) == package
        for module in imports(path)
        if allowed(module, CORE_STRANGERS)
    }
    assert strangers == set()


def test_flows_touch_no_adapter_but_names_and_homes() -> None:
    used = {
        module
        for path in MODULES
        if package_of(path) == "flows"
        for module in imports(path)
        if module.startswith("adapters") and ".".join(module.split(".")[:2]) not in FLOWS_ADAPTERS
    }
    assert used == set()


def test_nothing_is_ever_unpickled() -> None:
    found = set()
    for path in MODULES:
        found |= {f"{path}: {module}" for module in imports(path) if allowed(module, PICKLES)}
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in (
                "torch.load",
                "np.load",
                "numpy.load",
            ):
                keywords = {one.arg: ast.unparse(one.value) for one in node.keywords}
                if ast.unparse(node.func) == "torch.load" or keywords.get("allow_pickle") != "False":
                    found.add(f"{path}: {ast.unparse(node)}")
    assert found == set()


def test_modules_are_short_nouns() -> None:
    long = {str(path) for path in MODULES if len(path.read_text().splitlines()) > 400}
    banned = ("util", "utils", "helper", "helpers", "common", "manager", "misc")
    vague = {str(path) for path in MODULES if set(path.stem.split("_")) & set(banned)}
    silent = {
        str(path)
        for path in MODULES
        if path.name != "__init__.py" and ast.get_docstring(ast.parse(path.read_text())) is None
    }
    assert (long, vague, silent) == (set(), set(), set())


def codes(path: Path) -> list[tuple[str, str]]:
    """(code, where it is defined or used): class attributes, `code=` arguments and violations."""
    found: list[tuple[str, str]] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ClassDef):
            for part in node.body:
                target = part.targets[0] if isinstance(part, ast.Assign) else getattr(part, "target", None)
                value = getattr(part, "value", None)
                if isinstance(target, ast.Name) and target.id == "code" and isinstance(value, ast.Constant):
                    found.append((str(value.value), f"class {node.name}"))
        if isinstance(node, ast.Call):
            found += [
                (one.value.value, ast.unparse(node.func))
                for one in node.keywords
                if one.arg == "code"
                and isinstance(one.value, ast.Constant)
                and isinstance(one.value.value, str)
            ]
            if ast.unparse(node.func) == "Violation" and node.args and isinstance(node.args[0], ast.Constant):
                found.append((str(node.args[0].value), "Violation"))
    return found


def test_every_error_code_can_stand_on_the_ledger() -> None:
    wrong = {f"{path}: {code}" for path in MODULES for code, _ in codes(path) if not CODE.match(code)}
    assert wrong == set()


def test_no_two_errors_share_a_code() -> None:
    classes: dict[str, set[str]] = defaultdict(set)
    for path in MODULES:
        for code, where in codes(path):
            if where.startswith("class "):
                classes[code].add(f"{path.relative_to(ROOT)}: {where}")
    assert {
        code: where for code, where in classes.items() if len(where) > 1 and code not in SHARED_CODES
    } == {}
