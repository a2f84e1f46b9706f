"""Clean label maps by rules, and find out from cross-validation which rules help."""

from medseg.postprocess.apply import postprocess
from medseg.postprocess.choose import Chosen, choose_rules
from medseg.postprocess.rules import Rule, check_rules, rules_as_json, rules_from_json
from medseg.postprocess.table import CaseTable, tabulate

__all__ = [
    "CaseTable",
    "Chosen",
    "Rule",
    "check_rules",
    "choose_rules",
    "postprocess",
    "rules_as_json",
    "rules_from_json",
    "tabulate",
]
