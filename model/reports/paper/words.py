"""How the sentences on the paper write figures."""

from model.studies.paper.results import PaperStudy

__all__ = ["floats_of", "percent", "share"]


def share(percent: str) -> float:
    """Of an accuracy as the paper prints it."""
    return float(percent.removesuffix(" %")) / 100


def percent(accuracy: float | None) -> str:
    """An accuracy with as many digits as 10,000 frames give, as the paper prints it."""
    return "" if accuracy is None else f"{100 * accuracy:.2f} %"


def floats_of(found: PaperStudy) -> tuple[float, float]:
    """Accuracies of the float network trained as the paper's, on grey pixels and on those of one bit."""
    of_network = found.accuracy_ann[found.network]
    return of_network["grey"], of_network["1bit"]
