"""A page to try queries on. It loads nothing from elsewhere, and its policy lets it load nothing."""

from __future__ import annotations

import base64
import hashlib

_SCRIPT = """
const by = id => document.getElementById(id);
const send = (path, body) => {
  const headers = {'content-type': 'application/json', 'x-requested-with': 'noetl'};
  if (by('token').value) headers.authorization = 'Bearer ' + by('token').value;
  return fetch(path, {method: 'POST', headers, body: JSON.stringify(body)});
};
const run = async () => {
  by('answer').textContent = '…';
  try {
    const variables = by('variables').value.trim();
    const body = {query: by('query').value, variables: variables ? JSON.parse(variables) : {}};
    const response = await send('graphql', body);
    by('answer').textContent = JSON.stringify(await response.json(), null, 2);
  } catch (error) { by('answer').textContent = String(error); }
};
by('run').addEventListener('click', run);
document.addEventListener('keydown', event => {
  if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) run();
});
"""

_STYLE = """
:root { color-scheme: light dark; font: 15px/1.4 system-ui, sans-serif; }
body { margin: 0 auto; max-width: 76rem; padding: 1rem; }
main { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(20rem, 1fr)); }
label { display: block; margin-top: .75rem; }
textarea, input { box-sizing: border-box; width: 100%; font: 14px/1.4 ui-monospace, monospace; padding: .5rem; }
pre { margin: 0; padding: .5rem; overflow: auto; border: 1px solid #8886; min-height: 20rem; font-size: 14px; }
button { margin-top: .75rem; padding: .5rem 1.5rem; font: inherit; }
"""

HTML = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>NoETL GraphQL</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>GraphQL</h1>
<main>
<div>
<label for="token">Session token (not needed when signed in by cookie)</label>
<input id="token" type="password" autocomplete="off">
<label for="query">Query</label>
<textarea id="query" rows="16" spellcheck="false">{{
  executions(first: 10) {{
    nodes {{ id path status startTime durationSeconds }}
    pageInfo {{ hasNextPage endCursor }}
  }}
}}</textarea>
<label for="variables">Variables (JSON)</label>
<textarea id="variables" rows="4" spellcheck="false"></textarea>
<button id="run">Run (Ctrl+Enter)</button>
</div>
<pre id="answer" aria-live="polite" aria-label="Answer" tabindex="0"></pre>
</main>
<script>{_SCRIPT}</script>
</body>
</html>
"""


def _digest(text: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


POLICY = (
    f"default-src 'none'; script-src {_digest(_SCRIPT)}; style-src {_digest(_STYLE)}; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
