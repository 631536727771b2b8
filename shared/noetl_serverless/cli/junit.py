"""Results of tests as JUnit XML, which CI systems read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from .case_results import Suite, reasons

# what XML 1.0 has no form for
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(suites: Sequence[Suite]) -> str:
    """The text of an XML document: a testsuite for each file, a testcase for each case. A file that cannot be run is
    one testcase with an error for each fault."""
    root = Element("testsuites", _counts(suites))
    for suite in suites:
        element = SubElement(root, "testsuite", {"name": _xml(suite.file), **_counts([suite])})
        if suite.faults:
            case = _case(element, suite.file, "the file", 0.0)
            for fault in suite.faults:
                _reason(case, "error", str(fault["message"]), [f"{fault['file']}:{fault.get('line', 1)}"])
        for result in suite.cases:
            case = _case(element, suite.file, result.name, result.seconds)
            if not result.passed:
                message = result.problem or f"unexpected: {', '.join(each.what for each in result.mismatches)}"
                _reason(case, "failure", message, reasons(suite.file, result))
    indent(root)
    return tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _counts(suites: Sequence[Suite]) -> dict[str, str]:
    cases = [case for suite in suites for case in suite.cases]
    wrong = sum(bool(suite.faults) for suite in suites)
    return {
        "tests": str(len(cases) + wrong),
        "failures": str(sum(not case.passed for case in cases)),
        "errors": str(wrong),
        "time": f"{sum(case.seconds for case in cases):.3f}",
    }


def _case(suite: Element, file: str, name: str, seconds: float) -> Element:
    return SubElement(
        suite, "testcase", {"classname": _xml(file), "name": _xml(name), "file": _xml(file), "time": f"{seconds:.3f}"}
    )


def _reason(case: Element, kind: str, message: str, lines: Iterable[str]) -> None:
    SubElement(case, kind, {"message": _xml(message)}).text = _xml("\n".join(lines))


def _xml(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text)
