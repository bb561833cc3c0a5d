"""What `pdcode run --dry-run` prints: the resolved configuration, the codes, the messages."""

from __future__ import annotations

import json

import msgspec

from .assignments import Assignment
from .config import Config
from .messages import Layout


def describe(config: Config, assignment: Assignment, layout: Layout) -> str:
    """All of it, as text; the first part is TOML that runs as it is."""
    return "\n".join([toml(config), *codes(assignment), *layers(layout), *messages(config, layout)])


def toml(config: Config) -> str:
    """The configuration as TOML; keys without a value are left out."""
    lines, tables = [], msgspec.to_builtins(config)
    for name, value in tables.items():
        if not isinstance(value, dict):
            lines.append(f"{name} = {json.dumps(value)}")
    for name, table in tables.items():
        if isinstance(table, dict):
            lines += [
                "",
                f"[{name}]",
                *(f"{key} = {json.dumps(value)}" for key, value in table.items() if value is not None),
            ]
    return "\n".join([*lines, ""])


def codes(assignment: Assignment) -> list[str]:
    """A line or two for each code."""
    lines = ["# Codes"]
    for k, code in assignment.designs.items():
        low, high = code.frame_bounds
        bounds = ", ".join(f"{name} {value:.4f}" for name, value in code.bounds.items() if value > 0)
        lines.append(
            f"#   k={k}: {code.family}, {len(code)} rows of weight {code.weight}, "
            f"{'redrawn when used up' if assignment.rotate else 'static'}, "
            f"coherence {code.coherence:.4f}, frame bounds {low:.4g} … {high:.4g}"
        )
        lines.append(f"#     lower bounds on coherence: {bounds or 'none above 0'}")
        lines += [f"#     note: {note}" for note in code.notes]
    return lines if assignment.designs else [*lines, "#   none: every layer is sent whole"]


def layers(layout: Layout) -> list[str]:
    """A line for each layer."""
    lines = ["# Layers"]
    for layer in layout.layers:
        cut = f"{layer.count} blocks of {layer.size} × {layer.width} by {layer.axis}"
        lines.append(
            f"#   {layer.layer}: {layer.inputs} inputs and bias → {layer.outputs} outputs, "
            f"{layer.length} parameters, {'whole' if layer.whole else cut}"
        )
    return lines


def messages(config: Config, layout: Layout) -> list[str]:
    """Sizes of tasks and replies."""
    header, theta = layout.header_bytes, layout.gradient_bytes
    return [
        f"# Messages ({config.workers.count} workers)",
        f"#   task  {layout.task_bytes} bytes: header {header}, θ {theta}, "
        f"codewords and padding {layout.task_bytes - header - theta}",
        f"#   reply {layout.reply_bytes} bytes: header {header}, payload {layout.payload_bytes}; "
        f"{layout.reply_bytes / (theta + header):.4f} of a full gradient's",
    ]
