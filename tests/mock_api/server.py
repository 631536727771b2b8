"""An HTTP API for playbooks to call: pages of items, endpoints that fail, wait, limit and redirect, tokens, claims.

All of it is deterministic: what an endpoint answers depends on the request and on how many came before it with the same
`key`, which the caller chooses (a playbook takes its execution's id). Answers are JSON unless it says otherwise here.

    /items?page=1&size=10&total=25      {items, page, pages, total, has_more}; an item is {id, name, square}; ids count
                                        from 1
    /items/offset?offset=0&limit=10     {items, offset, limit, total}; this and the next two take `total`, too
    /items/cursor?cursor=&limit=10      {items, next}; `next` is the next page's cursor, null behind the last
    /items/linked?page=1&size=10        a list; the header Link names the next page as rel="next"
    /items/<id>                         one item; 404 for an id that is no positive number
    /flaky?key=K&failures=1&status=503  `status` to the first `failures` requests with this key, then {requests}.
                                        status=drop closes the connection without an answer; status=hang answers
                                        `delay` seconds late
    /limited?key=K&refusals=1           429 first, with a Retry-After of `retry_after` seconds, then {requests}
    /count?key=K                        {requests}: how many came with this key, itself not counted
    /slow?delay=1                       {delay}, after so many seconds
    /together?key=K&delay=1             {together}, after so many seconds: how many requests with this key were there at
                                        once when it came, itself counted
    /bytes?size=100&as=json             {size, text}, with a text of `size` characters; as=text: that text alone;
                                        as=binary: so many bytes
    /rows?count=3&as=csv                so many rows {id, name, square} as csv, ndjson, parquet or arrow
    /echo                               {method, path, query, headers, body, json}
    /status/<code>                      that status, with {status}
    /redirect?times=1&to=/echo          302 so many times, to `to` in the end
    POST /token?expires_in=3600         OAuth2 client credentials (client_id, client_secret: open sesame; a form, JSON
                                        or, with GET, the query; or both in HTTP Basic authentication): {access_token,
                                        token_type, expires_in}. The token is good for `uses` requests, 1000 by default
    /private                            {client_id, requests} with such a token, 401 without
    POST /google/token                  RFC 7523: {access_token, token_type, expires_in} for an assertion of the service
                                        account, {id_token} for one with a target_audience
    /identity                           {audience, email} with such an id_token, 401 without
    /v1/projects/<project>/secrets/<name>/versions/<version>:access
                                        as of Google Secret Manager, with such an access_token
    POST /                              GetSecretValue of AWS Secrets Manager, signed
    /scripts/<name>                     a text: what one of this name holds
    POST /claims/<table>/<row>          counts the row: {row, times}
    /claims/<table>                     {rows, requests, repeated}; `repeated`: rows that came more than once, 100 at
                                        most

Tokens and secrets are counted, too, with keys such as `token of CLIENT`, `secret NAME`, `identity token for AUDIENCE`.
Every endpoint takes any method, except for those with POST. Bounds: 32 MiB a body, 10,000 items a page, 30 seconds of
delay, 20 redirects, a million counters.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from tests.mock_api.secret_stores import SecretStores

MAX_BYTES = 32 * 1024 * 1024
MAX_ITEMS = 10_000
MAX_DELAY = 30.0
MAX_REDIRECTS = 20
MAX_COUNTERS = 1_000_000
SECRET = "open sesame"
# serve_forever() looks this often whether it is to end, in seconds
POLL = 0.02


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    # of the server, without a slash at the end
    origin: str

    def number(self, name: str, default: int, most: int = MAX_BYTES) -> int:
        """A parameter from 0 to `most`; Refused if it is anything else."""
        value = self.query.get(name, str(default))
        if not value.isdecimal() or int(value) > most:
            raise Refused(400, f"{name} must be a number from 0 to {most}, not {value[:40]!r}")
        return int(value)

    @property
    def delay(self) -> float:
        """Seconds."""
        try:
            value = float(self.query.get("delay", "1"))
        except ValueError:
            value = -1.0
        if not 0 <= value <= MAX_DELAY:
            raise Refused(400, f"delay must be from 0 to {MAX_DELAY:g} seconds")
        return value

    @property
    def key(self) -> str:
        if not (key := self.query.get("key", "")):
            raise Refused(400, "a key is needed, so that nobody else counts")
        return key

    @property
    def bearer(self) -> str:
        return self.headers.get("authorization", "").removeprefix("Bearer ")

    @property
    def basic(self) -> dict[str, str]:
        """client_id and client_secret of HTTP Basic authentication, as RFC 6749 encodes them."""
        scheme, _, given = self.headers.get("authorization", "").partition(" ")
        try:
            user, colon, password = base64.b64decode(given if scheme == "Basic" else "").decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return {}
        return {"client_id": unquote(user), "client_secret": unquote(password)} if colon else {}

    @property
    def fields(self) -> dict[str, Any]:
        """The body, a form or JSON; of a GET, the query."""
        if self.method == "GET":
            return dict(self.query)
        if "json" in self.headers.get("content-type", ""):
            return dict(json.loads(self.body or b"{}"))
        return dict(parse_qsl(self.body.decode()))


@dataclass(frozen=True, slots=True)
class Answer:
    """JSON, unless `body` is bytes."""

    body: Any
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    # the connection is closed without an answer
    dropped: bool = False


class Refused(Exception):
    """The request cannot be answered; `status` says why."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class MockApi(ThreadingHTTPServer):
    """The server and what it has counted."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._claims: defaultdict[str, Counter[str]] = defaultdict(Counter)
        # the Idempotency-Keys that the rows of a table came with
        self._keys: defaultdict[str, defaultdict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
        # token -> client, when it expires (monotonic seconds), how many requests are left
        self._tokens: dict[str, tuple[str, float, int]] = {}
        # by key: how many requests are there at once, and how many there have been at most
        self._together: Counter[str] = Counter()
        self.most_together: Counter[str] = Counter()
        self.secrets = SecretStores(self._count)
        # by name, of /scripts/
        self.scripts: dict[str, str] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that was killed is no error."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    def keys(self, table: str) -> dict[str, set[str]]:
        """Row -> the Idempotency-Keys of its claims; "" for one without."""
        with self._lock:
            return {row: set(keys) for row, keys in self._keys[table].items()}

    def _count_together(self, request: Request) -> Answer:
        key = request.key
        with self._lock:
            self._together[key] += 1
            found = self._together[key]
            self.most_together[key] = max(self.most_together[key], found)
        try:
            time.sleep(request.delay)
        finally:
            with self._lock:
                self._together[key] -= 1
        return Answer({"together": found})

    def answer(self, request: Request) -> Answer:
        """Raises Refused."""
        section, _, rest = request.path.strip("/").partition("/")
        match section, rest:
            case "items", _:
                return _items(request, rest)
            case "flaky", "":
                return self._flaky(request)
            case "limited", "":
                seconds = str(request.number("retry_after", 1))
                return self._failing(request, "refusals", Answer({"error": "slow down"}, 429, {"Retry-After": seconds}))
            case "count", "":
                return Answer({"requests": self._counts[request.key]})
            case "slow", "":
                time.sleep(request.delay)
                return Answer({"delay": request.delay})
            case "together", "":
                return self._count_together(request)
            case "bytes", "":
                return _bytes(request)
            case "rows", "":
                return _rows(request)
            case "echo", _:
                return _echo(request)
            case "status", code if code.isdecimal() and 200 <= int(code) < 600:
                return Answer({"status": int(code)}, int(code))
            case "redirect", "":
                return _redirect(request)
            case "token", "" if request.method in ("GET", "POST"):
                return self._token(request)
            case "google", "token" if request.method == "POST":
                return _of_store(self.secrets.google_token(request.origin, request.fields))
            case "identity", "":
                return _of_store(self.secrets.identity(request.bearer))
            case "v1", _:
                return _of_store(self.secrets.google_secret(rest, request.bearer))
            case "", "" if request.method == "POST":
                found = self.secrets.aws_secret(f"{request.origin}/", request.headers, request.body)
                return _of_store(found, {"Content-Type": "application/x-amz-json-1.1"})
            case "scripts", name if name in self.scripts:
                return Answer(self.scripts[name].encode(), headers={"Content-Type": "text/plain; charset=utf-8"})
            case "private", "":
                return self._private(request)
            case "claims", _:
                return self._claim(request, *rest.split("/"))
        raise Refused(404, f"there is no {request.path}")

    def _count(self, key: str) -> int:
        """How many came with this key, this one included."""
        with self._lock:
            if len(self._counts) >= MAX_COUNTERS and key not in self._counts:
                raise Refused(507, "too many keys")
            self._counts[key] += 1
            return self._counts[key]

    def _failing(self, request: Request, parameter: str, failure: Answer) -> Answer:
        """`failure` to the first requests with the key, as many as the parameter says."""
        failures, requests = request.number(parameter, 1), self._count(request.key)
        return failure if requests <= failures else Answer({"requests": requests})

    def _flaky(self, request: Request) -> Answer:
        how = request.query.get("status", "503")
        if how == "drop":
            return self._failing(request, "failures", Answer(None, dropped=True))
        if how == "hang":
            late = Answer({"late": True})
            answer = self._failing(request, "failures", late)
            if answer is late:
                time.sleep(request.delay)
            return answer
        status = request.number("status", 503, 599)
        return self._failing(request, "failures", Answer({"error": "not now"}, status))

    def _token(self, request: Request) -> Answer:
        given = {**request.fields, **request.basic}
        if given.get("grant_type") != "client_credentials" or given.get("client_secret") != SECRET:
            return Answer({"error": "invalid_client"}, 401)
        seconds, uses = request.number("expires_in", 3600), request.number("uses", 1000)
        client = str(given.get("client_id", ""))
        token = f"token-{self._count(f'token of {client}')}-of-{client}"
        with self._lock:
            self._tokens[token] = (client, time.monotonic() + seconds, uses)
        return Answer({"access_token": token, "token_type": "Bearer", "expires_in": seconds})

    def _private(self, request: Request) -> Answer:
        token = request.bearer
        with self._lock:
            client, until, uses = self._tokens.get(token, ("", 0.0, 0))
            if not uses or time.monotonic() >= until:
                return Answer({"error": "invalid_token"}, 401, {"WWW-Authenticate": "Bearer"})
            self._tokens[token] = (client, until, uses - 1)
        return Answer({"client_id": client, "requests": self._count(f"private to {client}")})

    def _claim(self, request: Request, table: str, *row: str) -> Answer:
        with self._lock:
            rows = self._claims[table]
            if request.method == "POST" and len(row) == 1:
                if len(rows) >= MAX_COUNTERS:
                    raise Refused(507, "too many rows")
                rows[row[0]] += 1
                self._keys[table][row[0]].add(request.headers.get("idempotency-key", ""))
                return Answer({"row": row[0], "times": rows[row[0]]})
            repeated = [name for name, times in rows.items() if times > 1]
            return Answer({"rows": len(rows), "requests": rows.total(), "repeated": repeated[:100]})


def _of_store(found: tuple[int, dict[str, Any]], headers: dict[str, str] | None = None) -> Answer:
    status, body = found
    return Answer(body, status, headers or {})


def _items(request: Request, how: str) -> Answer:
    total = request.number("total", 25)
    match how:
        case "":
            page, size = request.number("page", 1), request.number("size", 10, MAX_ITEMS)
            pages = -(-total // size) if size else 0
            items = _page((page - 1) * size, size, total)
            body = {"items": items, "page": page, "pages": pages, "total": total, "has_more": page < pages}
            return Answer(body)
        case "offset":
            offset, limit = request.number("offset", 0), request.number("limit", 10, MAX_ITEMS)
            return Answer({"items": _page(offset, limit, total), "offset": offset, "limit": limit, "total": total})
        case "cursor":
            start, limit = _offset_of(request.query.get("cursor", "")), request.number("limit", 10, MAX_ITEMS)
            end = start + limit
            return Answer({"items": _page(start, limit, total), "next": f"after-{end}" if end < total else None})
        case "linked":
            page, size = request.number("page", 1), request.number("size", 10, MAX_ITEMS)
            query = urlencode({"page": page + 1, "size": size, "total": total})
            link = f'<{request.origin}/items/linked?{query}>; rel="next"'
            return Answer(_page((page - 1) * size, size, total), headers={"Link": link} if page * size < total else {})
    if not how.isdecimal() or int(how) < 1:
        raise Refused(404, f"there is no item {how[:40]!r}")
    return Answer(_item(int(how)))


def _page(start: int, size: int, total: int) -> list[dict[str, Any]]:
    return [_item(id) for id in range(max(start, 0) + 1, min(start + size, total) + 1)]


def _item(id: int) -> dict[str, Any]:
    return {"id": id, "name": f"item {id}", "square": id * id}


def _offset_of(cursor: str) -> int:
    number = cursor.removeprefix("after-") or "0"
    if not number.isdecimal():
        raise Refused(400, f"{cursor[:40]!r} is no cursor of this API")
    return int(number)


def _rows(request: Request) -> Answer:
    rows = [_item(number + 1) for number in range(min(request.number("count", 3), MAX_ITEMS))]
    match request.query.get("as", "csv"):
        case "csv":
            lines = [",".join(map(str, values)) for values in (rows[0], *(row.values() for row in rows))]
            return Answer("\n".join(lines).encode(), headers={"Content-Type": "text/csv; charset=utf-8"})
        case "ndjson":
            text = "\n".join(map(json.dumps, rows))
            return Answer(text.encode(), headers={"Content-Type": "application/x-ndjson"})
        case "parquet":
            import pyarrow.parquet

            sink = pyarrow.BufferOutputStream()
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), sink)
            kind = "application/vnd.apache.parquet"
        case "arrow":
            import pyarrow

            sink, table = pyarrow.BufferOutputStream(), pyarrow.Table.from_pylist(rows)
            with pyarrow.ipc.new_stream(sink, table.schema) as writer:
                writer.write_table(table)
            kind = "application/vnd.apache.arrow.stream"
        case other:
            raise Refused(400, f"as={other}")
    return Answer(sink.getvalue().to_pybytes(), headers={"Content-Type": kind})


def _bytes(request: Request) -> Answer:
    size = request.number("size", 100)
    match request.query.get("as", "json"):
        case "json":
            return Answer({"size": size, "text": "x" * size})
        case "text":
            return Answer(b"x" * size, headers={"Content-Type": "text/plain; charset=utf-8"})
        case "binary":
            pattern = bytes(range(256))
            content = (pattern * (size // 256 + 1))[:size]
            return Answer(content, headers={"Content-Type": "application/octet-stream"})
    raise Refused(400, "as must be json, text or binary")


def _echo(request: Request) -> Answer:
    try:
        parsed = json.loads(request.body)
    except ValueError:
        parsed = None
    body = request.body.decode(errors="replace")
    return Answer(
        {
            "method": request.method,
            "path": request.path,
            "query": request.query,
            "headers": request.headers,
            "body": body,
            "json": parsed,
        }
    )


def _redirect(request: Request) -> Answer:
    times, target = request.number("times", 1, MAX_REDIRECTS), request.query.get("to", "/echo")
    if times > 1:
        target = f"/redirect?{urlencode({'times': times - 1, 'to': target})}"
    return Answer(None, 302, {"Location": target})


class _Handler(BaseHTTPRequestHandler):
    server: MockApi
    protocol_version = "HTTP/1.1"
    # a body behind its headers would otherwise wait for their acknowledgement
    disable_nagle_algorithm = True

    def _any(self) -> None:
        parts = urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        if length > MAX_BYTES:
            self.close_connection = True
            self._send(Answer({"error": "the body is too large"}, 413))
            return
        request = Request(
            method=self.command,
            path=parts.path,
            query=dict(parse_qsl(parts.query, keep_blank_values=True)),
            headers={name.lower(): value for name, value in self.headers.items()},
            body=self.rfile.read(length),
            origin=self.server.url,
        )
        try:
            answer = self.server.answer(request)
        except Refused as refused:
            answer = Answer({"error": str(refused)}, refused.status)
        except ValueError as error:
            answer = Answer({"error": str(error)}, 400)
        self._send(answer)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _any

    def _send(self, answer: Answer) -> None:
        if answer.dropped:
            self.close_connection = True
            return
        content = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
        self.send_response(answer.status)
        for name, value in {"Content-Type": "application/json", **answer.headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            # a caller that has timed out is gone
            with contextlib.suppress(OSError):
                self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        return None


@contextlib.contextmanager
def mock_api() -> Iterator[MockApi]:
    """On a free port of 127.0.0.1, in a thread."""
    with MockApi() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": POLL}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()
