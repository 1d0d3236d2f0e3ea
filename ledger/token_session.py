"""A login to a PKCS #11 token, shared by everything in this process that signs with its keys.

The rules of PKCS #11 2.40 that shape this module: login and logout count for all sessions of a process on a token
(section 5.6), so there is one session a token and the last holder logs out; the library may refuse or mix up
calls of two threads (5.4), so one lock covers every call; after a fork the child's handles mean nothing
(6.6.1), so it is refused. A PIN is tried once: tokens lock themselves after a few wrong ones. A lost session is
logged in again once; if that fails, it is over until somebody opens the token anew.

`pkcs11` is imported on use: whoever only verifies needs neither it nor a token. Keys and signatures live in
`ledger.token_signer`, who may sign at all in `ledger.signer_guard`.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ledger.errors import CodedError, InputError

if TYPE_CHECKING:
    from pkcs11 import PKCS11Error, Session, Token

T = TypeVar("T")


class TokenError(CodedError):
    """The token answered with an error."""

    code = "ledger.token.failed"


class TokenLostError(CodedError):
    code = "ledger.token.lost"


class TokenForkedError(CodedError):
    code = "ledger.token.forked"


class TokenModuleError(InputError):
    code = "ledger.token.module"


class TokenMissingError(InputError):
    code = "ledger.token.missing"


class PinError(InputError):
    code = "ledger.token.pin"


class Pin:
    """A user PIN that no repr, message or pickle shows."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        if not text:
            raise PinError("the PIN is empty")
        self._text = text

    def reveal(self) -> str:
        """For the login alone."""
        return self._text

    def digest(self) -> bytes:
        return hashlib.sha256(self._text.encode()).digest()

    def __repr__(self) -> str:
        return "Pin(...)"

    def __reduce__(self) -> str:
        raise TypeError("a PIN stays in its process")


@dataclass(frozen=True, slots=True)
class TokenAddress:
    """Which token: the vendor's PKCS #11 library, and the token's label, serial number or both."""

    module: Path
    label: str = ""
    serial: str = ""

    @property
    def library(self) -> Path:
        """Where the library really lies: loaded by two names, it would be initialised twice and refuse."""
        return self.module.resolve()

    def __str__(self) -> str:
        return f"the token {self.label!r}" if self.label else f"the token of serial number {self.serial!r}"


# One for all libraries: what they share is theirs to know, and a signature takes a millisecond.
_library = threading.RLock()
_process: int | None = None
_sessions: dict[tuple[Path, bytes], TokenSession] = {}
_refused_pins: set[tuple[bytes, bytes]] = set()


class TokenSession:
    """One logged-in session; made by `open_session`, closed as often as it was opened."""

    def __init__(self, address: TokenAddress, serial: bytes, pin: Pin, session: Session) -> None:
        self.address = address
        self.holders = 0
        self._serial, self._pin, self._session = serial, pin, session
        self._ended = False

    def use(self, operation: Callable[[Session], T]) -> T:
        """Run `operation` alone on the token. After a lost session it runs once more, after one new login."""
        _check_process()
        with _library:
            if self._ended:
                raise self._lost()
            import pkcs11

            try:
                return operation(self._session)
            except _losses() as error:
                self._log_in_again(error)
            except pkcs11.PKCS11Error as error:
                raise _failed(self.address, error) from None
            try:
                return operation(self._session)
            except pkcs11.PKCS11Error as error:
                self._ended = True
                raise self._lost(error) from None

    def write(self, operation: Callable[[Session], T]) -> T:
        """Like `use`, in a session that may change the token."""

        def writing(session: Session) -> T:
            writable = session.token.open(rw=True)  # logged in already, as every session of this process is
            try:
                return operation(writable)
            finally:
                writable.close()

        return self.use(writing)

    def accepts(self, pin: Pin) -> bool:
        return not self._ended and self._pin.digest() == pin.digest()

    @property
    def ended(self) -> bool:
        return self._ended

    def close(self) -> None:
        """Let go; the last holder logs out. In a forked child this leaves the parent's session alone."""
        if _process != os.getpid():
            return
        with _library:
            self.holders -= 1
            if self.holders:
                return
            key = (self.address.library, self._serial)
            if _sessions.get(key) is self:
                del _sessions[key]
            if not self._ended:
                self._ended = True
                self._close_quietly()

    def _log_in_again(self, error: PKCS11Error) -> None:
        self._close_quietly()
        try:
            self._session = _log_in(self.address, _find(self.address), self._pin, again=True)
        except PinError:
            self._ended = True
            raise
        except CodedError:
            self._ended = True
            raise self._lost(error) from None

    def _close_quietly(self) -> None:
        import pkcs11

        with contextlib.suppress(pkcs11.PKCS11Error):  # it may be gone, which is what we want
            self._session.close()

    def _lost(self, error: PKCS11Error | None = None) -> TokenLostError:
        return TokenLostError(
            f"{self.address} was lost and could not be logged in to again",
            remedy="See that it is connected and that its PIN has not changed, then start this process again.",
            diagnostics="" if error is None else type(error).__name__,
        )


