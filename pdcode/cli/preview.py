"""The text of `pdcode run --dry-run`: the resolved configuration, the codes, the messages."""

from __future__ import annotations

from ..coding.assignments import Assignment, Chosen, Rotating
from ..config.tables import Config
from ..config.write import to_toml
from ..transport.layout import Layout


def describe(config: Config, assignment: Assignment, layout: Layout) -> str:
    """Describe a run; the first part is TOML that `pdcode run` takes, the rest is comments."""
    return "\n".join([to_toml(config), *codes(assignment), *layers(layout), *messages(config, layout)])


def codes(assignment: Assignment) -> list[str]:
    """Describe the codes, a line or two each."""
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
        who = "workers" if isinstance(assignment, Chosen) else "rank 0"
        what = f"of weight {assignment.weights}, {list(assignment.rows)} a task"
        whole = all(layer.whole for layer in assignment.layers)
        lines.append("#   none: every layer is sent whole" if whole else f"#   chosen by {who}, {what}")
    return lines


def layers(layout: Layout) -> list[str]:
    """Describe the layers, a line each."""
    lines = ["# Layers"]
    for layer in layout.layers:
        cut = f"{layer.count} blocks of {layer.size} × {layer.width} by {layer.axis}"
        lines.append(
            f"#   {layer.layer}: {layer.inputs} inputs and bias → {layer.outputs} outputs, "
            f"{layer.length} parameters, {'whole' if layer.whole else cut}"
        )
    return lines


def messages(config: Config, layout: Layout) -> list[str]:
    """Describe the sizes of tasks and replies, in bytes."""
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
