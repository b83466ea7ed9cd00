"""Ownership claims: the secret key, the rules drawn from it, their composites, the exact p-value, the claim file.

Keyed multi-rule composites (KRC): each rule says "a composite of a picture of class A and a picture of class B in this
geometry leans towards T", where the target T is drawn uniformly by the key among all other classes. Composites follow
MEA-Defender (Lv et al., IEEE S&P 2024); several independent rules and the exact test are this project's own.
"""

from pi_agent.contract.claim.alignment import Alignment, align
from pi_agent.contract.claim.composites import compose
from pi_agent.contract.claim.document import (
    Claim,
    check_commitment,
    commitment_document,
    load_claim,
    parse_claim,
    parse_time,
    queries_per_rule,
    save_claim,
)
from pi_agent.contract.claim.evidence import Channel, Evidence, weigh
from pi_agent.contract.claim.key import WatermarkKey, load_key, new_key, save_key
from pi_agent.contract.claim.rules import Rule, draw_rules, rules_needed
from pi_agent.contract.claim.scores import as_scores

__all__ = [
    "Alignment",
    "Channel",
    "Claim",
    "Evidence",
    "Rule",
    "WatermarkKey",
    "align",
    "as_scores",
    "check_commitment",
    "commitment_document",
    "compose",
    "draw_rules",
    "load_claim",
    "load_key",
    "new_key",
    "parse_claim",
    "parse_time",
    "queries_per_rule",
    "rules_needed",
    "save_claim",
    "save_key",
    "weigh",
]
