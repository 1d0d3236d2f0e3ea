"""The software bill of materials of this process's environment: CycloneDX 1.6, from the installed distributions.

It differs from machine to machine, so it lies beside the evidence and is part of none. Names and versions only, no
paths: where an institution installs its software is its own affair. The model's own bill is `ml_bom`.
"""

from __future__ import annotations

import platform
import re
import uuid
from functools import cache
from importlib.metadata import distributions

from ledger import canonical
from ledger.canonical import JsonValue

_RUNS = re.compile(r"[-_.]+")


@cache
def environment_bom() -> bytes:
    """The document as canonical JSON; the same for the same set of distributions."""
    found = sorted(
        {
            (_RUNS.sub("-", name).lower(), item.version)
            for item in distributions()
            if (name := item.metadata["Name"]) and item.version
        }
    )
    components: list[JsonValue] = [
        {
            "type": "library",
            "bom-ref": f"pkg:pypi/{name}@{version}",
            "name": name,
            "version": version,
            "purl": f"pkg:pypi/{name}@{version}",
        }
        for name, version in found
    ]
    language: JsonValue = {
        "type": "platform",
        "bom-ref": "python",
        "name": platform.python_implementation(),
        "version": platform.python_version(),
    }
    subject = canonical.digest(canonical.encode([language, *components]))
    return canonical.encode(
        {
            "bomFormat": "CycloneDX",
            "specVersion": "1.6",
            "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, subject)}",
            "version": 1,
            "metadata": {"component": {"type": "application", "bom-ref": "environment", "name": "wardround"}},
            "components": [language, *components],
        }
    )
