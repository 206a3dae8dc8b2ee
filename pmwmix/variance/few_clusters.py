"""Names of the small-sample variances; rows are needed for that of the coefficients, see `fitting.fewclusters`."""

from __future__ import annotations

from pmwmix.variance._base import VARIANCES
from pmwmix.variance.robust import robust_block

KINDS = ("CR0", "CR1", "CR2", "CR3")

for _kind in KINDS:  # of the variance parameters; `with_few_clusters` puts the coefficients' block in its place
    VARIANCES.add(_kind, robust_block)
