"""`wardround rollout`: each module is imported only when its command runs. Real phases are `wardround phase`."""

from __future__ import annotations

from cyclopts import App

app = App(name="rollout", help="Walk a whole rollout on this machine, all roles at once.")
app.command(
    "wardround.rollout.demo:demo",
    name="demo",
    help="Walk a federation from its founding to a clinical champion, refused at every gate first.",
)
