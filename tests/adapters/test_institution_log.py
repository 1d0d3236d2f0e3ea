"""Where an institution's log is: in a file of its home, or in the database that its configuration names."""

from __future__ import annotations

import base64
import json
import sqlite3
from pathlib import Path

import pytest
import yaml

from adapters.clock import FixedClock
from adapters.exchange import DirectoryExchange
from adapters.home import CoordinatorConfig, Home, SourceConfig
from adapters.institution_log import LogUnavailableError, create_log, move_log, open_sequencer, read_state
from ledger import canonical
from ledger.errors import CodedError, InputError
from ledger.log import Log
from ledger.sqlite import SqliteStorage
from ledger.storage import StorageMissingError
from ledger.verify_database import verify_url
from policies.federation import Pool
from tasks.found import Founded, FoundingSite, found
from tests.consents import WAIVER
from tests.postgresql_server import PostgresqlServer

SITES = ("site-a", "site-b", "site-c")


@pytest.fixture
def founded(tmp_path: Path) -> Founded:
    sites = tuple(FoundingSite(name, SourceConfig(kind="npz", path="none"), WAIVER) for name in SITES)
    pool = Pool.of(epsilon_cap_micro=1, delta=1e-5)
    return found(tmp_path, sites, name="place", pool=pool, clock=FixedClock(1_800_000_000))


def name_database(founded: Founded, url: object) -> Home:
    path = founded.coordinator / "institution.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "ledger": url}))
    return Home(founded.coordinator)


@pytest.mark.xdist_group("postgresql")
def test_a_sequencer_keeps_its_log_in_the_database_that_its_configuration_names(
    founded: Founded, postgresql_server: PostgresqlServer
) -> None:
    file = founded.coordinator / "ledger.sqlite"
    founding_entry = Log.open(SqliteStorage(file)).entry(0)
    database = postgresql_server.database()
    url = postgresql_server.url(database)
    home = name_database(founded, url)
    with pytest.raises(StorageMissingError):  # the file beside it is not taken instead
        read_state(home)
    file.rename(founded.coordinator / "aside.sqlite")
    create_log(home, founded.federation, founding_entry)
    exchange = DirectoryExchange(founded.exchange)
    open_sequencer(home, founded.federation, exchange).turn()
    state, root = read_state(home)
    assert state.size == 1 and not file.exists()
    report = verify_url(url, log_vkey=founded.federation.log_vkey)
    assert (report.size, report.root.hex()) == (1, root)


@pytest.mark.xdist_group("postgresql")
def test_a_log_moves_from_its_file_into_a_database(
    founded: Founded, postgresql_server: PostgresqlServer
) -> None:
    home = Home(founded.coordinator)
    with pytest.raises(LogUnavailableError) as refused:
        move_log(home)
    assert "institution.yaml" in refused.value.remedy
    _, root = read_state(home)
    url = postgresql_server.url(postgresql_server.database())
    running = open_sequencer(home, founded.federation, DirectoryExchange(founded.exchange))
    home = name_database(founded, url)
    with pytest.raises(LogUnavailableError) as refused:
        move_log(home)
    assert "Stop" in refused.value.remedy
    running._log._storage.close()
    move_log(home)
    assert read_state(home)[1] == root == verify_url(url).root.hex()
    assert not (home.root / "ledger.sqlite").exists() and (home.root / "ledger.sqlite.moved").exists()
    open_sequencer(home, founded.federation, DirectoryExchange(founded.exchange)).turn()


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("postgresql://ledger:hunter2@db.hospital.example/ledger", "password"),
        ("postgresql://ledger@db.hospital.example/ledger?password=hunter2", "options"),
        ("ledger.sqlite", "not the address"),
        (5432, "string"),
    ],
)
def test_an_address_that_cannot_serve_is_refused_by_its_field(
    founded: Founded, address: object, says: str
) -> None:
    home = name_database(founded, address)
    for refuse in (lambda: home.read(CoordinatorConfig), lambda: read_state(home)):
        with pytest.raises(InputError) as refused:
            refuse()
        assert "institution.yaml: ledger: " in refused.value.public_message
        assert says in refused.value.public_message
        assert "hunter2" not in f"{refused.value}{refused.value.diagnostics()}"


def test_a_server_that_is_not_there_is_said_so(founded: Founded, tmp_path: Path) -> None:
    home = name_database(founded, f"postgresql://ledger@/ledger?host={tmp_path}")
    with pytest.raises(CodedError) as refused:
        read_state(home)
    assert refused.value.code == "ledger.storage.unreachable"
    assert str(tmp_path) not in str(refused.value)


@pytest.mark.parametrize("spoil", ["signature", "cap", "nonsense"])
def test_a_database_in_which_somebody_edited_a_budget_opens_for_nobody(founded: Founded, spoil: str) -> None:
    """Entries that were judged once are not judged again; they must be the ones that were."""
    file = founded.coordinator / "ledger.sqlite"
    with sqlite3.connect(file) as database:
        (entry,) = database.execute("SELECT data FROM entries WHERE idx = 0").fetchone()
        value = json.loads(entry)
        if spoil == "cap":  # a million times what the hospitals allow
            payload = base64.b64decode(value["payload"])
            edited = payload.replace(b'"epsilon_cap_micro":1,', b'"epsilon_cap_micro":1000000,')
            assert edited != payload
            value["payload"] = base64.b64encode(edited).decode()
        else:
            signature = value["signatures"][0]["sig"]  # one in 64 already begins with an A
            value["signatures"][0]["sig"] = ("B" if signature[0] == "A" else "A") + signature[1:]
        data = b"nonsense" if spoil == "nonsense" else canonical.encode(value)
        database.execute("UPDATE entries SET data = ? WHERE idx = 0", (data,))
    database.close()
    home = Home(founded.coordinator)
    for opening in (
        lambda: read_state(home),
        lambda: open_sequencer(home, founded.federation, DirectoryExchange(founded.exchange)),
    ):
        with pytest.raises(CodedError) as refused:
            opening()
        assert refused.value.code == "ledger.altered"
