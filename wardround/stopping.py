"""What stops something is not to wait for a run that holds the home: its refusal says what helps at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def at_once() -> Iterator[None]:
    """A HomeError (home.in-use) of the coordinator's home with the way round it."""
    from adapters.home import IN_USE, HomeError

    try:
        yield
    except HomeError as busy:
        if busy.code != IN_USE:
            raise
        raise HomeError(
            busy.public_message,
            remedy="Stop that run now, give this command again, and start the run anew: it goes on where it was. Any "
            "site can report an incident meanwhile: `wardround phase incident --home SITE`.",
            code=IN_USE,
        ) from None
