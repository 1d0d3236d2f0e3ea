"""The body of add-checkpoint: it comes back as it was written, and what is malformed is refused by name."""

from __future__ import annotations

import pytest

from ledger.witness_request import MalformedRequestError, encode_request, parse_request
from tests.ledger.witnessing import refused


def test_a_request_comes_back_as_it_was_written(federation):
    federation.grow(7)
    body = federation.log.witness_request(3)
    assert body.startswith(b"old 3\n")
    assert encode_request(*parse_request(body)) == body


NOTE = b"\n\norigin\n"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "malformed"),
        (b"old 1\n", "malformed"),
        ("old ü\n\n".encode(), "malformed"),
        (b"new 1" + NOTE, "old"),
        (b"old 01" + NOTE, "old"),
        (b"old" + NOTE, "old"),
        (b"old 1\nAAAA" + NOTE, "hash"),
        (b"old 1\n" + b"A" * 43 + NOTE, "hash"),
        (b"old 1" + (b"\n" + b"A" * 43 + b"=") * 64 + NOTE, "too-long"),
    ],
)
def test_malformed_requests(data, code):
    assert refused(lambda: parse_request(data), MalformedRequestError) == f"ledger.witness-request.{code}"
