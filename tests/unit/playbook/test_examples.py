"""Playbooks as people write them."""

from __future__ import annotations

from textwrap import dedent

from noetl_serverless.playbook.lint import lint
from noetl_serverless.playbook.load import load_plan

from .playbooks import playbook

RETRIES = """
    workflow:
      - step: call_rates
        tool:
          kind: http
          method: GET
          url: "{{ workload.api }}/rates"
          params: {day: "{{ workload.day }}"}
          spec:
            timeout: {connect: 2, read: 10}
            policy:
              rules:
                - when: "{{ output.status == 'error' and output.http.status in [429, 503] }}"
                  then: {do: retry, attempts: 4, backoff: exponential, delay: 0.5}
                - when: "{{ output.status == 'error' }}"
                  then: {do: fail}
                - else: {then: {do: continue, set: {ctx.rate_rows: "{{ output.data.data | length }}"}}}
"""
PAGES = """
    workflow:
      - step: read_all
        tool:
          - name: begin
            kind: noop
            spec: {policy: {rules: [{else: {then: {do: continue, set: {ctx.page: 1, ctx.rows: 0}}}}]}}
          - name: page
            kind: http
            url: "{{ workload.api }}/items"
            params: {page: "{{ ctx.page }}", pageSize: 50}
          - name: store
            kind: postgres
            auth: warehouse
            command: "INSERT INTO raw_items(page, body) VALUES (%(p)s, %(b)s)"
            params: {p: "{{ ctx.page }}", b: "{{ page.data | tojson }}"}
            spec:
              policy:
                rules:
                  - when: "{{ page.data.paging.hasMore }}"
                    then: {do: jump, to: page, set: {ctx.page: "{{ ctx.page | int + 1 }}"}}
                  - else: {then: {do: break}}
"""
SCORES = """
    workflow:
      - {step: list_users, tool: {kind: noop}, next: {arcs: [{step: score_each}]}}
      - step: score_each
        loop:
          in: "{{ list_users.rows }}"
          iterator: user
          spec: {mode: parallel, max_in_flight: 8}
        tool:
          kind: python
          input: {u: "{{ iter.user }}", n: "{{ iter._index }}"}
          code: "result = {'id': u['id'], 'rank': n}"
        next: {arcs: [{step: report, when: "{{ event.name == 'loop.done' }}"}]}
      - {step: report, tool: {kind: noop}}
"""
JOIN = """
    workflow:
      - step: split
        tool: {kind: noop}
        next: {spec: {mode: inclusive}, arcs: [{step: left}, {step: right}]}
      - {step: left,  tool: {kind: python, code: "result = {'v': 1}"}, next: {arcs: [{step: join}]}}
      - {step: right, tool: {kind: python, code: "result = {'v': 2}"}, next: {arcs: [{step: join}]}}
      - step: join
        tool: {kind: python, input: {a: "{{ left.v }}", b: "{{ right.v }}"}, code: "result = {'sum': a + b}"}
"""
CHILD = """
    workbook:
      - {name: square, tool: {kind: python, input: {x: 2}, code: "result = {'y': x * x}"}}
    workflow:
      - {step: sq, tool: {kind: workbook, name: square, input: {x: "{{ workload.n }}"}}, next: {arcs: [{step: child}]}}
      - step: child
        tool: {kind: playbook, path: demo/child, input: {seed: "{{ sq.y }}"}, return_step: finish}
"""
RECOVER = """
    workflow:
      - step: pull
        tool: {kind: http, url: "{{ workload.crm }}/leads", headers: {Authorization: "Bearer {{ workload.token }}"}}
        next:
          arcs:
            - {step: alert, when: "{{ event.name == 'call.error' }}"}
            - {step: load}
      - {step: alert, tool: {kind: noop}}
      - {step: load, tool: {kind: noop}}
"""


def test_they_compile_and_lint_clean() -> None:
    workload = "workload: {api: x, day: x, n: 1, crm: x, token: x}\n"
    for text in (RETRIES, PAGES, SCORES, JOIN, CHILD, RECOVER):
        # each reads some of the workload, and sets what callers look at
        found = [
            finding for finding in lint(playbook(workload + dedent(text))) if finding.code != "playbook.unused_name"
        ]
        assert found == []


def test_what_becomes_of_them() -> None:
    pages = load_plan(playbook(PAGES)).steps["read_all"]
    assert [task.name for task in pages.tasks] == ["begin", "page", "store"]
    assert pages.tasks[2].rules[0].to == "page"
    assert load_plan(playbook(JOIN)).sources["join"] == {"left", "right"}
    assert load_plan(playbook(CHILD)).steps["child"].parks
    assert [arc.handles_failure for arc in load_plan(playbook(RECOVER)).steps["pull"].arcs] == [True, False]
