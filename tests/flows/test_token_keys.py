"""A whole run in which every key that signs is on a PKCS #11 token, and nobody else may use them meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest

from ledger import signer_guard, token_session
from tests.consortium import SITES, Consortium
from tests.plans import tiny_plan
from tests.soft_token import PIN, SoftTokens


@pytest.mark.xdist_group("rounds-1")
async def test_a_run_with_all_keys_on_tokens(
    soft_tokens: SoftTokens, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    soft_tokens.make("coordinator", *SITES)
    monkeypatch.setenv("WARDROUND_TOKEN_PIN", PIN)
    consortium = Consortium.found(tmp_path, token_module=soft_tokens.module)
    outcome = await consortium.run(tiny_plan())
    assert outcome.errors == {}
    assert consortium.registered_versions() == 1
    assert not list(tmp_path.rglob("signing.pem")) + list(tmp_path.rglob("log.pem"))
    assert not list(tmp_path.rglob("witness.pem"))
    # Closed with their parties, so that the next process may sign.
    assert (token_session._sessions, signer_guard._held) == ({}, {})
