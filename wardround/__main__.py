"""The command line: one module a command group, imported only when its command runs.

Exit codes, the same for every command: 0 done, 2 bad input or usage, 3 policy violation, 1 anything else.
"""

from __future__ import annotations

import os
import sys
import traceback

from cyclopts import App, CycloptsError

from ledger.errors import CodedError, Kind

EXIT_CODES: dict[Kind, int] = {"input": 2, "policy": 3, "fault": 1}
USAGE = 2
FAULT = 1
INTERRUPTED = 130

# Third parties stay quiet and send nothing anywhere. Set before any of them is imported.
QUIET = {
    "DO_NOT_TRACK": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_LOGGING_TO_CONSOLE": "false",
    "PREFECT_LOGGING_LEVEL": "WARNING",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "GX_ANALYTICS_ENABLED": "false",
    "PYTHONWARNINGS": "ignore",
}

app = App(
    name="wardround",
    help="Federated training rounds for hospitals. Records stay; protected updates, receipts and evidence travel.",
    version_flags=["--version"],
)
app.command("wardround.demo:demo", name="demo")


def main(arguments: list[str] | None = None) -> None:
    """Run one command and exit with the code of what happened."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    sys.exit(run(arguments))


def run(arguments: list[str] | None = None) -> int:
    try:
        result = app(arguments, exit_on_error=False, print_error=True, result_action="return_value")
    except CycloptsError:
        return USAGE
    except CodedError as error:
        print(f"wardround: {error}", file=sys.stderr)  # noqa: T201
        return EXIT_CODES[error.kind]
    except KeyboardInterrupt:
        print("wardround: interrupted", file=sys.stderr)  # noqa: T201
        return INTERRUPTED
    except Exception as error:  # the text of a foreign exception may hold patient data
        if os.environ.get("WARDROUND_DEBUG"):
            traceback.print_exc()
        print(  # noqa: T201
            f"wardround: [fault.unexpected] an unexpected {type(error).__name__}. "
            "Set WARDROUND_DEBUG=1 to see where; do not share what it prints.",
            file=sys.stderr,
        )
        return FAULT
    return result if isinstance(result, int) else 0


if __name__ == "__main__":
    main()
