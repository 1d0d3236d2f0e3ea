"""`wardround federation`, `coordinator` and `site`: founding whole or not at all, and what they refuse early.

Whole runs through the commands' flows are in tests/deployments and tests/flows.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from adapters.home import CoordinatorConfig, Home, SiteConfig
from adapters.institution_log import read_state
from ledger.errors import CodedError, PolicyViolation
from tasks.planning import read_plan
from tests.consortium import Consortium, tiny_plan, write_shard
from tests.postgresql_server import PostgresqlServer
from tests.wardround.conftest import Command
from wardround import federation, site
from wardround.examples import EXAMPLES


@pytest.fixture
def data(tmp_path: Path) -> list[str]:
    for name in ("a", "b", "c"):
        write_shard(tmp_path / "data" / f"{name}.npz")
    return [f"--site=hospital-{name}={tmp_path / 'data' / name}.npz" for name in ("a", "b", "c")]


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Consortium:
    return Consortium.found(tmp_path_factory.mktemp("federation"))


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    path = tmp_path / "plan.yaml"
    path.write_text(yaml.safe_dump(tiny_plan().to_json()))
    return path


def test_new_founds_a_federation(wardround: Command, data: list[str], tmp_path: Path) -> None:
    out = tmp_path / "federation"
    test = f"--public-test={tmp_path / 'data' / 'a.npz'}"
    done = wardround("federation", "new", "--out", out, "--name", "trial", "--epsilon-cap", "3", test, *data)
    assert done.code == 0, done.err
    assert sorted(path.name for path in out.iterdir()) == ["coordinator", "exchange", "officers", "sites"]
    state, _ = read_state(Home(out / "coordinator"))
    assert state.federation is not None and state.federation.name == "trial"
    assert {member.pool.epsilon_cap_micro for member in state.federation.sites() if member.pool} == {
        3_000_000
    }
    config = Home(out / "sites" / "hospital-b").read(SiteConfig)
    assert config.source.kind == "npz" and Path(config.source.path).is_absolute()
    assert Home(out / "coordinator").read(CoordinatorConfig).public_test is not None
    assert not [path for path in tmp_path.iterdir() if "founding" in path.name]
    assert "wardround coordinator run" in done.out and "phase run" not in done.out
    again = wardround("federation", "new", "--out", out, *data)
    assert again.code == 2 and again.error.startswith("[federation.exists]")


def test_a_federation_that_begins_with_its_foundation_is_told_to_lay_it(
    wardround: Command, data: list[str], tmp_path: Path
) -> None:
    done = wardround("federation", "new", "--out", tmp_path / "f", *data, "--phase", "foundation")
    assert done.code == 0, done.err
    for command in ("phase run foundation --home", "site agreement", "site conform", "site run"):
        assert f"wardround {command} " in done.out
    assert "coordinator run" not in done.out


def test_a_foundation_has_the_network_of_its_dry_round_whatever_the_pilots(
    wardround: Command, data: list[str], tmp_path: Path
) -> None:
    pilot = ("--phase", "foundation", "--family", "LogisticRegression")
    assert wardround("federation", "new", "--out", tmp_path / "f", *data, *pilot).code == 0
    policy = Home(tmp_path / "f" / "sites" / "hospital-a").read(SiteConfig).policy
    assert set(policy.model_families) == {
        "LogisticRegression",
        read_plan(EXAMPLES / "dry-round.yaml").network.name,
    }


def test_rotate_key_makes_the_next_key_and_says_when_it_holds(
    wardround: Command, data: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "federation"
    assert wardround("federation", "new", "--out", out, *data).code == 0
    for role, home in (("site", out / "sites" / "hospital-a"), ("coordinator", out / "coordinator")):
        done = wardround(role, "rotate-key", "--home", home)
        assert done.code == 0, done.err
        assert "in force" in done.out and (home / "keys" / "signing-next.pem").exists()
        again = wardround(role, "rotate-key", "--home", home)
        assert again.code == 2 and again.error.startswith("[home.rotation-pending]")


def test_move_ledger_asks_for_a_database_first(wardround: Command, data: list[str], tmp_path: Path) -> None:
    out = tmp_path / "federation"
    assert wardround("federation", "new", "--out", out, *data).code == 0
    done = wardround("coordinator", "move-ledger", "--home", out / "coordinator")
    assert done.code != 0 and done.error.startswith("[ledger.unavailable]")
    assert (out / "coordinator" / "ledger.sqlite").exists()


@pytest.mark.xdist_group("postgresql")
def test_move_ledger_moves_it_and_says_so(
    wardround: Command, data: list[str], tmp_path: Path, postgresql_server: PostgresqlServer
) -> None:
    out = tmp_path / "federation"
    assert wardround("federation", "new", "--out", out, *data).code == 0
    path = out / "coordinator" / "institution.yaml"
    url = str(postgresql_server.url(postgresql_server.database()))
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "ledger": url}))
    done = wardround("coordinator", "move-ledger", "--home", out / "coordinator")
    assert done.code == 0, done.err
    assert done.out.startswith("moved 1 entries")
    assert not (out / "coordinator" / "ledger.sqlite").exists()


def test_new_names_everything_wrong_and_leaves_nothing(
    wardround: Command, data: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "federation"
    done = wardround(
        "federation", "new", "--out", out, "--name", "Trial", "--epsilon-cap", "-1", "--delta", "0.5",
        "--public-test", tmp_path / "nothing", "--site", "b", "--site", "B=x", "--site", "coordinator=x",
        "--site", f"d={tmp_path / 'nothing'}", *data, data[0],
    )  # fmt: skip
    assert done.code == 2
    for part in (
        "--site b:", "--site B:", "--site coordinator:", "--site d:", "given twice", "--name", "--epsilon-cap",
        "--delta", "--public-test",
    ):  # fmt: skip
        assert part in done.error
    assert wardround("federation", "new", "--out", out, *data[:2]).code == 2
    (tmp_path / "notes.txt").write_text("x")
    done = wardround("federation", "new", "--out", out, *data, f"--site=x={tmp_path / 'notes.txt'}")
    assert done.code == 2 and "neither a folder nor a file of .npz" in done.error

    def fail(*arguments: object, **options: object) -> None:
        raise CodedError("the disk is full")

    monkeypatch.setattr("tasks.found.create_log", fail)
    assert wardround("federation", "new", "--out", out, *data).code == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "notes.txt"]


def test_run_refuses_what_is_no_home_or_no_plan(
    wardround: Command, founded: Consortium, plan: Path, tmp_path: Path
) -> None:
    home, hospital = founded.founded.coordinator, founded.founded.sites["hospital-a"]
    for command in ("run", "serve"):
        for wrong in (tmp_path, tmp_path / "nothing"):
            done = wardround("coordinator", command, "--home", wrong, "--plan", plan)
            assert done.code == 2 and done.error.startswith("[home.invalid]")
            assert wardround("site", command, "--home", wrong).code == 2
        done = wardround("coordinator", command, "--home", hospital, "--plan", plan)
        assert done.code == 2 and "role" in done.error
        assert wardround("site", command, "--home", home).code == 2
        assert wardround("coordinator", command, "--home", home, "--plan", tmp_path / "no.yaml").code == 2
        draft = tmp_path / "draft.yaml"
        draft.write_text(yaml.safe_dump({**tiny_plan().to_json(), "code_digests": []}))
        done = wardround("coordinator", command, "--home", home, "--plan", draft)
        assert done.code == 3 and done.error.startswith("[plan.no-code]")
    assert (
        wardround("coordinator", "run", "--home", home, "--plan", plan, "--edition", "not an edition").code
        == 2
    )
    assert wardround("site", "run", "--home", hospital, "--wait", "-1").code == 2
    assert wardround("site", "run", "--home", hospital, "--plan-digest", "abc").code == 2
    assert not (home / "prefect").exists() and not (hospital / "prefect").exists()


def test_serve_needs_a_prefect_server_that_answers(
    wardround: Command, founded: Consortium, plan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, hospital = founded.founded.coordinator, founded.founded.sites["hospital-a"]
    commands = (
        ("coordinator", "serve", "--home", home, "--plan", plan),
        ("site", "serve", "--home", hospital),
    )
    for command in commands:
        done = wardround(*command)
        assert done.code == 2 and done.error.startswith("[prefect.not-set]")
        assert "prefect server start" in done.error
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:1/api")
    for command in (*commands, ("site", "run", "--home", hospital)):
        done = wardround(*command)
        assert done.code == 1 and done.error.startswith("[prefect.unreachable]")
    done = wardround(*commands[0], "--cron", "at night", "--time-zone", "Mars/Olympus")
    assert done.code == 2 and "--cron" in done.error and "--time-zone" in done.error
    assert wardround(*commands[1], "--interval", "5").code == 2


def test_a_site_that_reported_nothing_is_no_success(run_once: Path) -> None:
    def conclude(name: str, before: frozenset[tuple[str, int]] = frozenset()) -> None:
        home = Home(run_once / "sites" / name)
        site._conclude(home, home.read(SiteConfig), None, before, 1.0)

    conclude("hospital-a")
    with pytest.raises(site.WithheldError) as caught:
        conclude("hospital-d")
    assert caught.value.kind == "policy" and "contract.minimum-patients" in str(caught.value)
    # A later run that saw nothing move does not speak for this plan.
    state, _ = read_state(Home(run_once / "coordinator"))
    conclude("hospital-d", frozenset(state.verdicts))


async def test_a_gate_that_refuses_the_model_is_said_at_the_site(tmp_path: Path) -> None:
    consortium = Consortium.found(tmp_path)
    outcome = await consortium.run(tiny_plan(gates={"minimum_auc": 1.0}))
    assert isinstance(outcome.errors["coordinator"], PolicyViolation)
    home = Home(consortium.founded.sites["hospital-a"])
    with pytest.raises(PolicyViolation, match=r"evaluation\.below-floor"):
        site._conclude(home, home.read(SiteConfig), None, frozenset(), 1.0)


async def test_a_plan_that_a_gate_refused_is_said_at_the_site_with_the_figures(tmp_path: Path) -> None:
    consortium = Consortium.found(tmp_path, cap=0.2)
    outcome = await consortium.run(tiny_plan())
    assert outcome.code("coordinator") == "budget.pool-cap"
    home = Home(consortium.founded.sites["hospital-a"])
    with pytest.raises(PolicyViolation, match=r"hospital-a has spent ε=0\.00 of its cap 0\.2") as refused:
        site._conclude(home, home.read(SiteConfig), None, frozenset(), 1.0)
    assert refused.value.code == "budget.pool-cap"


def test_a_reserved_name_is_no_site() -> None:
    assert "coordinator" in federation.RESERVED
