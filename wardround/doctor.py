"""`wardround doctor`: can this machine run a round? One line a check, each with what to do.

Nothing heavy is imported for it: versions come from the installed metadata, services are asked over HTTP. Only
torch is loaded, in a process of its own, because nothing else knows whether it can use the GPU.
"""

from __future__ import annotations

import json as json_text
import os
import platform
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from rich.console import Console
from rich.table import Table

from ledger.errors import CodedError
from policies.code import CONSTRAINTS, running_code_digest

if TYPE_CHECKING:
    from adapters.home import Home
    from adapters.key_token import TokenConfig

Outcome = Literal["ok", "warn", "fail"]

ROOT = Path(__file__).resolve().parent.parent
# What a round cannot do without; other pinned packages only come along with them.
REQUIRED = (
    "cryptography", "cyclopts", "fastapi", "great-expectations", "mlflow", "monai", "numpy", "opacus", "pandas",
    "prefect", "pydantic", "pydicom", "PyYAML", "rfc8785", "rich", "safetensors", "scikit-learn",
    "SQLAlchemy", "tenseal", "torch",
)  # fmt: skip
GIB = 2**30
_HTTP_TIMEOUT_S = 2.0
_TORCH_TIMEOUT_S = 60.0
_COLOURS: dict[Outcome, str] = {"ok": "green", "warn": "yellow", "fail": "bold red"}

_TORCH = """
import torch
if torch.cuda.is_available():
    try:
        (torch.ones(8, device="cuda") * 2).sum().item()
        print("works|" + torch.cuda.get_device_name(0) + "|" + (torch.version.cuda or ""))
    except Exception as error:
        print("broken|" + torch.cuda.get_device_name(0) + "|" + type(error).__name__)
else:
    print("none||" + (torch.version.cuda or ""))
"""


@dataclass(frozen=True, slots=True)
class Check:
    name: str
    outcome: Outcome
    found: str
    remedy: str = ""


class UnfitError(CodedError):
    code = "doctor.failed"


def doctor(
    *,
    home: Annotated[
        Path | None, Parameter(help="An institution's home: check its token and a site's register too.")
    ] = None,
    json: Annotated[bool, Parameter(help="Print one JSON object instead of a table.")] = False,
) -> None:
    """Check that this machine can run a round, and say what to do where it cannot. Exit 1 if a check fails."""
    tasks: tuple[Callable[[], Check], ...] = (
        _python, _packages, _torch, _disk, _memory, _prefect, _mlflow, _code, *_home_checks(home),
    )  # fmt: skip
    with ThreadPoolExecutor(max_workers=len(tasks)) as pool:
        checks = list(pool.map(lambda task: task(), tasks))
    failed = [check.name for check in checks if check.outcome == "fail"]
    if json:
        listed = [
            {"name": check.name, "outcome": check.outcome, "found": check.found, "remedy": check.remedy}
            for check in checks
        ]
        sys.stdout.write(json_text.dumps({"ok": not failed, "checks": listed}) + "\n")
    else:
        _show(checks)
    if failed:
        raise UnfitError(f"this machine cannot run a round yet: {', '.join(failed)}", remedy="See above.")


def _show(checks: list[Check]) -> None:
    table = Table()
    for heading in ("check", "", "found", "what to do"):
        table.add_column(heading, overflow="fold")
    for check in checks:
        colour = _COLOURS[check.outcome]
        table.add_row(check.name, f"[{colour}]{check.outcome}[/{colour}]", check.found, check.remedy)
    Console(highlight=False).print(table)


def _python() -> Check:
    found = platform.python_version()
    if found.startswith("3.11."):
        return Check("Python", "ok", found)
    return Check("Python", "fail", found, "Create the environment with Python 3.11; others are not tested.")


def pins(text: str) -> dict[str, str]:
    """{normalised name: version} of a constraints file."""
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return {
        _normal(name): version for name, _, version in (line.partition("==") for line in lines) if version
    }


