"""Contracts of attention over frames, as checks that run against anybody's encoder or attention.

    from speechattn.conformance import Table, check_attention, check_encoder
    findings = check_encoder(encoder, features=80, reach=Context.truncated(left=8, right=4))
    print(findings)                       # or Table([findings, others]).markdown(), .to_dict()

Not here: speed, memory, and whether a model recognises anything.
"""

from speechattn.conformance.findings import FAILED, NOT_OFFERED, PASSED, Findings, Outcome, Table
from speechattn.conformance.subject import Subject
from speechattn.conformance.suite import CHECKS, check_attention, check_encoder, what_is_checked

__all__ = [
    "CHECKS",
    "FAILED",
    "NOT_OFFERED",
    "PASSED",
    "Findings",
    "Outcome",
    "Subject",
    "Table",
    "check_attention",
    "check_encoder",
    "what_is_checked",
]