def open_session(address: TokenAddress, pin: Pin) -> TokenSession:
    """The session of this process on that token, logged in if nobody here was. Close it when done."""
    global _process
    _check_process()
    with _library:
        _process = os.getpid()
        token = _find(address)
        key = (address.library, token.serial)
        session = _sessions.get(key)
        if session is None or session.ended:
            session = TokenSession(address, token.serial, pin, _log_in(address, token, pin))
            _sessions[key] = session
        elif not session.accepts(pin):
            raise PinError(
                f"{address} is open in this process under another PIN", remedy="Give the same PIN."
            )
        session.holders += 1
        return session


def _check_process() -> None:
    """Before the lock is taken: a fork may have copied it while another thread held it."""
    if _process not in (None, os.getpid()):
        raise TokenForkedError(
            "this process was forked from one that uses a token",
            remedy="Sign in the process that opened the token, or spawn a new one instead of forking.",
        )


def _find(address: TokenAddress) -> Token:
    try:
        import pkcs11
    except ImportError:
        raise TokenModuleError(
            "the package python-pkcs11 is not installed",
            remedy="Install it as deployments/constraints.txt says.",
        ) from None
    if not address.module.is_absolute() or not address.module.is_file():
        raise TokenModuleError(
            f"there is no PKCS #11 library at {address.module}",
            remedy="Give the absolute path of the vendor's.",
        )
    try:
        library = pkcs11.lib(str(address.library))
        found = list(
            library.get_tokens(
                token_label=address.label or None,
                token_serial=address.serial.encode() if address.serial else None,
            )
        )
    except pkcs11.PKCS11Error as error:
        raise TokenModuleError(
            f"the PKCS #11 library {address.module} cannot be used ({type(error).__name__})",
            remedy="Check it with its vendor's tools under this user and environment.",
        ) from None
    if not found:
        raise TokenMissingError(
            f"{address} is not there", remedy="Connect or initialise it, and check the name given."
        )
    if len(found) > 1:
        raise TokenMissingError(
            f"{len(found)} tokens answer to {address}",
            remedy="Name it by its serial number.",
            code="ledger.token.ambiguous",
        )
    return found[0]


def _log_in(address: TokenAddress, token: Token, pin: Pin, *, again: bool = False) -> Session:
    """Exactly one attempt, and none that could lock the token or was refused before."""
    import pkcs11

    attempt = (token.serial, pin.digest())
    if attempt in _refused_pins:
        raise PinError(
            f"{address} refused this PIN before; it was not tried again",
            remedy="Correct the PIN and start this process again.",
        )
    if token.flags & (pkcs11.TokenFlag.USER_PIN_FINAL_TRY | pkcs11.TokenFlag.USER_PIN_LOCKED):
        raise PinError(
            f"{address} is locked, or one wrong PIN away from it; the PIN was not tried",
            remedy="Log in once with the vendor's tools, or have the security officer reset the PIN.",
            code="ledger.token.pin-locked",
        )
    try:
        return token.open(user_pin=pin.reveal())
    except pkcs11.UserAlreadyLoggedIn:
        if again:  # the session was lost and the login, which took this very PIN, was not
            return token.open()
        raise TokenError(
            f"other code in this process is logged in to {address}", remedy="Use the token in one place only."
        ) from None
    except (pkcs11.PinIncorrect, pkcs11.PinInvalid, pkcs11.PinLenRange, pkcs11.PinLocked, pkcs11.PinExpired):
        _refused_pins.add(attempt)
        raise PinError(
            f"{address} refuses the PIN, which was tried once",
            remedy="Correct it before the next start: a few wrong PINs lock a token.",
        ) from None
    except pkcs11.PKCS11Error as error:
        raise _failed(address, error) from None


def _losses() -> tuple[type[PKCS11Error], ...]:
    """What a token says that was pulled, restarted or logged out behind our back."""
    import pkcs11

    return (
        pkcs11.SessionHandleInvalid, pkcs11.SessionClosed, pkcs11.UserNotLoggedIn, pkcs11.KeyHandleInvalid,
        pkcs11.ObjectHandleInvalid, pkcs11.DeviceRemoved, pkcs11.DeviceError, pkcs11.TokenNotPresent,
        pkcs11.TokenNotRecognised, pkcs11.GeneralError,
    )  # fmt: skip


def _failed(address: TokenAddress, error: PKCS11Error) -> TokenError:
    return TokenError(
        f"{address} failed ({type(error).__name__})",
        remedy="Check it with its vendor's tools, then try again.",
    )
