# nlme's and glmmTMB's side of structures.py: the models whose names stand there.
# Rscript structures.R folder
folder <- commandArgs(trailingOnly = TRUE)[[1]]
suppressPackageStartupMessages({
  library(nlme)
  library(glmmTMB)
})

growth <- read.csv(file.path(folder, "growth.csv"))
zeros <- read.csv(file.path(folder, "zeros.csv"))
zeros$g <- factor(zeros$g)

out <- list()
timed <- function(name, fit) {
  seconds <- system.time(model <- fit)
  out[[name]] <<- sprintf('"%s": {"seconds": %.3f, "wall": %.3f, "loglik": %.6f}', name,
                          sum(seconds[1:2]), seconds[["elapsed"]], logLik(model))
}
timed("random slope", lme(y ~ x + t, growth, ~ 1 + t | g, method = "ML", control = lmeControl(opt = "optim")))
timed("random slope, AR(1)", lme(y ~ x + t, growth, ~ 1 + t | g, corAR1(form = ~ t | g), method = "ML", control = lmeControl(opt = "optim")))
timed("Poisson", glmmTMB(y ~ x1 + x2 + x3 + (1 | g), zeros, family = poisson))
timed("zero-inflated Poisson", glmmTMB(y ~ x1 + x2 + x3 + (1 | g), zeros, family = poisson, ziformula = ~ x1))
cat("{", paste(out, collapse = ", "), "}\n", sep = "")
