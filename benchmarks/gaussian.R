# lme4's side of gaussian.py: one unweighted ML fit per plausible value, timed around the fits alone.
# Rscript gaussian.R data.csv "escs + female + x3" 10   ->   one JSON line
arguments <- commandArgs(trailingOnly = TRUE)
suppressPackageStartupMessages(library(lme4))

data <- if (requireNamespace("data.table", quietly = TRUE)) {
  data.table::fread(arguments[[1]], data.table = FALSE, showProgress = FALSE)
} else {
  read.csv(arguments[[1]])
}

fit_one <- function(k) {
  model <- as.formula(sprintf("PV%dMATH ~ %s + (1 + escs | SCHOOLID)", k, arguments[[2]]))
  start <- proc.time()[["elapsed"]]
  fit <- lmer(model, data, REML = FALSE)
  c(seconds = proc.time()[["elapsed"]] - start, escs = fixef(fit)[["escs"]])
}

fits <- vapply(seq_len(as.integer(arguments[[3]])), fit_one, numeric(2))
cat(sprintf(
  '{"lme4": "%s", "seconds": [%s], "escs": %.6f}\n',
  packageVersion("lme4"), paste(sprintf("%.3f", fits["seconds", ]), collapse = ", "), mean(fits["escs", ])
))
