"""Analysis of traces and codes: statistics, tables and figures."""
