"""Results of several plausible values or imputations combined: Rubin's rules and their tests; numpy only."""
