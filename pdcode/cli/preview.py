"""The output of `pdcode run --dry-run`: the resolved configuration, codes, layers and messages."""

from collections.abc import Iterator, Sequence

from ..choice.preset import prepare
from ..config import Config, Table, building
from ..config import load as configfile
from ..config.defaults import Origins, preset_filled, with_derived_keys
from ..config.write import to_toml
from ..schemes.common.assignments import DataRows, Rotating
from ..session.setup import Components
from ..transport.layout import Layout
from ..util.formats import counted, duration, rate
from ..virtual import capacity


def dry_run_text(given: Config, origins: Origins, components: Components) -> str:
    """Describe a run as TOML that `pdcode run` accepts; comments give origins of values, codes and sizes.

    Parameters
    ----------
    given : Config
        As it was loaded.
    origins : Origins
        Of the values of `given`; origins of the keys that are resolved since are added.
    components : Components
    """
    config, sized = components.config, components.requested
    if given.scheme.is_auto:
        chosen, own = f"{sized.scheme.name}:{sized.scheme.preset}", Origins()
        given = preset_filled(given, chosen, own)
        origins.update({key: origin for key, origin in own.items() if key not in origins})
        origins.update(dict.fromkeys(("scheme.name", "scheme.preset"), "auto, by predicted times"))
    origins.note_resolved(given, sized, "auto, by the data")
    origins.note_resolved(sized, config, "auto, by the link")
    origins.note_resolved(config, with_derived_keys(config))
    for key, value in rates(config):
        origins[key] = f"{origins.get(key, 'default')}; {rate(value)}"
    lines = [to_toml(with_derived_keys(config), origins), *codes(components), "# Problem"]
    lines += [f"#   {line}" for line in components.remarks()] + layers(components)
    for number, layout in enumerate(components.layouts):
        round_ = f", round {number}" if len(components.layouts) > 1 else ""
        lines.append(f"# Messages ({counted(config.workers.count, 'worker')}{round_})")
        lines += messages(config, layout, components.state.theta.nbytes)
    if not config.reduce.summed:
        lines += coordinator(components)
    return "\n".join(lines)


def dry_run(path: str, settings: Sequence[str], config: Config) -> str:
    """Describe a simulation of a file with settings; `config` has the costs of other files, too."""
    origins = Origins()
    loaded, _ = configfile.load(path, settings, origins)
    origins.note_resolved(loaded, config, "options")
    return dry_run_text(config, origins, prepare(config, path))


def rates(config: Config) -> Iterator[tuple[str, float]]:
    """Yield the keys that are numbers of bytes a second, and their values."""
    for name in config.__struct_fields__:
        if isinstance(table := getattr(config, name), Table):
            for key, quantity in building.quantities(type(table)).items():
                if quantity == "rate" and (value := getattr(table, key)) is not None:
                    yield f"{name}.{key}", value


def codes(components: Components) -> list[str]:
    """Describe the codes."""
    assignment, scheme = components.state.assignment, components.scheme
    preset = components.config.scheme.preset
    name = f"{scheme.name}, preset {preset}" if preset else f"{scheme.name}: {scheme.summary}"
    lines = [f"# Scheme {name}", "# Codes"]
    for k, code in components.state.designs.items():
        low, high = code.frame_bounds
        bounds = ", ".join(f"{name} {value:.4f}" for name, value in code.bounds.items() if value > 0)
        lines.append(
            f"#   k={k}: {code.family}, {len(code)} rows of weight {code.weight}, "
            f"{'redrawn' if isinstance(assignment, Rotating) else 'static'}, "
            f"coherence {code.coherence:.4f}, frame bounds {low:.4g} … {high:.4g}"
        )
        lines.append(f"#     lower bounds on coherence: {bounds or 'none above 0'}")
        lines += [f"#     note: {note}" for note in code.notes]
    if not components.state.designs:
        if isinstance(assignment, DataRows):
            combined = f"{assignment.weight} of {assignment.shards} shards"
            lines.append(f"#   none over blocks: a task combines the gradients of {combined}")
        elif assignment is None:
            lines.append("#   none")
        elif all(unit.uncoded for unit in assignment.layers):
            lines.append("#   none: everything is sent uncoded")
        else:
            how = "worker-selected" if components.layout.worker_selected else "drawn by both ends"
            what = f"of weight {assignment.weights}, {list(assignment.rows)} per task"
            lines.append(f"#   {how}, {what}")
    return lines


def layers(components: Components) -> list[str]:
    """Describe the layers, and the units of a payload unless these are the layers."""
    lines, units = ["# Layers"], components.layout.units
    coded = units == tuple(components.problem.layers)
    for layer in components.problem.layers:
        cut = f"{layer.count} blocks of {layer.size} × {layer.width} by {layer.axis}"
        lines.append(
            f"#   {layer.name}: {layer.description}, {layer.length} parameters"
            + coded * f", {'uncoded' if layer.uncoded else cut}"
        )
    if not coded:
        lines.append("# Units of a payload")
        for number, (unit, r) in enumerate(zip(units, components.layout.rows, strict=True)):
            whole = "whole" if r == 1 else f"{r} vectors"
            cut = whole if unit.uncoded else f"{unit.count} blocks of {unit.elements}"
            lines.append(f"#   {number}: {unit.length} parameters, {cut}")
    return lines


def coordinator(components: Components) -> list[str]:
    """Describe the load of rank 0, and how many workers it can serve."""
    need = capacity.load_of(components)
    return [
        "# Rank 0, by [machine], [link] and [stragglers]",
        f"#   a payload of every worker takes {need.processor:.2g} of a task's mean time "
        f"({duration(1e9 * need.task_s)}) at its processor, {need.ingress:.2g} of it to receive, "
        f"{need.egress:.2g} to send tasks; it serves up to {capacity.max_workers(components):,} workers",
    ]


def messages(config: Config, layout: Layout, theta: int) -> list[str]:
    """Describe the message sizes of a round; `theta` is the size of θ in bytes."""
    header, wires = layout.header_bytes, ", ".join(dict.fromkeys(layout.wires))
    if layout.blocks is not None:
        wires = f"integers of {layout.blocks.bits} bits"
    if config.reduce.summed:
        least = config.reduction.exchanged_bytes(layout)
        payload = f"{config.reduce.kind} of the payload, {layout.payload_bytes} bytes in {wires}"
        return [f"#   {payload}; a worker sends and receives at least {least}"]
    body = layout.task_bytes - layout.body_offset
    relayed, exchanged = config.downlink.relays, config.downlink.exchanges
    what = "references to payloads" if exchanged else "relayed codewords"
    task = f"{what}, at most {body}" if relayed else f"θ {body}" if body == theta else f"body {body}"
    peers = f", and {config.workers.count - 1} times to other workers" if exchanged else ""
    reply = f"codewords {layout.codeword_bytes}, " if layout.worker_selected else ""
    times = f"{layout.messages} × " if layout.messages > 1 else ""
    return [
        f"#   task  {'at most ' * relayed}{layout.task_bytes} bytes: header {header}, "
        f"codewords and padding {layout.body_offset - header}, {task}",
        f"#   reply {times}{layout.reply_bytes} bytes: header {header}, {reply}payload "
        f"{layout.payload_bytes} in {wires}; "
        f"{layout.messages * layout.reply_bytes / (theta + header):.4f} of a full gradient's{peers}",
    ]
