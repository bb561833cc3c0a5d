"""What `pdcode run --dry-run` prints: the resolved configuration, the codes, the messages."""

from __future__ import annotations

import json

import msgspec

from ..coding.assignments import Assignment, Rotating
from ..config.tables import Config
from ..transport.layout import Layout


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
                *(f"{key} = {_value(value)}" for key, value in table.items() if value is not None),
            ]
    return "\n".join([*lines, ""])


def _value(value: object) -> str:
    """A value as TOML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_value(key)} = {_value(each)}" for key, each in value.items()) + "}"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # TOML has no surrogate pairs


def codes(assignment: Assignment) -> list[str]:
    """A line or two for each code."""
    lines = ["# Codes"]
    for k, code in assignment.designs.items():
        low, high = code.frame_bounds
        bounds = ", ".join(f"{name} {value:.4f}" for name, value in code.bounds.items() if value > 0)
        lines.append(
            f"#   k={k}: {code.family}, {len(code)} rows of weight {code.weight}, "
            f"{'redrawn' if isinstance(assignment, Rotating) else 'static'}, "
            f"coherence {code.coherence:.4f}, frame bounds {low:.4g} … {high:.4g}"
        )
        lines.append(f"#     lower bounds on coherence: {bounds or 'none above 0'}")
        lines += [f"#     note: {note}" for note in code.notes]
    if not assignment.designs:
        what = f"of weight {assignment.weights}, {list(assignment.rows)} a task"
        whole = all(layer.whole for layer in assignment.layers)
        lines.append("#   none: every layer is sent whole" if whole else f"#   chosen by workers, {what}")
    return lines


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
    body = layout.task_bytes - layout.body_at
    relayed = config.downlink.kind == "codewords"
    task = f"arrived codewords, {body} at the most" if relayed else f"θ {body}"
    reply = f"codewords {layout.words_bytes}, " if layout.chosen else ""
    return [
        f"# Messages ({config.workers.count} workers)",
        f"#   task  {layout.task_bytes} bytes{' at the most' * relayed}: header {header}, "
        f"codewords and padding {layout.body_at - header}, {task}",
        f"#   reply {layout.reply_bytes} bytes: header {header}, {reply}payload {layout.payload_bytes} in "
        f"{layout.wire}; {layout.reply_bytes / (theta + header):.4f} of a full gradient's",
    ]
