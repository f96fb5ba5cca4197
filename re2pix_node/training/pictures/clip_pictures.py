"""Stores the model's pictures beside the features in the cache: renderers learn from them."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from re2pix_node.common.atomic_write import write_beside
from re2pix_node.errors import TrainingError
from re2pix_node.footage.clip import Clip
from re2pix_node.footage.clips import open_clips
from re2pix_node.imaging.geometry import fit_frame
from re2pix_node.training.feature_cache import CachedClip
from re2pix_node.training.progress import progress_bar
from re2pix_node.training.run_file import BackboneSpec, DataEntry

FILE = "pictures.npy"
Pictures = NDArray[np.uint8]  # [frames, H, W, 3]; it stays on the disk until it is used


def clip_pictures(
    entries: Sequence[DataEntry], clips: Sequence[Sequence[CachedClip]], backbone: BackboneSpec
) -> list[Pictures]:
    """For every clip, a picture of each encoded frame; missing ones are made now."""
    jobs = []
    for entry, of_entry in zip(entries, clips, strict=True):
        opened = [
            (clip, mirrored)
            for clip in open_clips(Path(entry.path))
            for mirrored in ((False, True) if entry.mirror else (False,))
        ]
        jobs += [(*each, cached) for each, cached in zip(opened, of_entry, strict=True)]
    todo = [job for job in jobs if not (job[2].path / FILE).is_file()]
    with progress_bar("pictures", "frame", sum(len(cached.stamps) for *_, cached in todo)) as progress:
        for clip, mirrored, cached in todo:
            _write(clip, mirrored, cached, backbone)
            progress.set_postfix_str(cached.name, refresh=False)
            progress.update(len(cached.stamps))
    return [np.load(cached.path / FILE, mmap_mode="r") for *_, cached in jobs]


def _write(clip: Clip, mirrored: bool, cached: CachedClip, backbone: BackboneSpec) -> None:
    """Write the complete file or none. Two processes may do the same work; they leave the same file."""
    place = {stamp: index for index, stamp in enumerate(clip.stamps)}
    kept = [place[int(stamp)] for stamp in cached.stamps]
    shape = (len(kept), backbone.height, backbone.width, 3)
    with write_beside(cached.path / FILE, replace=True) as partial, closing(clip.frames(kept)) as frames:
        try:
            with partial.open("wb") as file:
                header = {"descr": "|u1", "fortran_order": False, "shape": shape}
                write_header: Any = np.lib.format.write_array_header_1_0  # numpy has no types for it
                write_header(file, header)
                for frame in frames:
                    fitted = fit_frame(frame, backbone.height, backbone.width, backbone.fit)[0]
                    file.write(np.ascontiguousarray(fitted[:, ::-1] if mirrored else fitted).tobytes())
        except OSError as error:
            raise TrainingError(
                f"{cached.path}: {shape[0]} pictures cannot be written ({error.strerror}): make room, or name another "
                "folder by `cache` in the run file"
            ) from None
