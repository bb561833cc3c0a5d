"""Every worker returns its whole gradient; rank 0 takes the mean of what has arrived."""

TABLES: dict[str, dict[str, object]] = {
    "code": {"family": "uncoded", "blocks": 1, "rotate": False},
    "memory": {"kind": "none"},
}
