"""`wardround ledger`: verify, read, prove, publish and watch what is on a ledger.

PATH may be the folder of a demo or of a federation, an exchange, a static export or an archive of one, a URL that
serves one, or a database. An auditor who trusts nothing of ours but `ledger` uses `python -m ledger`, which says
the same. One module a command here; what both command lines share lives in `ledger`.
"""

from __future__ import annotations

from cyclopts import App

app = App(name="ledger", help="Verify, read and prove what is on the ledger.")
witness = App(name="witness", help="Look at the sites' witnesses.")

# Lazily, by import path, as in `wardround.__main__`.
for path, name, summary in (
    (
        "verification:verify",
        "verify",
        "Check every signature, hash and event. Exit 3 if anything does not hold.",
    ),
    ("events:show", "show", "List the events."),
    ("proofs:prove", "prove", "Write an offline proof that an entry is on the ledger (tlog-proof)."),
    ("proofs:check", "check", "Verify such a proof, offline."),
    ("publication:export", "export", "Bring a static export up to date: the ledger as files, for anybody."),
):
    app.command(f"wardround.ledger.{path}", name=name, help=summary)
witness.command(
    "wardround.ledger.witnesses:status",
    name="status",
    help="What each witness cosigned last. Exit 3 if one holds evidence or disagrees with the export.",
)
app.command(witness)
