"""A log that a web server hands out as static files (c2sp.org/tlog-tiles), read with distrust.

    GET <url>/checkpoint, log.vkey, policy, tile/...      200 the bytes, 404 or 410 there is none

    https      the server's certificate is checked, against `ca` alone if one is given; plain http only to this
               machine, or where the caller allows it: it hides nothing, and the signatures still hold
    sizes      an answer is read up to `static_files.byte_limit`, never decompressed
    time       TIMEOUT_S for every step, FILE_S for a file in all, so that nobody trickles bytes for ever
    trouble    a lost connection, 429 and 5xx are tried again, ATTEMPTS times in all; redirects are followed
               on the same host only: another host is another promise
    ahead      up to AHEAD files that are announced by `expect` are on their way while one is being checked

A server that cannot be read has neither passed nor failed: UnreadableError. Files cannot be listed over HTTP.
What the bytes mean lives in `ledger`.
"""

from __future__ import annotations

import ipaddress
import random
import ssl
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from pathlib import Path

import httpx

from ledger.errors import InputError
from ledger.static_files import OversizedFileError, StaticFiles, UnreadableError, byte_limit

TIMEOUT_S = 15.0
FILE_S = 120.0
ATTEMPTS = 4
PAUSE_S = 0.5
LONGEST_PAUSE_S = 10.0
REDIRECTS = 3
AHEAD = 16
_AGAIN = frozenset((429, 500, 502, 503, 504))


class ServedUrlError(InputError):
    code = "served.url"


class UnreachableError(UnreadableError):
    code = "served.unreachable"


class CertificateError(UnreadableError):
    code = "served.certificate"


class RefusedAnswerError(UnreadableError):
    code = "served.answer"


class RedirectedError(UnreadableError):
    code = "served.redirect"


class TooSlowError(UnreadableError):
    code = "served.slow"


class ServedLog(StaticFiles):
    """The files below one URL (`static_files.StaticFiles`). Any thread may read."""

    def __init__(self, url: str, *, ca: Path | None = None, insecure_http: bool = False) -> None:
        self.url = _checked(url, insecure_http=insecure_http)
        self._client = httpx.Client(
            verify=_context(ca),
            timeout=TIMEOUT_S,
            headers={"Accept-Encoding": "identity", "User-Agent": "wardround"},
            limits=httpx.Limits(max_connections=AHEAD + 1, max_keepalive_connections=AHEAD + 1),
        )
        self._pool = ThreadPoolExecutor(AHEAD + 1, thread_name_prefix="served-log")
        self._lock = threading.Lock()
        self._expected: Iterator[str] = iter(())
        self._coming: dict[str, Future[bytes | None]] = {}

    def read(self, path: str) -> bytes | None:
        with self._lock:
            coming = self._coming.pop(path, None) or self._pool.submit(self._get, path)
            self._top_up()
        try:
            return coming.result(FILE_S + TIMEOUT_S)
        except FutureTimeoutError:  # bytes that trickle: no step of theirs is slow; closing ends the thread
            raise TooSlowError(f"{self._where(path)} took over {FILE_S:g} s", remedy=_LATER) from None

    def names(self, under: str) -> None:
        """HTTP cannot list."""

    def expect(self, paths: Iterable[str]) -> None:
        with self._lock:
            self._expected = iter(paths)
            self._top_up()

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._client.close()

    def _top_up(self) -> None:
        while len(self._coming) < AHEAD:
            path = next(self._expected, None)
            if path is None:
                return
            if path not in self._coming:
                self._coming[path] = self._pool.submit(self._get, path)

    def _get(self, path: str) -> bytes | None:
        deadline = time.monotonic() + FILE_S
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return self._attempt(path)
            except _TryAgain as trouble:
                if attempt == ATTEMPTS or time.monotonic() > deadline:
                    raise trouble.error from None
                time.sleep(_pause_s(attempt, trouble.after))
        raise AssertionError("unreachable")

    def _attempt(self, path: str) -> bytes | None:
        url = self.url.join(path)
        try:
            for _ in range(REDIRECTS + 1):
                with self._client.stream("GET", url) as answer:
                    if not answer.has_redirect_location:
                        return self._body(answer, path)
                    url = self._redirected(answer, path)
        except httpx.TimeoutException:
            raise _TryAgain(
                TooSlowError(f"{self._where(path)} did not answer within {TIMEOUT_S:g} s", remedy=_LATER)
            ) from None
        except httpx.TransportError as error:
            raise self._trouble(error, path) from None
        raise RedirectedError(f"{self._where(path)} redirects over and over")

    def _body(self, answer: httpx.Response, path: str) -> bytes | None:
        if answer.status_code in (404, 410):
            return None
        if answer.status_code in _AGAIN:
            error = RefusedAnswerError(f"{self._where(path)} answered {answer.status_code}", remedy=_LATER)
            raise _TryAgain(error, answer.headers.get("Retry-After"))
        if answer.status_code != 200:
            raise RefusedAnswerError(
                f"{self._where(path)} answered {answer.status_code}",
                remedy="Check the URL, and whether it is open to you.",
            )
        if answer.headers.get("Content-Encoding", "identity") != "identity":
            raise RefusedAnswerError(
                f"{self._where(path)} sent a compressed answer that was not asked for",
                remedy="Have the server send the files as they are.",
            )
        data, limit = bytearray(), byte_limit(path)
        for chunk in answer.iter_raw():
            data += chunk
            if len(data) > limit:
                raise OversizedFileError(path)
        return bytes(data)

    def _redirected(self, answer: httpx.Response, path: str) -> httpx.URL:
        target = answer.url.join(answer.headers["Location"])
        if (target.scheme, target.host, target.port) != (self.url.scheme, self.url.host, self.url.port):
            raise RedirectedError(
                f"{self._where(path)} redirects to another server, {target.scheme}://{target.netloc.decode()}",
                remedy="If you trust it, give its URL instead.",
            )
        return target

    def _trouble(self, error: httpx.TransportError, path: str) -> Exception:
        if isinstance(error.__context__, ssl.SSLCertVerificationError) or "CERTIFICATE" in str(error):
            return CertificateError(
                f"the certificate of {self.url.host} is not to be trusted",
                remedy="Give the authority that signed it with --ca, or in SSL_CERT_FILE.",
            )
        return _TryAgain(
            UnreachableError(
                f"{self._where(path)} could not be fetched ({type(error).__name__})",
                remedy="Check the URL and the network, then try again.",
            )
        )

    def _where(self, path: str) -> str:
        return f"{self.url}{path}"


