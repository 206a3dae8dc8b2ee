"""What is inferred from a finished fit: degrees of freedom, profiles, intraclass correlations, effects."""
