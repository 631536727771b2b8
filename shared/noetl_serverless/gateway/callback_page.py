"""The pages of callback URLs. They load nothing and run no script, and their policy allows them neither."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from html import escape
from typing import Any, Final

import orjson

_STYLE: Final = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { margin: 0 auto; max-width: 36rem; padding: 1.5rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1rem; }
dd { margin: 0; overflow-wrap: anywhere; }
label { display: block; margin-top: 1rem; }
textarea { box-sizing: border-box; width: 100%; font: inherit; padding: .5rem; }
button { margin: 1rem 1rem 0 0; padding: .5rem 1.5rem; font: inherit; }
pre { overflow: auto; padding: .5rem; border: 1px solid #8886; white-space: pre-wrap; overflow-wrap: anywhere; }
"""
_DIGEST: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
# also of answers that are no pages: the URL is a secret
HEADERS: Final = {
    "content-security-policy": (
        f"default-src 'none'; style-src 'sha256-{_DIGEST}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-robots-tag": "noindex, nofollow",
}
# of an answer that is shown
MAX_CHARACTERS: Final = 4000


def question_page(callback: Mapping[str, Any], *, typed: Mapping[str, str] | None = None, fault: str = "") -> str:
    """`callback`: as `readCallback` of the control plane answers it; `fault`: of what was typed into the fields."""
    signal = str(callback["signal"])
    title = f"{'Approval' if callback['approval'] else 'Answer'}: {signal}"
    about = {
        "Playbook": str(callback["path"]) + (f", version {callback['version']}" if callback["version"] else ""),
        "Execution": str(callback["execution_id"]),
        "Approval" if callback["approval"] else "Signal": signal,
        "Valid until": _instant(callback["expires_at"]),
    }
    terms = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in about.items())
    said = (callback.get("description"), *callback.get("step_descriptions", ()))
    about_it = "".join(f"<p>{escape(text)}</p>" for text in said if text)
    if callback["status"] == "answered":
        rest = "<p>It has been answered.</p>"
        if callback["answered_at"] is not None:
            rest += _given(callback["answer"], callback["answered_at"])
    else:
        rest = f"<p><strong>{escape(fault)}</strong></p>" if fault else ""
        rest += _form(callback["approval"], typed or {})
    if callback["paused"]:
        rest += "<p>The execution is paused. An answer is kept until it goes on.</p>"
    return _page(title, f"{about_it}<dl>{terms}</dl>{rest}")


def answered_page(answer: Mapping[str, Any]) -> str:
    """`answer`: as `answerCallback` of the control plane answers."""
    text = "Thank you. The answer has been recorded." if answer["status"] == "accepted" else "You answered this before."
    return _page(f"Answered: {answer['signal']}", f"<p>{text}</p>{_given(answer['answer'], answer['answered_at'])}")


def problem_page(problem: Mapping[str, Any], *, again: bool = False) -> str:
    """`again`: whether another answer may be given."""
    text = f"<p>{escape(str(problem.get('detail') or ''))}</p>"
    if "answer" in problem:
        text += _given(problem["answer"], problem.get("answered_at"))
    if again:
        text += '<p><a href="">Answer again</a></p>'
    return _page(str(problem.get("title") or "It did not work"), text)


def _form(is_approval: bool, typed: Mapping[str, str]) -> str:
    # a line break behind the tag is none of the text
    text = "\n" + escape(typed.get("comment" if is_approval else "value", ""))
    if is_approval:
        return f"""<form method="post">
<label for="comment">Comment</label>
<textarea id="comment" name="comment" rows="3" maxlength="2000">{text}</textarea>
<button name="decision" value="approve">Approve</button>
<button name="decision" value="reject">Reject</button>
</form>"""
    return f"""<form method="post">
<label for="value">Value: JSON, or text</label>
<textarea id="value" name="value" rows="5" required>{text}</textarea>
<button>Send</button>
</form>"""


def _given(answer: Any, at: Any) -> str:
    if isinstance(answer, Mapping) and isinstance(answer.get("approved"), bool):
        shown = "Approved" if answer["approved"] else "Rejected"
        if answer.get("comment"):
            shown += f": {answer['comment']}"
    elif isinstance(answer, str):
        shown = answer
    else:
        shown = orjson.dumps(answer, option=orjson.OPT_INDENT_2).decode()
    if len(shown) > MAX_CHARACTERS:
        shown = f"{shown[:MAX_CHARACTERS]}…"
    when = f"<p>{escape(_instant(at))}</p>" if at else ""
    return f"<pre>{escape(shown)}</pre>{when}"


def _instant(text: Any) -> str:
    return f"{datetime.fromisoformat(str(text)).astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _page(title: str, content: str) -> str:
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>{escape(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<main>
<h1>{escape(title)}</h1>
{content}
</main>
</body>
</html>
"""
