"""The gate's verdict as JUnit XML: one test suite a plan file, one test case for each rule that was asked of the
plan or of a site. The dialect is the one that CI servers agree on: `testsuites/testsuite/testcase`, with `failure`
for a rule that refuses, `error` for a file that is no plan, and the notes as `system-out`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from ledger.listing import plain
from policies.forecast import PLAN

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from ledger.errors import Violation
    from wardround.gate_case import Case


def junit(
    cases: Sequence[Case], notes: Sequence[str], *, plan_codes: Sequence[str], site_codes: Sequence[str]
) -> str:
    """The document. `plan_codes` and `site_codes`: every rule that was asked, in order; a code beyond them is a test
    case as well."""
    suites = ElementTree.Element("testsuites", {"name": "wardround gate"})
    for case in cases:
        suites.append(_suite(case, notes, plan_codes, site_codes))
    for name in ("tests", "failures", "errors"):
        suites.set(name, str(sum(int(suite.get(name, "0")) for suite in suites)))
    ElementTree.indent(suites)
    body = ElementTree.tostring(suites, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{body}\n'


def _suite(case: Case, notes: Sequence[str], plan_codes: Sequence[str], site_codes: Sequence[str]) -> Element:
    suite = ElementTree.Element("testsuite", {"name": plain(str(case.path))})
    if case.judgement is None:
        for _, item in case.findings:
            _outcome(_testcase(suite, "plan", "plan.readable"), "error", item)
        notes_here = list(notes)
    else:
        for site, listed in case.judgement.found.items():
            asked = plan_codes if site == PLAN else site_codes
            _testcases(suite, site or "plan", asked, {item.code: item for item in listed})
        notes_here = [*case.judgement.notes, *notes]
    suite.set("tests", str(len(suite.findall("testcase"))))
    suite.set("failures", str(len(suite.findall("testcase/failure"))))
    suite.set("errors", str(len(suite.findall("testcase/error"))))
    suite.set("skipped", "0")
    ElementTree.SubElement(suite, "system-out").text = "\n".join(plain(note) for note in notes_here)
    return suite


def _testcases(suite: Element, owner: str, asked: Sequence[str], broken: Mapping[str, Violation]) -> None:
    for code in (*asked, *(code for code in broken if code not in asked)):
        case = _testcase(suite, owner, code)
        if code in broken:
            _outcome(case, "failure", broken[code])


def _testcase(suite: Element, owner: str, code: str) -> Element:
    return ElementTree.SubElement(suite, "testcase", {"classname": owner, "name": code})


def _outcome(testcase: Element, kind: str, item: Violation) -> None:
    message = plain(item.message)
    made = ElementTree.SubElement(testcase, kind, {"type": item.code, "message": message})
    made.text = message
