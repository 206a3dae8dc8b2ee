"""Verbs of a result that stand behind the results: found by name when they are called."""

from __future__ import annotations

from typing import Any

from pmwmix.interrupt import whole_import


def report(fit: Any, ci_prob: float = 0.95, figures: bool = True) -> Any:
    """Write what reviewers ask of a multilevel analysis: equation, levels, weights, estimation, effect sizes, checks.

    Parameters
    ----------
    ci_prob : float
        Probability of the intervals.
    figures : bool
        Whether HTML and Word have the picture of `plots.check`, and Markdown one beside its file.

    Returns
    -------
    Report
        ``str()`` is Markdown, notebooks show HTML; ``save("report.docx")``, ``.html`` or ``.md``
        (`pmwmix.reports.compose.report`).
    """
    return whole_import("pmwmix.reports.compose").report(fit, ci_prob, figures)
