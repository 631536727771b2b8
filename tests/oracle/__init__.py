"""A second opinion on what must come of a playbook: a slow, plain interpreter of the language.

Written from the language reference and from what the project promises its users (README, playbooks/README, the
examples), and from nothing of the engine: it imports none of `noetl_serverless`, and where the engine and it disagree,
one of the two is wrong. `predict` runs a playbook whose tools are functions; `follow` walks through a log and says
where the engine did something else than the language says.

What it leaves out: limits of size, depth and time, the words of errors that templates raise, how a loop is cut into
frames, in which order the decisions about one fact are written down, which workers and hosts are involved, and budgets
of time and money. Where the language is silent it says so, by `Unclear`.
"""
