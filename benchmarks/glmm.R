# lme4's side of glmm.py: one unweighted glmer fit, timed around the fit alone.
# Rscript glmm.R data.csv "y ~ x1 + (1 | group)" 7   ->   one JSON line
arguments <- commandArgs(trailingOnly = TRUE)
suppressPackageStartupMessages(library(lme4))

data <- read.csv(arguments[[1]])
start <- proc.time()[["elapsed"]]
fit <- glmer(as.formula(arguments[[2]]), data, family = binomial, nAGQ = as.integer(arguments[[3]]))
seconds <- proc.time()[["elapsed"]] - start
cat(sprintf(
  '{"lme4": "%s", "seconds": %.3f, "x1": %.6f, "loglik": %.4f}\n',
  packageVersion("lme4"), seconds, fixef(fit)[["x1"]], as.numeric(logLik(fit))
))
