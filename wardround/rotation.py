"""`rotate-key` of `wardround site` and `wardround coordinator`: make the institution's next signing key."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from rich.console import Console


def begin(root: Path, role: Literal["site", "coordinator"]) -> None:
    """Make the key where the one in force is (a file or the token), and say what happens next."""
    from adapters.home import CoordinatorConfig, Home, SiteConfig
    from adapters.key_rotation import KeyRotation

    home = Home(root)
    config: SiteConfig | CoordinatorConfig
    config = home.read(SiteConfig) if role == "site" else home.read(CoordinatorConfig)
    try:
        made = KeyRotation(home, config).begin()
    finally:
        home.close()
    console = Console(highlight=False)
    console.print(f"made key  {made.public.keyid}", soft_wrap=True)
    console.print(
        f"The next `wardround {role} run` puts it on the ledger, signed by both keys"
        f"{', as soon as it finds a plan' if role == 'site' else ''}. Until then the old key is in force.",
        soft_wrap=True,
    )
