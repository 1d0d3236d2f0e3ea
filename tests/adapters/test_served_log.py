"""A log read from a real HTTP(S) server on this machine: an honest one, a broken one and a hostile one."""

from __future__ import annotations

import gzip
import itertools
import socket
import threading
import time
import tracemalloc
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from adapters import served_log
from adapters.served_log import AHEAD, ServedLog
from ledger import source
from ledger.errors import CodedError
from ledger.export import export
from ledger.keys import MemorySigner
from ledger.log import Log
from ledger.memory import MemoryStorage
from ledger.report import VerificationFailedError
from ledger.static_files import TEXT_BYTES
from ledger.verify import verify_static
from tests.adapters.log_server import Answer, LogServer, certificates, send
from tests.ledger.conftest import Federation


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export of 600 entries that once was one of 500."""
    federation, directory = Federation(), tmp_path_factory.mktemp("built") / "ledger"
    for count in (500, 100):
        federation.grow(count)
        export(federation.log, directory, federation.cosign(), policy=federation.policy)
    return directory


@pytest.fixture
def server(built: Path) -> Iterator[LogServer]:
    with LogServer(built) as running:
        yield running


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(served_log, "PAUSE_S", 0.01)


def refusal(server: LogServer, path: str = "checkpoint") -> CodedError:
    with ServedLog(server.url) as files, pytest.raises(CodedError) as caught:
        files.read(path)
    return caught.value


def failure(server: LogServer) -> VerificationFailedError:
    with ServedLog(server.url) as files, pytest.raises(VerificationFailedError) as caught:
        verify_static(files)
    return caught.value


# -- an honest server ------------------------------------------------------------------------------------------


def test_a_served_log_verifies_and_says_what_it_could_not_look_for(server: LogServer, built: Path) -> None:
    with ServedLog(server.url) as files:
        report = verify_static(files)
        made, entry = source.opened(files).prove(599)
    assert report.size == 600 and report.ok
    assert [check.name for check in report.checks if check.outcome != "passed"] == []
    detail = next(check.detail for check in report.checks if check.name == "tiles")
    assert detail.startswith("without partial tiles of older sizes and stray files")
    made.verify(entry, log_vkey=(built / "log.vkey").read_text().strip(), policy=None)
    assert {path: count for path, count in server.asked.items() if count > 2} == {}


def test_a_url_without_its_last_slash_is_the_same(server: LogServer) -> None:
    with ServedLog(server.url.removesuffix("/")) as files:
        assert files.url.path == "/logs/" and files.read("checkpoint")


def test_files_are_fetched_ahead_and_never_more_than_allowed(built: Path, tmp_path: Path) -> None:
    log = Log.create(MemoryStorage(), origin="o.example/log", signer=MemorySigner("o"))
    log.append([b"%d" % number for number in range(256 * 40)])
    export(log, tmp_path / "x")
    with LogServer(tmp_path / "x") as server, ServedLog(server.url) as files:
        server.delay_s = 0.02
        assert verify_static(files, events="skip").size == 10_240
    assert 4 < server.most_at_once <= AHEAD + 1
    assert max(server.asked.values()) == 1


def test_what_nobody_reads_does_not_pile_up(server: LogServer) -> None:
    with ServedLog(server.url) as files:
        files.expect(f"tile/0/x{number:03d}/000" for number in range(10 * AHEAD))
        time.sleep(0.5)
    assert len(server.asked) <= AHEAD


def test_tls_is_checked_against_the_given_authority(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ca, both = certificates(tmp_path)
    with LogServer(built, certificate=both) as server:
        with ServedLog(server.url, ca=ca) as files:
            assert verify_static(files).size == 600
        error = refusal(server)
        assert (error.code, error.kind) == ("served.certificate", "fault") and "--ca" in error.remedy
        monkeypatch.setenv("SSL_CERT_FILE", str(ca))
        with ServedLog(server.url) as files:
            assert files.read("checkpoint")
        other, _ = certificates(_folder(tmp_path / "other"))
        with ServedLog(server.url, ca=other) as files, pytest.raises(CodedError) as caught:
            files.read("checkpoint")
        assert caught.value.code == "served.certificate"
        with ServedLog(server.url.replace("127.0.0.1", "localhost"), ca=ca) as files:
            with pytest.raises(CodedError) as caught:
                files.read("checkpoint")  # the certificate names the address, not this name
            assert caught.value.code == "served.certificate"


# -- URLs ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("http://ledger.example/", "served.insecure"),
        ("http://10.0.0.1/", "served.insecure"),
        ("http://localhost.example/", "served.insecure"),
        ("https://user:secret@ledger.example/", "served.url"),
        ("https://ledger.example/?token=secret", "served.url"),
        ("https://ledger.example/#part", "served.url"),
        ("https:///path", "served.url"),
        ("https://ledger.example:port/", "served.url"),
        ("ftp://ledger.example/", "served.url"),
    ],
)
def test_urls_that_are_refused_before_anything_is_sent(url: str, code: str) -> None:
    with pytest.raises(CodedError) as caught:
        ServedLog(url)
    assert (caught.value.code, caught.value.kind) == (code, "input")
    assert "secret" not in str(caught.value)


def test_plain_http_where_it_is_allowed() -> None:
    for url in ("http://localhost:1/", "http://127.0.0.1:1/", "http://[::1]:1/"):
        ServedLog(url).close()
    ServedLog("http://ledger.example/", insecure_http=True).close()


def test_an_authority_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    for name in ("ca.pem", "nothing.pem"):
        with pytest.raises(CodedError) as caught:
            ServedLog("https://ledger.example/", ca=tmp_path / name)
        assert (caught.value.code, caught.value.kind) == ("served.ca", "input")


# -- a broken server -------------------------------------------------------------------------------------------


def test_trouble_that_passes_is_waited_out(server: LogServer, built: Path) -> None:
    data = (built / "checkpoint").read_bytes()
    tries = itertools.count()

    def answer(to: BaseHTTPRequestHandler) -> None:
        match next(tries):
            case 0:
                send(to, b"busy", status=503, Retry_After="0")
            case 1:
                send(to, data[:50], length=len(data))  # cut off
            case 2:
                send(to, b"slower", status=429)
            case _:
                send(to, data)

    server.answers["checkpoint"] = answer
    with ServedLog(server.url) as files:
        assert files.read("checkpoint") == data
    assert server.asked["checkpoint"] == 4


@pytest.mark.parametrize(
    ("answer", "code", "asked"),
    [
        (lambda to: send(to, b"", status=503), "served.answer", 4),
        (lambda to: send(to, b"", status=500), "served.answer", 4),
        (lambda to: send(to, b"", status=429, Retry_After="0"), "served.answer", 4),
        (lambda to: send(to, b"", status=403), "served.answer", 1),
        (lambda to: send(to, b"", status=206), "served.answer", 1),
        (lambda to: send(to, b"cut", length=900), "served.unreachable", 4),
        (lambda to: to.connection.shutdown(socket.SHUT_RDWR), "served.unreachable", 4),
        (lambda to: to.wfile.write(b"not http\r\n\r\n"), "served.unreachable", 4),
    ],
)  # fmt: skip
def test_trouble_that_stays_is_no_verdict(server: LogServer, answer: Answer, code: str, asked: int) -> None:
    server.answers["checkpoint"] = server.answers["tile/0/001"] = answer
    error = refusal(server)
    assert (error.code, error.kind) == (code, "fault") and server.asked["checkpoint"] == asked
    assert f"{server.url}checkpoint" in error.public_message and error.remedy
    del server.answers["checkpoint"]
    with ServedLog(server.url) as files, pytest.raises(CodedError) as caught:
        verify_static(files)
    assert (caught.value.code, caught.value.kind) == (code, "fault")
    assert not isinstance(caught.value, VerificationFailedError)


def test_nobody_is_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with ServedLog(f"http://127.0.0.1:{port}/") as files, pytest.raises(CodedError) as caught:
        files.read("checkpoint")
    assert caught.value.code == "served.unreachable" and caught.value.kind == "fault"


def test_a_missing_file_fails_its_check(server: LogServer) -> None:
    server.answers["tile/entries/001"] = lambda to: send(to, b"", status=404)
    error = failure(server)
    assert (error.number, error.index) == (5, 256) and "missing" in str(error)


def test_slow_servers_are_given_up(server: LogServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served_log, "TIMEOUT_S", 0.3)
    monkeypatch.setattr(served_log, "ATTEMPTS", 2)
    release = threading.Event()
    server.answers["checkpoint"] = lambda to: (release.wait(5), None)[1]
    assert refusal(server).code == "served.slow"
    release.set()
    monkeypatch.setattr(served_log, "FILE_S", 0.5)

    def trickle(to: BaseHTTPRequestHandler, head: bytes) -> None:
        to.wfile.write(head)
        for _ in range(200):
            to.wfile.write(b"x")
            time.sleep(0.1)

    for head in (b"HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\n", b"HTTP/1.1 200 OK\r\nX-Long: "):
        server.answers["checkpoint"] = lambda to, head=head: trickle(to, head)
        began = time.monotonic()
        assert refusal(server).code == "served.slow"
        assert time.monotonic() - began < 15  # of 20


# -- a hostile server ------------------------------------------------------------------------------------------


def test_huge_answers_are_not_read_to_their_end(server: LogServer) -> None:
    sent = []

    def flood(to: BaseHTTPRequestHandler) -> None:
        to.send_response(200)
        to.send_header("Connection", "close")
        to.end_headers()
        to.close_connection = True
        for _ in range(400):
            to.wfile.write(bytes(1 << 20))
            sent.append(1)

    for path in ("checkpoint", "tile/0/000", "policy"):
        server.answers[path] = flood
        sent.clear()
        tracemalloc.start()
        error = refusal(server, path)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert (error.code, error.kind) == ("ledger.files.oversized", "input")
        assert most < TEXT_BYTES * 24 and len(sent) < 40
        assert server.asked[path] == 1


def test_an_oversized_tile_fails_its_check(server: LogServer, built: Path) -> None:
    server.answers["tile/0/001"] = lambda to: send(to, bytes(8193))
    error = failure(server)
    assert (error.number, error.index) == (5, 256) and "8192" in str(error)
    del server.answers["tile/0/001"]
    server.answers["tile/1/000.p/2"] = lambda to: send(to, bytes(8193))
    error = failure(server)
    assert error.number == 6 and error.index == 0


def test_compressed_answers_are_refused_unread(server: LogServer) -> None:
    bomb = gzip.compress(bytes(1 << 20))
    server.answers["checkpoint"] = lambda to: send(to, bomb, Content_Encoding="gzip")
    assert refusal(server).code == "served.answer"
    server.answers["checkpoint"] = lambda to: send(to, to.headers["Accept-Encoding"].encode())
    with ServedLog(server.url) as files:
        assert files.read("checkpoint") == b"identity"


def test_redirects_stay_on_the_host(server: LogServer, built: Path) -> None:
    for target in (f"{server.url}elsewhere", "elsewhere", "/logs/elsewhere"):
        server.answers["checkpoint"] = lambda to, target=target: send(to, b"", status=302, Location=target)
        server.answers["elsewhere"] = lambda to: send(to, b"found")
        with ServedLog(server.url) as files:
            assert files.read("checkpoint") == b"found"
    with LogServer(built) as other:
        elsewhere = (
            other.url,
            server.url.replace("127.0.0.1", "localhost"),
            server.url.replace("http:", "https:"),
            "file:///etc/passwd",
        )
        for target in elsewhere:
            server.answers["checkpoint"] = lambda to, target=target: send(
                to, b"", status=302, Location=target
            )
            error = refusal(server)
            assert (error.code, error.kind) == ("served.redirect", "fault"), target
        assert not other.asked
    server.answers["checkpoint"] = lambda to: send(to, b"", status=307, Location="checkpoint")
    server.asked.clear()
    assert refusal(server).code == "served.redirect" and server.asked["checkpoint"] == 4


@pytest.mark.parametrize(
    ("path", "number"),
    [
        ("tile/entries/000", 5),
        ("tile/entries/002.p/88", 5),
        ("tile/0/001", 5),
        ("tile/1/000.p/2", 6),
        ("checkpoint", 3),
    ],
)
def test_a_flipped_byte_fails_the_check_that_it_would_in_a_folder(
    server: LogServer, built: Path, path: str, number: int
) -> None:
    data = bytearray((built / path).read_bytes())
    data[len(data) // 3 if path != "checkpoint" else data.index(b"\n600\n") + 10] ^= 1
    server.answers[path] = lambda to: send(to, bytes(data))
    error = failure(server)
    assert error.number == number or (path == "checkpoint" and error.number in (2, 3))


def test_a_checkpoint_that_changes_between_two_reads_is_read_once(server: LogServer, built: Path) -> None:
    data = (built / "checkpoint").read_bytes()
    server.answers["checkpoint"] = lambda to: send(to, data if server.asked["checkpoint"] == 1 else b"other")
    with ServedLog(server.url) as files:
        assert verify_static(files).size == 600
    assert server.asked["checkpoint"] == 1


def _folder(path: Path) -> Path:
    path.mkdir()
    return path
