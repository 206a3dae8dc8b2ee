# lme4's side of bootstrap.py.
# Rscript bootstrap.R hsb.csv 1000
arguments <- commandArgs(trailingOnly = TRUE)
suppressPackageStartupMessages(library(lme4))
model <- lmer(mAch ~ cses * (meanses + sector) + (1 + cses | school), read.csv(arguments[[1]]))
of <- function(m) c(fixef(m), as.data.frame(VarCorr(m))$sdcor)
spent <- system.time(drawn <- suppressWarnings(bootMer(model, of, nsim = as.integer(arguments[[2]]), seed = 1)))
cat(sprintf('{"seconds": %.3f, "wall": %.3f, "error": %.6f}\n', sum(spent[1:2]), spent[["elapsed"]],
            sd(drawn$t[, "cses"], na.rm = TRUE)))
