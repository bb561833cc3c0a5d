"""Quasi group codes over Z_m: subsets of group codes whose sums need less than sums of all codewords.

Source: Heidari and Pradhan, "How to compute modulo prime-power sums", arXiv:1609.04360, and the abstract of
Heidari, Shirani and Pradhan (IEEE Trans. Inf. Theory): a quasi group code is a subset of a group code, of the
codewords whose index is typical for laws of its symbols; it is not closed under addition. Finite codes,
trellises and decoders here are our reading of that.
"""
