"""Survey files to one table: SPSS, SAS, Stata, R, CSV, parquet and fixed width; files per country; merges by ids.

One file per format (`sav`, `sas`, `stata`, `rdata`, `text`, `fixedwidth`, `columnar`); `survey` walks
from paths to the table.
"""

from pmwmix.readers.conversion import convert
from pmwmix.readers.report import Report
from pmwmix.readers.survey import read_survey

__all__ = ["Report", "convert", "read_survey"]