def _packages() -> Check:
    """Every installed distribution against its pin; the required ones must be there."""
    pinned = pins((ROOT / CONSTRAINTS).read_text())
    described = [item.metadata for item in metadata.distributions()]  # parsed once each
    installed = {_normal(item["Name"]): item["Version"] for item in described if "Name" in item}
    missing = [name for name in REQUIRED if _normal(name) not in installed]
    # A local build (2.13.0+cpu) is the pinned version built for another device.
    other = sorted(
        f"{name} {installed[name]} (pinned {version})"
        for name, version in pinned.items()
        if name in installed and installed[name].partition("+")[0] != version
    )
    how = f"Run: python -m pip install -c {CONSTRAINTS} -e ."
    if missing:
        return Check("packages", "fail", f"missing: {', '.join(missing)}", how)
    if other:
        required = {_normal(name) for name in REQUIRED}
        outcome: Outcome = "fail" if any(item.split()[0] in required for item in other) else "warn"
        return Check("packages", outcome, f"other than pinned: {', '.join(other)}", how)
    return Check("packages", "ok", f"{sum(name in installed for name in pinned)} as pinned in {CONSTRAINTS}")


def _torch() -> Check:
    try:
        run = subprocess.run(  # noqa: S603 - our own interpreter and a constant
            [sys.executable, "-c", _TORCH],
            capture_output=True,
            text=True,
            timeout=_TORCH_TIMEOUT_S,
            check=True,
        )
        state, device, detail = run.stdout.strip().split("\n")[-1].split("|")
    except (subprocess.SubprocessError, OSError, ValueError):
        return Check("torch", "fail", "torch cannot be imported", "Install torch==2.13.0; see the README.")
    if state == "works":
        return Check("torch", "ok", f"{device}, CUDA {detail}")
    if state == "broken":
        return Check(
            "torch", "fail", f"{device} does not compute ({detail})",
            "Update the NVIDIA driver, or set `device: cpu` in institution.yaml.",
        )  # fmt: skip
    if detail:
        how = "This is the CUDA build: check `nvidia-smi` and that the process may see the GPU."
    else:
        how = "To use a GPU, install the CUDA build of torch 2.13.0 as the README says."
    if not _has_gpu():
        return Check("torch", "ok", "CPU", f"Enough for the demo. {how}")
    return Check("torch", "warn", "CPU, although the machine has a GPU", how)


def _has_gpu() -> bool:
    return Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None


def _disk() -> Check:
    free = shutil.disk_usage(Path.cwd()).free / GIB
    found = f"{free:.1f} GiB free here"
    if free < 0.5:
        return Check("disk", "fail", found, "Free some space; a demo writes up to 0.5 GiB.")
    if free < 5:
        return Check("disk", "warn", found, "Enough for the demo; a service needs 5 GiB and more.")
    return Check("disk", "ok", found)


def _memory() -> Check:
    """What is available, not what is installed; cgroup limits count."""
    available = _available_memory()
    if available is None:
        return Check("memory", "warn", "unknown on this system", "A demo with four sites needs about 6 GiB.")
    found = f"{available / GIB:.1f} GiB available"
    if available < 2 * GIB:
        return Check(
            "memory", "fail", found, "A site needs about 1.5 GiB, a demo with four sites about 6 GiB."
        )
    if available < 6 * GIB:
        return Check("memory", "warn", found, "Enough for one site; a demo with four needs about 6 GiB.")
    return Check("memory", "ok", found)


