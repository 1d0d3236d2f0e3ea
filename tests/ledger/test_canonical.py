"""Canonical JSON: where the quick check and RFC 8785 could differ, and what is refused."""

from __future__ import annotations

import pytest

from ledger import canonical
from ledger.canonical import NotCanonicalError


@pytest.mark.parametrize(
    "data",
    [b"[9007199254740992]", b"[-9007199254740992]", b"[NaN]", b"[Infinity]", b"[-Infinity]", b"[1.0]", b"[1e3]",
     b"[1E400]", b"[-0]", b'{"b":1,"a":2}', b'{"a":1,"a":1}', b"[1, 2]", b"[1]\n", b'["\\u0041"]', b'["\\/"]',
     b'["\\ud800"]',
     b'["\\u001F"]', '{"\ue000":1,"\U00010000":2}'.encode(), '["é"]'.encode("utf-16"), b"",
     b"[" * 3000 + b"]" * 3000],
)  # fmt: skip
def test_other_forms_are_refused(data):
    with pytest.raises(NotCanonicalError):
        canonical.decode(data)


@pytest.mark.parametrize(
    "data",
    [b"[9007199254740991]", b"[0.1,1e+21,1e-7]", b'{"a":2,"b":1}', b'["\\n\\u001f\x7f/"]', '["é"]'.encode(),
     '{"\U00010000":2,"\ue000":1}'.encode(), b'"9999999999999999999"', b'"NaN 1.0e5"', b"null"],
)  # fmt: skip
def test_the_canonical_form_is_read(data):
    assert canonical.encode(canonical.decode(data)) == data


@pytest.mark.parametrize("value", [2**53, float("nan"), float("inf"), "\ud800", {"\ud800": 1}, {1: 2}, b"x"])
def test_values_without_a_canonical_form_are_refused(value):
    with pytest.raises(NotCanonicalError):
        canonical.encode(value)
