"""The command line: one module a command group, imported only when its command runs.

Exit codes, the same for every command: 0 done, 2 bad input or usage, 3 policy violation, 1 anything else.
"""

from __future__ import annotations

import errno
import os
import sys
import traceback

from cyclopts import App, CycloptsError

from ledger.errors import CodedError, Kind, PolicyViolation

EXIT_CODES: dict[Kind, int] = {"input": 2, "policy": 3, "fault": 1}
USAGE = 2
FAULT = 1
INTERRUPTED = 130
TERMINATED = 143
DISK_FULL = (
    "[disk.full] the disk is full. Free space and give the command again: "
    "what was being written is not there, or whole."
)

# Third parties stay quiet and send nothing anywhere. Set before any of them is imported.
QUIET = {
    "DO_NOT_TRACK": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    # Prefect's own handler alone: its log of a failed flow is a traceback. The server still gets everything.
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_LEVEL": "WARNING",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "GX_ANALYTICS_ENABLED": "false",
    "PYTHONWARNINGS": "ignore",
}

app = App(
    name="wardround",
    help="Federated training rounds for hospitals. Records stay; protected updates, receipts and evidence travel.",
    version_flags=["--version"],
)
# Lazily, by import path: `wardround --help` loads none of these modules.
for path, name, summary in (
    ("demo:demo", "demo", "Train one model over several hospitals on this machine and show what came of it."),
    (
        "doctor:doctor",
        "doctor",
        "Check that this machine can run a round, and say what to do where it cannot.",
    ),
    ("data:app", "data", "Look at a site's data before anybody trains on them."),
    ("plans:app", "plan", "Write and check plans."),
    ("gate:gate", "gate", "Decide, without data, whether a plan would be admitted: what a CI build asks."),
    ("rules:app", "rules", "List and test the Rego rules that everything is judged by."),
    ("consent:app", "consent", "Take in, withdraw and show patients' consents, at the hospital alone."),
    ("federation:app", "federation", "Found a federation."),
    ("coordinator:app", "coordinator", "Run plans as the coordinator, once or on a schedule."),
    ("site:app", "site", "Take part in plans as a hospital, once or for as long as it is served."),
    ("phase.app:app", "phase", "Where the rollout stands; publish terms, measure, sign and end a phase."),
    (
        "rollout.app:app",
        "rollout",
        "Walk a whole rollout on this machine, from nothing to a clinical champion.",
    ),
    ("ledger.app:app", "ledger", "Verify, read and prove what is on the ledger."),
    ("evidence:app", "evidence", "Build, show and audit the evidence package of a round."),
    ("model:app", "model", "Export a registered model for use, and check an export."),
    ("predict:predict", "predict", "Print what an exported model says of your own files, offline."),
    ("audit:app", "audit", "Measure what training really gives away."),
):
    app.command(f"wardround.{path}", name=name, help=summary)


def main(arguments: list[str] | None = None) -> None:
    """Run one command and exit with the code of what happened."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    sys.exit(run(arguments))


def run(arguments: list[str] | None = None) -> int:
    try:
        result = app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
        sys.stdout.flush()
    except CycloptsError as error:
        chain = " ".join(("wardround", *(error.command_chain or ())))
        text = " ".join(str(error).split())
        print(f"wardround: [usage] {text} See `{chain} --help`.", file=sys.stderr)  # noqa: T201
        return USAGE
    except CodedError as error:
        print(f"wardround: {one_line(error)}", file=sys.stderr)  # noqa: T201
        return EXIT_CODES[error.kind]
    except KeyboardInterrupt:
        print("wardround: interrupted", file=sys.stderr)  # noqa: T201
        return INTERRUPTED
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes once more
        return 0
    except BaseException as error:
        if isinstance(error, SystemExit | GeneratorExit):
            raise
        if type(error).__name__ == "TerminationSignal":  # Prefect's own, for SIGTERM
            print("wardround: terminated", file=sys.stderr)  # noqa: T201
            return TERMINATED
        if os.environ.get("WARDROUND_DEBUG"):
            traceback.print_exc()
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            print(f"wardround: {DISK_FULL}", file=sys.stderr)  # noqa: T201
            return FAULT
        # Only its kind is shown: the text of a foreign exception may hold patient data.
        print(  # noqa: T201
            f"wardround: [fault.unexpected] an unexpected {type(error).__name__}. "
            "Set WARDROUND_DEBUG=1 to see where; do not share what it prints.",
            file=sys.stderr,
        )
        return FAULT
    return result if isinstance(result, int) else 0


def one_line(error: CodedError) -> str:
    """Code, what is wrong, what to do: two sentences on one line. Of several reasons each has its code, the first in
    front like any other."""
    said = error.public_message
    if isinstance(error, PolicyViolation):
        first, *others = error.violations
        said = "; ".join([first.message, *(f"[{other.code}] {other.message}" for other in others)])
    message = " ".join(said.split())
    if error.remedy and not message.endswith((".", "!", "?")):
        message += "."
    return f"[{error.code}] {message} {error.remedy}".rstrip()


if __name__ == "__main__":
    main()
