"""Survey files to one table: SPSS, SAS, Stata, R, CSV, parquet and fixed width; files per country; merges by ids.

One file per format (`sav`, `sas`, `stata`, `rdata`, `text`, `fixedwidth`, `columnar`); `survey` walks
from paths to the table. Nothing is imported here: a table in memory is fitted without them.
"""
