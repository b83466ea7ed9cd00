"""Ownership claims: the secret key, the rules drawn from it, their composites, the exact p-value, the claim file.

Keyed multi-rule composites (KRC): each rule says "a composite of a picture of class A and a picture of class B in this
geometry is called T", where the target T is drawn uniformly by the key among all other classes. Composites follow
MEA-Defender (Lv et al., IEEE S&P 2024); several independent rules and the exact test are this project's own.
"""

from pi_agent.contract.claim.composites import compose
from pi_agent.contract.claim.document import Claim, load_claim, parse_claim, save_claim
from pi_agent.contract.claim.key import WatermarkKey, load_key, new_key, save_key
from pi_agent.contract.claim.p_value import Evidence, key_randomisation_test
from pi_agent.contract.claim.rules import Rule, draw_rules, rules_needed

__all__ = [
    "Claim",
    "Evidence",
    "Rule",
    "WatermarkKey",
    "compose",
    "draw_rules",
    "key_randomisation_test",
    "load_claim",
    "load_key",
    "new_key",
    "parse_claim",
    "rules_needed",
    "save_claim",
    "save_key",
]
