"""What a quantized artifact's record says about its speed, in a sentence."""

from collections.abc import Sequence

from edgekit.artifact import OperatorPrecision, QuantRecord
from edgekit.tuning.words import cost_text, rules_of


def speed_note(record: QuantRecord) -> str:
    """What int8 saves in an artifact, what decided, and how much stays float for it; empty where nothing is known."""
    known = [each for each in record.operators if each.saved is not None]
    rounded = [each for each in known if each.precision == "int8"]
    if not known:
        return ""
    saved, unit = saved_by(rounded), known[0].unit
    if saved > 0:
        said = f"int8 saves {cost_text(saved, unit)} of an inference in {len(rounded)} layers"
    else:
        cost = cost_text(-saved, unit)
        said = f"int8 does NOT make it faster, it only saves size: {len(rounded)} layers cost {cost} more"
    slower = sum(each.reason in ("slower", "wrong") for each in record.operators)
    kept = f"; {slower} are no faster in it and stay float" if slower else ""
    guessed = record.quantized - len(rounded)
    rest = f"; {guessed} are int8 by structure, for nothing like them was measured" if guessed else ""
    return f"{said}{kept}{rest} ({'; '.join(rules_of(each.source for each in known))})"


def saved_by(operators: Sequence[OperatorPrecision]) -> float:
    """What operators save together."""
    return sum(each.saved or 0.0 for each in operators)
