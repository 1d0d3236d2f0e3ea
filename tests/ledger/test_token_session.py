"""The login to a token: one attempt a PIN, one new login after a loss, and its process alone."""

from __future__ import annotations

import pickle
import shutil
import threading
import traceback
from pathlib import Path

import pytest

from ledger import token_session
from ledger.token_session import Pin, PinError, TokenAddress
from ledger.token_signer import TokenKey, TokenSigner
from tests.ledger.test_token import refused
from tests.soft_token import PIN, SoftTokens


class CountedToken:
    """A token that counts logins and can claim flags."""

    def __init__(self, token: token_session.Token, logins: list[str], flags: int) -> None:
        self._token, self._logins = token, logins
        self.serial, self.flags = token.serial, token.flags | flags

    def open(self, user_pin: str | None = None) -> token_session.Session:
        if user_pin is not None:
            self._logins.append(user_pin)
        return self._token.open(user_pin=user_pin)


class Spy:
    """Stands before the library."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import pkcs11

        self.logins: list[str] = []
        self.flags = 0
        self.away = False
        self._lib = pkcs11.lib
        monkeypatch.setattr("pkcs11.lib", self._open)

    def _open(self, path: str) -> Spy:
        self._library = self._lib(path)
        return self

    def get_tokens(self, token_label: str | None, token_serial: bytes | None) -> list[CountedToken]:
        if self.away:
            return []
        found = self._library.get_tokens(token_label=token_label, token_serial=token_serial)
        return [CountedToken(token, self.logins, self.flags) for token in found]


@pytest.fixture
def tokens(soft_tokens: SoftTokens) -> SoftTokens:
    soft_tokens.make("ward", "other")
    return soft_tokens


@pytest.fixture
def spy(tokens: SoftTokens, monkeypatch: pytest.MonkeyPatch) -> Spy:
    return Spy(monkeypatch)


# -- PINs ----------------------------------------------------------------------------------------------------


def test_a_wrong_pin_is_tried_once_and_then_never_again(tokens: SoftTokens, spy: Spy) -> None:
    for _ in range(3):
        assert refused(lambda: tokens.open(pin="wrong-pin")).code == "ledger.token.pin"
    assert spy.logins == ["wrong-pin"]
    tokens.generate().close()
    assert spy.logins == ["wrong-pin", PIN]


@pytest.mark.parametrize("flag", ["USER_PIN_FINAL_TRY", "USER_PIN_LOCKED"])
def test_the_last_try_is_left_to_people(tokens: SoftTokens, spy: Spy, flag: str) -> None:
    import pkcs11

    spy.flags = int(pkcs11.TokenFlag[flag])
    assert refused(tokens.open).code == "ledger.token.pin-locked"
    assert spy.logins == []


def test_an_open_token_does_not_vouch_for_another_pin(tokens: SoftTokens, spy: Spy) -> None:
    signer = tokens.generate()
    assert refused(lambda: tokens.open(pin="wrong-pin")).code == "ledger.token.pin"
    beside = tokens.open()
    assert spy.logins == [PIN]
    signer.close()
    beside.public.verify(beside.sign(b"x"), b"x")  # the last one logs out, not the first
    beside.close()


def test_a_pin_is_shown_nowhere(tokens: SoftTokens) -> None:
    wrong = "-".join(("wrong", "pin"))  # in no line of source that a traceback quotes
    with pytest.raises(PinError) as caught:
        tokens.open(pin=wrong)
    assert wrong not in "".join(traceback.format_exception(caught.value))
    assert caught.value.__suppress_context__
    signer = tokens.generate()
    for thing in (signer, signer._session, signer._session._pin, vars(signer), vars(signer._session)):
        assert PIN not in repr(thing) and PIN not in str(thing)
    with pytest.raises(TypeError, match="stays in its process"):
        pickle.dumps(signer._session._pin)
    with pytest.raises(PinError):
        Pin("")
    signer.close()


# -- what is not there ---------------------------------------------------------------------------------------


def test_missing_parts_are_named(tokens: SoftTokens, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(address: TokenAddress, key: str = "key") -> TokenSigner:
        return TokenSigner.open(address, TokenKey(key), name="ward", pin=Pin(PIN), guard=tokens.keys)

    assert refused(tokens.open).code == "ledger.token.key-missing"
    assert refused(lambda: tokens.open(on="none")).code == "ledger.token.missing"
    (tmp_path / "relative.so").symlink_to(tokens.module)
    monkeypatch.chdir(tmp_path)  # what is run must not depend on where
    for module in (Path("/no/such/library.so"), Path("relative.so"), Path("/etc/hostname")):
        error = refused(lambda module=module: opened(TokenAddress(module, label="ward")))
        assert error.code == "ledger.token.module" and str(module) in str(error)
    assert refused(lambda: opened(tokens.address(), "")).code == "ledger.token.key"
    signer = tokens.generate()
    serial = signer._session._serial.decode()
    by_serial = opened(TokenAddress(tokens.module, serial=serial))
    assert by_serial.public == signer.public
    by_serial.close()
    wrong = TokenAddress(tokens.module, label="other", serial=serial)
    assert refused(lambda: opened(wrong)).code == "ledger.token.missing"
    signer.close()
    monkeypatch.setitem(__import__("sys").modules, "pkcs11", None)
    assert refused(tokens.open).code == "ledger.token.module"


def test_a_library_of_two_names_is_one(tokens: SoftTokens, tmp_path: Path) -> None:
    signer = tokens.generate()
    alias = tmp_path / "alias.so"
    alias.symlink_to(tokens.module)
    same = TokenAddress(alias, label="ward")
    beside = TokenSigner.open(same, TokenKey("key"), name="ward", pin=Pin(PIN), guard=tokens.keys)
    signer.close()
    beside.public.verify(beside.sign(b"x"), b"x")
    beside.close()


def test_two_tokens_of_one_label_need_a_serial(soft_tokens: SoftTokens) -> None:
    soft_tokens.make("ward", "ward")
    assert refused(soft_tokens.open).code == "ledger.token.ambiguous"


# -- loss ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("times", [1, 3])
def test_a_lost_session_is_logged_in_again(tokens: SoftTokens, spy: Spy, times: int) -> None:
    one, two = tokens.generate("one"), tokens.generate("two", scheme="ecdsa-p256")
    for number in range(times):
        one._session._session.close()  # as if the token had been restarted
        one.public.verify(one.sign(b"x"), b"x")
        two.public.verify(two.sign(b"x"), b"x")
        assert spy.logins == [PIN] * (number + 2)
    one.close()
    two.close()


def test_a_token_that_stays_away_ends_the_session(tokens: SoftTokens, spy: Spy) -> None:
    signer = tokens.generate()
    shutil.move(tokens.tokens, tokens.tokens.with_name("away"))
    for _ in range(3):
        assert refused(lambda: signer.sign(b"x")).code == "ledger.token.lost"
    assert len(spy.logins) <= 2
    shutil.move(tokens.tokens.with_name("away"), tokens.tokens)
    assert refused(lambda: signer.sign(b"x")).code == "ledger.token.lost"  # until it is opened anew
    signer.close()


def test_a_token_that_comes_back_too_late_is_opened_anew(tokens: SoftTokens, spy: Spy) -> None:
    signer = tokens.generate()
    signer._session._session.close()
    spy.away = True
    assert refused(lambda: signer.sign(b"x")).code == "ledger.token.lost"
    spy.away = False
    assert refused(lambda: signer.sign(b"x")).code == "ledger.token.lost"
    anew = tokens.open()
    assert refused(lambda: signer.sign(b"x")).code == "ledger.token.lost"
    signer.close()  # takes nothing from the new session
    anew.public.verify(anew.sign(b"x"), b"x")
    anew.close()


def test_a_pin_changed_meanwhile_is_tried_once(tokens: SoftTokens, spy: Spy) -> None:
    signer = tokens.generate()
    signer._session.write(lambda session: session.set_pin(PIN, "another-pin"))
    signer._session._session.close()
    assert refused(lambda: signer.sign(b"x")).code == "ledger.token.pin"
    for _ in range(3):
        assert refused(lambda: signer.sign(b"x")).code == "ledger.token.lost"
    assert refused(tokens.open).code == "ledger.token.pin"
    assert spy.logins == [PIN, PIN]
    signer.close()


def test_a_key_replaced_under_its_label_signs_nothing(tokens: SoftTokens) -> None:
    from pkcs11.constants import Attribute

    signer = tokens.generate()

    def destroy(session: token_session.Session) -> None:
        for found in list(session.get_objects({Attribute.LABEL: "key"})):
            found.destroy()

    signer._session.write(destroy)
    tokens.generate().close()
    assert refused(lambda: signer.sign(b"x")).code == "ledger.token.key"
    signer.close()


# -- threads and processes -----------------------------------------------------------------------------------

THREADS = """
import threading
signers = [opened(key, token) for token in ('ward', 'other') for key in ('one', 'two')]
wrong = []
def work(number):
    for turn in range(50):
        try:
            signer = opened('one' if number % 2 else 'two', 'ward') if turn % 10 == 9 else signers[number % 4]
            signer.public.verify(signer.sign(b'%d %d' % (number, turn)), b'%d %d' % (number, turn))
            if signer not in signers:
                signer.close()
        except BaseException as error:
            wrong.append(repr(error))
threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(len(wrong), wrong[:3])
"""


def test_eight_threads_sign_on_two_tokens_at_once(tokens: SoftTokens) -> None:
    """In a process of its own: without the lock the library does not answer wrongly, it crashes."""
    for token in ("ward", "other"):
        tokens.generate("one", on=token).close()
        tokens.generate("two", on=token, scheme="ecdsa-p256").close()
    done = tokens.start(THREADS)
    out, err = done.communicate(timeout=60)
    assert (done.returncode, out.strip()) == (0, "0 []"), err


def test_a_forked_child_signs_nothing(tokens: SoftTokens) -> None:
    """Not even if another thread held the lock while the process forked."""
    script = """
import os, threading, time
from ledger import token_session
signer = opened()
held = threading.Event()
def hold():
    with token_session._library:
        held.set()
        time.sleep(1)
threading.Thread(target=hold).start()
held.wait()
child = os.fork()
if not child:
    for call in (lambda: signer.sign(b'x'), opened):
        try:
            call()
            print('signed')
        except CodedError as error:
            print(error.code)
    signer.close()
    os._exit(0)
os.waitpid(child, 0)
signer.sign(b'x')
print('parent signs on')
"""
    tokens.generate().close()
    done = tokens.start(script)
    out, err = done.communicate(timeout=60)
    assert out.split("\n")[:3] == ["ledger.token.forked", "ledger.token.forked", "parent signs on"], err


def test_the_library_is_not_needed_to_verify() -> None:
    import subprocess
    import sys

    script = (
        "import sys; sys.modules['pkcs11'] = None\n"
        "import ledger.cli, ledger.verify, ledger.token_signer\n"
        "from adapters.home import Home\n"
        "print('pkcs11' in sys.modules and sys.modules['pkcs11'] is None)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "True", done.stderr


def test_close_from_many_threads_logs_out_once(tokens: SoftTokens) -> None:
    tokens.generate().close()
    signers = [tokens.open() for _ in range(16)]
    threads = [threading.Thread(target=signer.close) for signer in signers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert token_session._sessions == {} and list(tokens.keys.iterdir())
