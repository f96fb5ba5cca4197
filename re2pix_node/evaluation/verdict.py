"""The verdict in words: does the forecast beat a baseline at a horizon?"""

from typing import Any

from numpy.typing import NDArray

from re2pix_node.evaluation.bootstrap import figure
from re2pix_node.evaluation.rows import COPY, RIDGE, WARP, WARP_HEAD

# A forecast must win all three: smoothing also wins the first, copying the second, and neither wins the third.
VERDICT_SCORES = {"smooth_l1": "SmoothL1", "miou": "mIoU", "changed_accuracy": "accuracy on changed pixels"}
NAMES = {COPY: "copying the last frame", WARP: "the flow warp", WARP_HEAD: "the warp with head", RIDGE: "the ridge"}
BETTER, WORSE, UNCLEAR, UNKNOWN = "better", "worse", "no clear difference", "not measured"
NO_INTERVAL = "measured without an interval"  # of a score, while others have one: it is not beyond doubt


def judged(differences: dict[str, NDArray[Any]]) -> dict[str, Any]:
    """The verdict for each score; `differences` are forecast minus baseline, resampled together."""
    gains = {name: figure(-values if name == "smooth_l1" else values) for name, values in differences.items()}
    sure = any(gain["low"] is not None for gain in gains.values())
    compared = {name: {"gain": gain, "verdict": _compare(gain, sure)} for name, gain in gains.items()}
    measured = [each["verdict"] for each in compared.values() if each["verdict"] != UNKNOWN]
    return {"scores": compared, "beats": bool(measured) and all(word == BETTER for word in measured)}


def verdict(row: str, against: dict[str, Any], seconds: float) -> str:
    """One sentence."""
    beats = "beats" if against["beats"] else "does not beat"
    by_word: dict[str, list[str]] = {}
    for name, title in VERDICT_SCORES.items():
        by_word.setdefault(against["scores"][name]["verdict"], []).append(title)
    reasons = "; ".join(
        f"{word} in {_listed(by_word[word])}"
        for word in (BETTER, UNCLEAR, WORSE, NO_INTERVAL, UNKNOWN)
        if word in by_word
    )
    sure = any(each["gain"]["low"] is not None for each in against["scores"].values())
    hedge = "" if sure else " (without intervals)"
    return f"The forecast {beats} {NAMES[row]} at {seconds:.2f} s{hedge}: {reasons}."


def _listed(titles: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(titles[:-1]), titles[-1]]))


def _compare(gain: dict[str, float | None], sure: bool) -> str:
    """`sure`: some score of the verdict has an interval."""
    value = gain["value"]
    if value is None:
        return UNKNOWN
    if sure and (gain["low"] is None or gain["high"] is None):
        return NO_INTERVAL
    low = value if gain["low"] is None else gain["low"]
    high = value if gain["high"] is None else gain["high"]
    if low > 0:
        return BETTER
    return WORSE if high < 0 else UNCLEAR
