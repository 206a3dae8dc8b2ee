"""Sandwich covariances under the names of the programs that print them."""

from __future__ import annotations

from functools import partial

from pmwmix.variance._base import VARIANCES
from pmwmix.variance.robust import robust, robust_block

# Whether Stata and WeMix cut the information into blocks depends on the model, linear or not; the caller says so in
# `VarianceInput.p`. HLM's cut is that of "robust-block".
VARIANCES.add("gllamm", robust)
VARIANCES.add("hlm", partial(robust_block, corrected=False))
VARIANCES.add("mplus", partial(robust, corrected=False))
VARIANCES.add("stata", robust_block)
VARIANCES.add("wemix", robust_block)
