# lme4's side of first_fits.py: the same fourteen models with their summaries, in one process.
# Rscript first_fits.R folder
folder <- commandArgs(trailingOnly = TRUE)[[1]]
suppressPackageStartupMessages({library(lme4); if (requireNamespace("lmerTest", quietly = TRUE)) library(lmerTest)})

table <- function(name) read.csv(gzfile(file.path(folder, paste0(name, ".csv.gz"))), stringsAsFactors = TRUE)
show <- function(fit) invisible(capture.output(print(summary(fit))))
linear <- function(name, formula, reml) show(suppressMessages(lmer(as.formula(formula), table(name), REML = reml)))
general <- function(name, formula, family) show(suppressMessages(glmer(as.formula(formula), table(name), family = family)))

linear("hsb82", "mathach ~ 1 + (1 | school)", TRUE)
linear("hsb82", "mathach ~ cses + (1 | school)", TRUE)
linear("hsb82", "mathach ~ cses + (cses | school)", TRUE)
linear("hsb82", "mathach ~ meanses * cses + sector * cses + (cses | school)", FALSE)
linear("classroom", "mathgain ~ ses + mathknow + (1 | schoolid/classid)", TRUE)
linear("classroom", "mathkind ~ ses + (ses | schoolid)", TRUE)
linear("egsingle", "math ~ year + (year | schoolid/childid)", TRUE)
linear("exam", "normexam ~ standLRT + sex + schgend + (standLRT | school)", FALSE)
linear("sleepstudy", "Reaction ~ Days + (Days || Subject)", TRUE)
linear("scotssec", "attain ~ sex + (1 | primary) + (1 | second)", TRUE)
general("contraception", "use ~ age + urban + (1 | district)", binomial)
general("contraception", "use ~ age + urban + (urban | district)", binomial)
general("guimmun", "immun ~ kid2p + rural + (1 | comm/mom)", binomial)
general("owls", "SiblingNegotiation ~ FoodTreatment + ArrivalTime + (1 | Nest)", poisson)
