from __future__ import annotations

import pytest

from noetl_serverless.playbook.lint import lint

from .playbooks import playbook, tool

SECRET = "playbook.literal_secret"


def places(text: str) -> list[str]:
    return [finding.pointer for finding in lint(text) if finding.code == SECRET]


def of_workload(pair: str) -> list[str]:
    return places(playbook(f"workload: {{{pair}}}\nworkflow: [{{step: a, tool: {{kind: noop}}}}]\n"))


@pytest.mark.parametrize(
    "pair",
    [
        "api_key: sk_live_12345",
        "apiKey: sk_live_12345",
        "X-Api-Key: sk_live_12345",
        "password: hunter2",
        "pg_password: hunter2",
        "db: {password: hunter2}",
        "client_secret: abcdef123",
        "token: abcdef123",
        "users: [{access_token: abcdef123}]",
    ],
)
def test_a_secret_among_the_defaults_of_the_workload_is_reported(pair: str) -> None:
    assert len(of_workload(pair)) == 1, pair


@pytest.mark.parametrize(
    "pair",
    [
        "password: ''",
        "password: null",
        "password: 5",
        "password: '{{ ctx.password }}'",
        "password: <password>",
        "password: $PASSWORD",
        "password: change_me",
        "password: xxxxxxxx",
        "password: your-password",
        "password: the password of the database",
        "client_secret: projects/p/secrets/s",
        "next_page_token: abcdef123",
        "token_url: https://x/token",
        "password_field: password1",
        "secret: name_of_it",
        "credential: warehouse",
        "tokens: 1000",
    ],
)
def test_what_only_names_a_secret_or_stands_for_one_is_not(pair: str) -> None:
    assert of_workload(pair) == []


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("Authorization: Bearer abcdef123", True),
        ("authorization: Basic dXNlcjpwYXNz", True),
        ("X-API-Key: abcdef123", True),
        ("X-Auth-Token: abcdef123", True),
        ("Authorization: 'Bearer {{ keychain.crm.token }}'", False),
        ("X-Request-Id: abcdef123", False),
        ("Idempotency-Key: abcdef123", False),
        ("Accept: application/json", False),
    ],
)
def test_a_secret_in_a_header_is_reported(header: str, said: bool) -> None:
    found = places(tool(f"kind: http\nurl: http://x/\nheaders:\n  {header}"))
    assert found == ([f"/workflow/0/tool/headers/{header.partition(':')[0]}"] if said else [])


def test_headers_in_a_list_of_tasks_and_in_the_workbook_are_looked_at() -> None:
    headers = "{kind: http, url: 'http://x/', headers: {X-Api-Key: abcdef123}}"
    assert places(tool(f"- {{kind: noop}}\n- {headers}")) == ["/workflow/0/tool/1/headers/X-Api-Key"]
    text = playbook(f"workbook: [{{name: t, tool: {headers}}}]\nworkflow: [{{step: a, tool: {{kind: noop}}}}]\n")
    assert places(text) == ["/workbook/0/tool/headers/X-Api-Key"]
