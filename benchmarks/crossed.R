# lme4's side of crossed.py: the models whose names stand there.
# Rscript crossed.R folder
folder <- commandArgs(trailingOnly = TRUE)[[1]]
suppressPackageStartupMessages(library(lme4))

inst <- read.csv(gzfile(file.path(folder, "insteval.csv.gz")))
for (name in c("s", "d", "dept", "service")) inst[[name]] <- factor(inst[[name]])
verb <- read.csv(gzfile(file.path(folder, "verbagg.csv.gz")), stringsAsFactors = TRUE)
verb$y <- as.integer(verb$r2 == "Y")

out <- list()
timed <- function(name, fit) {
  seconds <- system.time(model <- fit)
  out[[name]] <<- sprintf('"%s": {"seconds": %.3f, "wall": %.3f, "loglik": %.6f}', name,
                          sum(seconds[1:2]), seconds[["elapsed"]], logLik(model))
}
rating <- y ~ service + (1 | s) + (1 | d) + (1 | dept)
timed("InstEval, ML", lmer(rating, inst, REML = FALSE))
timed("InstEval, REML", lmer(rating, inst))
timed("VerbAgg, Laplace", glmer(y ~ Anger + Gender + btype + situ + (1 | id) + (1 | item), verb, family = binomial))
cat("{", paste(out, collapse = ", "), "}\n", sep = "")
