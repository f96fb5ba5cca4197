"""`re2pix build`: builds engines ahead of time, so that no start has to wait for them."""

import argparse
import re
import time

from re2pix_node.bench.build_bar import wait_in_sight
from re2pix_node.bundle.locate import bundle_folder
from re2pix_node.bundle.reader import Bundle, read_bundle
from re2pix_node.engines.attempt import try_engine
from re2pix_node.engines.cache import EngineCache
from re2pix_node.engines.tensorrt.bindings import RTX, TENSORRT
from re2pix_node.engines.tensorrt.building import EngineBuild, EngineJob
from re2pix_node.engines.tensorrt.cuda import Device
from re2pix_node.engines.tensorrt.engine import ANY, RUNTIME, engine_jobs, precisions, usable
from re2pix_node.errors import EngineError, Re2pixError

PRECISIONS = ("fp16", "bf16", "fp32")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", type=bundle_folder, help="the folder of a bundle, or the name of one that ships")
    parser.add_argument(
        "--precision",
        default="auto",
        choices=("auto", *PRECISIONS),
        help="auto (default): the fastest that reproduces the proof, or, with --target, fp16",
    )
    parser.add_argument(
        "--target",
        metavar="SM",
        help="build for another GPU, by its compute capability, as sm86 or 8.6 (TensorRT-RTX only)",
    )
    parser.add_argument("--force", action="store_true", help="build again engines that already exist")


def run(options: argparse.Namespace) -> int:
    bundle = read_bundle(options.bundle)
    if options.target:
        _for_target(bundle, options.precision, options.target, options.force)
    else:
        _for_this_machine(bundle, options.precision, options.force)
    return 0


def _for_target(bundle: Bundle, precision: str, target: str, force: bool) -> None:
    capability = _capability(target)
    if not RTX.installed:
        raise EngineError(
            f"--target needs TensorRT-RTX, which is not installed ({TENSORRT.title} builds for the GPU of its machine "
            "only): pip install tensorrt-rtx-cu13-libs tensorrt-rtx-cu13-bindings"
        )
    precision = "fp16" if precision == "auto" else precision
    _build(engine_jobs(bundle, precision, RTX, Device(ANY, capability, ANY)), force)
    print(
        f"They are for TensorRT-RTX on GPUs of compute capability {capability}. Copy them, with the .json beside them, "
        "to the same folder of such a machine; they prove themselves there."
    )


def _for_this_machine(bundle: Bundle, precision: str, force: bool) -> None:
    """Try the precisions in order, up to the first that reproduces the proof."""
    bindings, device = usable()
    offered = precisions()
    if precision not in ("auto", *offered):
        raise EngineError(f"the {device.name} does not compute in {precision}, only in {', '.join(offered)}")
    faults = []
    for candidate in offered:
        if precision in ("auto", candidate):
            fault = _fault(bundle, engine_jobs(bundle, candidate, bindings, device), candidate, force)
            if not fault:
                return
            faults.append(fault)
    raise EngineError(f"no engine reproduces {bundle.path}: {'; '.join(faults)}")


def _fault(bundle: Bundle, jobs: list[EngineJob], precision: str, force: bool) -> str:
    """Build, load and prove an engine; return the fault, if there is one."""
    try:
        _build(jobs, force)
    except EngineError as error:
        print(error)
        return str(error)
    engine, attempt = try_engine(RUNTIME, bundle, precision, threads=0)
    print(attempt)
    return "" if engine else str(attempt)


def _build(jobs: list[EngineJob], force: bool) -> None:
    cache = EngineCache()
    start = time.monotonic()
    build = EngineBuild(cache, jobs, force)
    if force or not all(cache.has(job.key) for job in jobs):
        print(f"building {', '.join(job.what for job in jobs)}; this can take minutes", flush=True)
    wait_in_sight(build)
    for job, path in zip(jobs, build.result(), strict=True):
        print(f"{job.what}: {path}, {path.stat().st_size / 1e6:.0f} MB")
    print(f"ready in {time.monotonic() - start:.0f} s")


def _capability(target: str) -> str:
    """The capability as "8.6", from sm86, sm_86, 86 or 8.6."""
    found = re.fullmatch(r"(?:sm_?)?(\d{1,2})\.?(\d)", target)
    if not found:
        raise Re2pixError(f"--target {target}: not a compute capability: give one as sm86 or 8.6")
    return f"{found[1]}.{found[2]}"