_LATER = "Try again later."


class _TryAgain(Exception):  # noqa: N818 - not an error yet
    """What to raise if it does not pass, and what the server said of when."""

    def __init__(self, error: UnreadableError, after: str | None = None) -> None:
        self.error, self.after = error, after


def is_url(text: str) -> bool:
    return text.startswith(("https://", "http://"))


def _checked(text: str, *, insecure_http: bool) -> httpx.URL:
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL:
        raise ServedUrlError("this is no URL") from None
    if url.scheme not in ("https", "http") or not url.host or url.userinfo or url.query or url.fragment:
        raise ServedUrlError(
            "the URL of a log is https://host/prefix/, without user, password, query or fragment"
        )
    if url.scheme == "http" and not insecure_http and not _is_this_machine(url.host):
        raise ServedUrlError(
            "plain http shows everybody on the way what you read, and lets them withhold it",
            remedy="Use https, or allow it with --insecure-http.",
            code="served.insecure",
        )
    return url if url.path.endswith("/") else url.copy_with(path=f"{url.path}/")


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _context(ca: Path | None) -> ssl.SSLContext:
    if ca is None:
        return httpx.create_ssl_context()  # SSL_CERT_FILE or SSL_CERT_DIR, else the usual authorities
    try:
        return ssl.create_default_context(cafile=str(ca))
    except OSError:
        raise ServedUrlError(
            f"{ca} holds no certificate authority that can be read",
            remedy="Give a PEM file.",
            code="served.ca",
        ) from None


def _pause_s(attempt: int, after: str | None) -> float:
    """What the server asks for, within reason; else twice as long every time, not in step with others."""
    if after is not None and after.isascii() and after.isdigit():
        return min(float(after), LONGEST_PAUSE_S)
    return PAUSE_S * (1 << attempt - 1) * random.uniform(0.5, 1.0)  # noqa: S311 - not a secret
