"""Test whether a suspect obeys the rules of a claim: a file on the device, a model behind an API, or stored answers."""

from pi_agent.verify.case import Case, Terms, open_case, verify_file
from pi_agent.verify.questions import Manner
from pi_agent.verify.verdict import Verdict

__all__ = ["Case", "Manner", "Terms", "Verdict", "open_case", "verify_file"]
