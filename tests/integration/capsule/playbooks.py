"""Playbooks with something of everything that a worker does."""

from __future__ import annotations

CHAIN = """
    workload: {n: 3, password: hush}
    workflow:
      - step: one
        tool: {kind: python, code: "result = {'x': n * 2}", input: {n: "{{ workload.n }}"}}
        set: {ctx.x: "{{ output.data.x }}"}
        next: {arcs: [{step: two, when: "{{ ctx.x > 5 }}"}, {step: three}]}
      - {step: two, tool: {kind: python, code: "result = x + 1", input: {x: "{{ one.x }}"}}}
      - {step: three, tool: {kind: noop}}
    """
PIPELINE = """
    workflow:
      - step: all
        tool:
          - {name: first, kind: python, code: "result = {'a': 1}"}
          - name: second
            kind: python
            input: {a: "{{ first.a }}"}
            code: "result = {'b': a + 1}"
            spec: {policy: {rules: [{else: {then: {do: continue, set: {ctx.b: "{{ output.data.b }}"}}}}]}}
          - {name: third, kind: python, code: "raise ValueError('third')"}
        next: {arcs: [{step: mend, when: "{{ event.name == 'call.error' }}"}]}
      - {step: mend, tool: {kind: python, input: {b: "{{ ctx.b }}"}, code: "result = b"}}
    """
FLAKY = """
    workload: {file: ""}
    workflow:
      - step: flaky
        tool:
          kind: python
          input: {file: "{{ workload.file }}"}
          code: |
            import pathlib
            path = pathlib.Path(file)
            path.write_text((path.read_text() if path.exists() else "") + "x")
            if len(path.read_text()) < 3:
                raise ValueError("not yet")
            result = "now"
          spec:
            policy:
              rules:
                - {when: "{{ output.status == 'error' }}", then: {do: retry, attempts: 5, backoff: fixed, delay: DELAY}}
    """
LOOP = """
    workload: {size: 10}
    workflow:
      - step: each
        loop: {in: "{{ range(30) | list }}", iterator: n, spec: {mode: parallel, max_in_flight: 8}}
        tool:
          kind: python
          input: {n: "{{ iter.n }}", size: "{{ workload.size }}"}
          code: |
            if n == 7:
                raise ValueError("seven")
            result = {"n": n, "text": "x" * size}
        spec: {policy: {failure: {mode: best_effort}}}
        next: {arcs: [{step: after}]}
      - step: after
        tool: {kind: python, input: {all: "{{ each.results }}"}, code: "result = len(all)"}
    """
CHILD = """
    workload: {n: 1}
    workflow:
      - {step: square, tool: {kind: python, input: {n: "{{ workload.n }}"}, code: "result = {'y': n * n}"}}
    """
PARENTS = """
    workflow:
      - step: one
        tool: {kind: playbook, path: t/child, input: {n: 5}, return_step: square}
        next: {arcs: [{step: many}]}
      - step: many
        loop: {in: "{{ [1, 2, 3] }}", iterator: n, spec: {mode: parallel}}
        tool: {kind: playbook, path: t/child, input: {n: "{{ iter.n }}"}, return_step: square}
        next: {arcs: [{step: sum}]}
      - step: sum
        tool: {kind: python, input: {one: "{{ one.y }}", many: "{{ many.results }}"}, code: "result = [one, many]"}
    """
BIG = """
    workflow:
      - step: big
        tool:
          kind: python
          code: "result = {'rows': [{'i': i, 'text': 'x' * 50} for i in range(3000)], 'count': 3000}"
          output: {select: [{path: $.count, as: count}]}
        next: {arcs: [{step: each}]}
      - step: each
        loop: {in: "{{ big.rows[:20] }}", iterator: row, spec: {mode: parallel}}
        tool: {kind: python, input: {row: "{{ iter.row }}"}, code: "result = row['i']"}
        next: {arcs: [{step: last, when: "{{ big.count > 5 }}"}]}
      - {step: last, tool: {kind: python, input: {rows: "{{ big.rows }}"}, code: "result = len(rows)"}}
    """
BRANCHES = """
    workflow:
      - step: split
        tool: {kind: noop}
        next: {spec: {mode: inclusive}, arcs: [{step: a}, {step: b}, {step: c}]}
      - {step: a, tool: {kind: python, code: "result = {'v': 1}"}, next: {arcs: [{step: join}]}}
      - step: b
        tool: {kind: python, code: "import time; time.sleep(0.05); result = {'v': 2}"}
        next: {arcs: [{step: join}]}
      - {step: c, tool: {kind: python, code: "result = {'v': 3}"}, next: {arcs: [{step: join}]}}
      - step: join
        tool: {kind: python, input: {all: "{{ [a.v, b.v, c.v] }}"}, code: "result = sum(all)"}
    """
FAILING = """
    workflow:
      - {step: good, tool: {kind: python, code: "result = 1"}, next: {arcs: [{step: bad}]}}
      - {step: bad, tool: {kind: python, code: "raise ValueError('bad')"}}
    """
