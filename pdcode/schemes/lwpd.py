"""Lightweight projective derivative codes (after Soto, Ilmer, Guan, Li, ICML 2022).

The abstract gives the idea: low-weight codewords of the partial derivatives, decoded iteratively. That the
codewords are a dithered net which is redrawn when used up, and that workers keep what their codewords leave
out, is this project's reading.
"""

TABLES: dict[str, dict[str, object]] = {
    "code": {"family": "net", "blocks": 16, "weight": 4, "rotate": True},
    "decoder": {"kind": "adjoint"},
    "memory": {"kind": "worker"},
}
