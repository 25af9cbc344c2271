"""From the facts of one job to the causes of its state. Pure: nothing is read here."""

from oban.explaining.verdict import explain

__all__ = ["explain"]
