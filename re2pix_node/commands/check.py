"""`re2pix check`: describes a bundle, and shows which engines of this machine reproduce it."""

import argparse
import os

from re2pix_node.bundle.locate import bundle_folder
from re2pix_node.bundle.reader import Bundle, read_bundle, render_signature, signatures
from re2pix_node.commands.arguments import add_threads_argument
from re2pix_node.common.wording import one_line, printable
from re2pix_node.engines.attempt import try_engine
from re2pix_node.engines.registry import runtimes
from re2pix_node.errors import EngineError
from re2pix_node.render.renderer import attempts


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", type=bundle_folder, help="the folder of a bundle, or the name of one that ships")
    add_threads_argument(parser)


def run(options: argparse.Namespace) -> int:
    bundle = read_bundle(options.bundle)
    print("\n".join(map(printable, describe(bundle))))
    threads = options.threads or len(os.sched_getaffinity(0))
    proved = 0
    for runtime in runtimes():
        try:
            precisions = runtime.precisions()
        except EngineError as error:
            print(f"  {runtime.name}: {one_line(error)}")
            continue
        for precision in precisions:
            _, attempt = try_engine(runtime, bundle, precision, threads)
            proved += attempt.fault is None
            print(f"  {printable(str(attempt))}")
    if not proved:
        raise EngineError(f"no engine of this machine reproduces {bundle.path}: the lines above say why")
    if bundle.manifest.render:
        _check_pictures(bundle, threads)
    return 0


def _check_pictures(bundle: Bundle, threads: int) -> None:
    drawing = 0
    for attempt in attempts(bundle, threads):
        drawing += attempt.graph is not None
        print(f"  pictures by {printable(str(attempt))}")
    if not drawing:
        raise EngineError(f"no engine of this machine draws the pictures of {bundle.path}: the lines above say why")


def describe(bundle: Bundle) -> list[str]:
    """A bundle in a few lines."""
    m = bundle.manifest
    lines = [
        f"{m.name} {m.version} ({m.licence}): {m.description}",
        f"  frames    {m.time.context}, {m.time.stride:g} s apart ({m.time.stride_min:g} to {m.time.stride_max:g}), "
        f"{m.image.width} x {m.image.height}, {m.image.fit}",
        f"  horizons  {', '.join(f'{step * m.time.stride:.2f} s' for step in m.time.horizons)}",
        f"  classes   {', '.join(c.name for c in m.labels.classes)}",
        f"  basis     {bundle.basis[:16]}",
    ]
    graphs = signatures(m) | ({"render": render_signature(m)} if m.render else {})
    for graph, signature in graphs.items():
        lines.append(f"  {graph:<9} {', '.join(f'{name} {tensor}' for name, tensor in signature.outputs.items())}")
    lines += [f"  weights   {p.what}: {p.source}, {p.licence}" for p in m.provenance]
    lines += [f"  score     {s.metric} {s.value:g} on {s.data} ({s.command})" for s in m.scores]
    return lines