def _available_memory() -> int | None:
    figures = []
    try:
        found = re.search(r"^MemAvailable:\s+(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE)
        if found:
            figures.append(int(found.group(1)) * 1024)
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        if limit != "max":
            figures.append(int(limit) - int(Path("/sys/fs/cgroup/memory.current").read_text()))
    except (OSError, ValueError):
        pass
    return min(figures, default=None)


def _prefect() -> Check:
    url = os.environ.get("PREFECT_API_URL", "")
    if not url:
        return Check(
            "Prefect", "ok", "PREFECT_API_URL is not set: `demo` and `run` start their own",
            "For schedules: `prefect server start`, then set PREFECT_API_URL.",
        )  # fmt: skip
    return _reach("Prefect", url, f"{url.rstrip('/')}/health", "PREFECT_API_URL")


def _mlflow() -> Check:
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    if uri.startswith(("http://", "https://")):
        return _reach("MLflow", uri, f"{uri.rstrip('/')}/health", "MLFLOW_TRACKING_URI")
    if uri and not uri.startswith("sqlite:"):
        if re.match(r"^(postgresql|mysql|mssql)[+\w]*:", uri):
            return Check("MLflow", "ok", "a database store (not connected to here)")
        return Check(
            "MLflow", "fail", "MLFLOW_TRACKING_URI is not a server and not a database",
            "MLflow's file store is gone: give http(s)://… or sqlite:///….",
        )  # fmt: skip
    folder = Path(uri.removeprefix("sqlite:///")).parent if uri else Path.cwd()
    where = "the folder of MLFLOW_TRACKING_URI" if uri else "this folder"
    if os.access(folder, os.W_OK):
        return Check("MLflow", "ok", f"local SQLite store; {where} can be written")
    return Check("MLflow", "fail", f"local SQLite store; {where} cannot be written", "Choose a writable one.")


def _reach(name: str, shown: str, url: str, variable: str) -> Check:
    shown = re.sub(r"//[^/@]*@", "//", shown)  # credentials are nobody's business
    why = ""
    try:
        with urllib.request.urlopen(url, timeout=_HTTP_TIMEOUT_S) as reply:  # noqa: S310 - http(s) by config
            if reply.status == 200:
                return Check(name, "ok", f"{shown} answers")
            why = f"HTTP {reply.status}"
    except urllib.error.HTTPError as error:
        why = f"HTTP {error.code}"
    except (OSError, ValueError):
        why = "no answer"
    return Check(name, "fail", f"{shown}: {why}", f"Start the server, or correct or unset {variable}.")


def _code() -> Check:
    return Check("code digest", "ok", running_code_digest(), "A plan approves code by this digest.")


def _home_checks(home: Path | None) -> list[Callable[[], Check]]:
    """Of a site's register, and of the keys if they are on a token."""
    if home is None:
        return []
    from adapters.home import CONFIG, Home, HomeError, SiteConfig

    if not (home / CONFIG).is_file():
        raise HomeError(f"no readable {CONFIG} in {home}", remedy="Give an institution's folder to --home.")
    opened = Home(home)
    token = opened.token
    checks: list[Callable[[], Check]] = [] if token is None else [lambda: _token(opened, token)]
    with suppress(CodedError):  # a coordinator has no register
        pool = opened.resolve(opened.read(SiteConfig).pool)
        checks.append(lambda: _register(opened, pool))
    return checks


def _register(home: Home, pool: Path) -> Check:
    """A journal in the home is set back with it, and then knows of no release that left since."""
    if not pool.resolve().is_relative_to(home.root.resolve()):
        return Check("register", "ok", str(pool))
    advice = "Move the folder to another disk, and name it as pool: in institution.yaml (docs/training.md)."
    return Check("register", "warn", "its journal lies in the home, and is restored with it", advice)


def _token(home: Home, token: TokenConfig) -> Check:
    """Log in once, find every key and prove that it signs; a running process may hold some of them."""
    from ledger.signer_guard import KeyInUseError

    in_use = []
    try:
        for purpose in token.keys:
            try:
                home.signer(purpose, "doctor")
            except KeyInUseError:
                in_use.append(purpose)
    except CodedError as error:
        return Check("token", "fail", error.public_message, error.remedy)
    finally:
        home.close()
    busy = f"; in use by a running process: {', '.join(in_use)}" if in_use else ""
    return Check("token", "ok", f"{token.address} signs with {', '.join(token.keys)}{busy}")


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
