"""Draws pictures and exact labels of meshes with Panda3D off screen: no X server; on a CPU with Mesa's llvmpipe."""

import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from re2pix_node.errors import Re2pixError
from re2pix_node.footage.cityscapes_classes import SKY
from re2pix_node.simulator.mesh import FLOATS, Array, Mesh, Paint
from re2pix_node.simulator.shaders import COLOUR, LABELS, SHADOW, SKY_DOME
from re2pix_node.simulator.sky import Light

NEAR, FAR = 0.4, 400.0


class RenderError(Re2pixError):
    """Pictures cannot be made on this machine."""


@dataclass(frozen=True)
class Lens:
    """A pinhole camera; pixel (0, 0) is the middle of the first one, so the axis meets the picture at (w - 1) / 2."""

    width: int
    height: int
    horizontal_degrees: float

    @property
    def matrix(self) -> Array:
        focal = self.width / 2 / np.tan(np.radians(self.horizontal_degrees) / 2)
        return np.array([[focal, 0, (self.width - 1) / 2], [0, focal, (self.height - 1) / 2], [0, 0, 1]])


@dataclass(frozen=True)
class Shot:
    """The camera's view: RGB, train ids, instances (0 = static), and depth along the axis in metres (sky: inf)."""

    image: Array
    segmentation: Array
    instances: Array
    depth: Array


class StreetRasterizer:
    """One picture and its labels per call, of meshes that stand or move. One window system for the whole process."""

    def __init__(self, lens: Lens, textures: Array, light: Light, samples: int = 4) -> None:
        p3d = _panda()
        self._p3d = p3d
        self._lens = lens
        self._root = p3d.NodePath("world")
        self._root.setShaderInput("instance", 0.0)
        self._root.setBin("unsorted", 0)  # the default sorts by address, which differs from run to run
        self._textures = _texture_array(p3d, textures)
        self._root.setShaderInput("textures", self._textures)
        for name in ("sun_direction", "sun", "sky", "ground", "haze"):
            self._root.setShaderInput(name, p3d.LVecBase3f(*(float(v) for v in getattr(light, name))))
        self._root.setShaderInput("haze_density", light.haze_density)
        self._root.setShaderInput("shadow", light.shadow)
        optics = p3d.PerspectiveLens()
        optics.setFilmSize(lens.width, lens.height)
        optics.setFocalLength(float(lens.matrix[0, 0]))
        optics.setNearFar(NEAR, FAR)
        self._rig = self._root.attachNewNode("rig")
        self._colour, self._colour_buffer = self._target("colour", COLOUR, optics, samples)
        self._labels, self._labels_buffer = self._target("labels", LABELS, optics, 0)
        self._dome = self._sky_dome(light.panorama)

    def add(self, mesh: Mesh, instance: int = 0) -> Any:
        """Add a mesh and return its handle, for `move`."""
        node = self._root.attachNewNode(_geometry(self._p3d, mesh))
        if instance:
            node.setShaderInput("instance", float(instance))
        return node

    def add_shadow(self, mesh: Mesh) -> Any:
        """Add a mesh that darkens everything behind it and does not appear in labels."""
        node = self._root.attachNewNode(_geometry(self._p3d, mesh))
        node.setShader(_shader(self._p3d, SHADOW), 10)
        node.setTransparency(self._p3d.TransparencyAttrib.MAlpha)
        node.setDepthWrite(False)
        node.setBin("fixed", 10)
        node.hide(self._p3d.BitMask32.bit(1))
        return node

    def move(self, handle: Any, pose: Array | None) -> None:
        """Move a mesh to its present pose (4 x 4, from its frame to the map), or out of sight."""
        if pose is None:
            handle.hide()
        else:
            handle.show()
            handle.setMat(self._p3d.LMatrix4f(*pose.T.ravel().tolist()))

    def shoot(self, pose: Array) -> Shot:
        """The world from a camera (4 x 4, from its frame to the map; x right, y down, z ahead)."""
        self._rig.setMat(self._p3d.LMatrix4f(*(pose @ _FROM_PANDA).T.ravel().tolist()))
        self._dome.setPos(*pose[:3, 3].tolist())
        self._p3d.GraphicsEngine.getGlobalPtr().renderFrame()
        shape = (self._lens.height, self._lens.width, 4)
        colour = np.frombuffer(self._colour.getRamImage(), np.uint8).reshape(shape)[::-1]
        labels = np.frombuffer(self._labels.getRamImage(), np.float32).reshape(shape)[::-1]
        # Panda3D gives blue, green, red.
        segmentation = np.rint(labels[..., 2]).astype(np.uint8)
        depth = labels[..., 0].copy()
        depth[segmentation == SKY] = np.inf
        return Shot(
            np.ascontiguousarray(colour[..., 2::-1]), segmentation, np.rint(labels[..., 1]).astype(np.uint16), depth
        )

    def close(self) -> None:
        engine = self._p3d.GraphicsEngine.getGlobalPtr()
        for buffer in (self._colour_buffer, self._labels_buffer):
            engine.removeWindow(buffer)
        self._root.removeNode()

    def _target(self, name: str, shader: tuple[str, str], optics: Any, samples: int) -> tuple[Any, Any]:
        p3d = self._p3d
        properties = p3d.FrameBufferProperties()
        properties.setRgbColor(True)
        properties.setDepthBits(24)
        if name == "labels":
            properties.setFloatColor(True)
            properties.setRgbaBits(32, 32, 32, 32)
        else:
            properties.setRgbaBits(8, 8, 8, 8)
            properties.setMultisamples(samples)
        buffer = _buffer(p3d, name, properties, self._lens)
        texture = p3d.Texture(name)
        buffer.addRenderTexture(texture, p3d.GraphicsOutput.RTMCopyRam, p3d.GraphicsOutput.RTPColor)
        buffer.setClearColor(p3d.LVecBase4f(float(SKY), 0, 0, 0) if name == "labels" else p3d.LVecBase4f(0, 0, 0, 1))
        camera = p3d.Camera(name, optics)
        camera.setCameraMask(p3d.BitMask32.bit(1 if name == "labels" else 0))
        state = p3d.NodePath("state")
        state.setShader(_shader(p3d, shader), 1)
        if samples:
            state.setAntialias(p3d.AntialiasAttrib.MMultisample)
        camera.setInitialState(state.getState())
        buffer.makeDisplayRegion().setCamera(self._rig.attachNewNode(camera))
        return texture, buffer

    def _sky_dome(self, panorama: Array) -> Any:
        p3d = self._p3d
        mesh = Mesh()
        mesh.ball((0, 0, 0), (300, 300, 300), Paint(SKY), segments=32)
        node = self._root.attachNewNode(_geometry(p3d, mesh))
        texture = p3d.Texture("panorama")
        texture.setup2dTexture(panorama.shape[1], panorama.shape[0], p3d.Texture.TUnsignedByte, p3d.Texture.FRgb)
        texture.setRamImage(np.ascontiguousarray(panorama[::-1, :, ::-1]).tobytes())
        texture.setWrapV(p3d.SamplerState.WMClamp)
        node.setShader(_shader(p3d, SKY_DOME), 10)
        node.setShaderInput("panorama", texture)
        node.setTwoSided(True)
        node.setDepthWrite(False)
        node.setBin("background", 0)
        node.hide(p3d.BitMask32.bit(1))
        # It surrounds the camera and is always in the picture.
        node.node().setFinal(True)
        return node


_FROM_PANDA = np.array([[1.0, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1]])


def _panda() -> Any:
    try:
        import panda3d.core as p3d
    except ImportError as error:
        raise RenderError(f"panda3d: {error}: pip install -r requirements/simulate.txt") from error
    settings = "audio-library-name null\nnotify-level error\nnotify-level-display error\nsync-video 0\n"
    if not os.environ.get("RE2PIX_SHOW_GL"):
        settings += "notify-level fatal\nnotify-level-display fatal\nnotify-level-device fatal\n"
    p3d.loadPrcFileData("re2pix", settings + "load-display p3headlessgl\nbasic-shaders-only 0\ntextures-power-2 none\n")
    return p3d


_hosts: list[Any] = []


def _host(p3d: Any) -> Any:
    """The off-screen window whose OpenGL context everything shares: one for the whole process."""
    if not _hosts:
        pipe = p3d.GraphicsPipeSelection.getGlobalPtr().makeModulePipe("p3headlessgl")
        if pipe is None or not pipe.isValid():
            raise RenderError("OpenGL: EGL does not start: apt-get install libegl1 libgl1 libgl1-mesa-dri")
        properties = p3d.FrameBufferProperties()
        properties.setRgbColor(True)
        window, flags = p3d.WindowProperties.size(1, 1), p3d.GraphicsPipe.BFRefuseWindow
        host = p3d.GraphicsEngine.getGlobalPtr().makeOutput(pipe, "host", 0, properties, window, flags)
        if host is None:
            raise RenderError("OpenGL: no off-screen window: apt-get install libegl1 libgl1 libgl1-mesa-dri")
        host.setActive(False)
        _hosts.append(host)
    return _hosts[0]


def _buffer(p3d: Any, name: str, properties: Any, lens: Lens) -> Any:
    host = _host(p3d)
    window = p3d.WindowProperties.size(lens.width, lens.height)
    # With a host this is a framebuffer object, which can hold floating-point numbers.
    buffer = p3d.GraphicsEngine.getGlobalPtr().makeOutput(
        host.getPipe(), name, 0, properties, window, p3d.GraphicsPipe.BFRefuseWindow, host.getGsg(), host
    )
    if buffer is None:
        raise RenderError(
            f"OpenGL: no off-screen {name} buffer of {lens.width}x{lens.height}: update Mesa to 22 or later"
        )
    return buffer


def _shader(p3d: Any, stages: tuple[str, str]) -> Any:
    return p3d.Shader.make(p3d.Shader.SLGLSL, vertex=stages[0], fragment=stages[1])


def _texture_array(p3d: Any, pictures: Array) -> Any:
    layers, height, width, _ = pictures.shape
    texture = p3d.Texture("textures")
    texture.setup2dTextureArray(width, height, layers, p3d.Texture.TUnsignedByte, p3d.Texture.FRgba)
    # Rows from the bottom up, channels as blue, green, red, alpha.
    texture.setRamImage(np.ascontiguousarray(pictures[:, ::-1][..., [2, 1, 0, 3]]).tobytes())
    texture.setMinfilter(p3d.SamplerState.FTLinearMipmapLinear)
    texture.setMagfilter(p3d.SamplerState.FTLinear)
    texture.setWrapU(p3d.SamplerState.WMRepeat)
    texture.setWrapV(p3d.SamplerState.WMRepeat)
    return texture


def _geometry(p3d: Any, mesh: Mesh) -> Any:
    vertices, triangles = mesh.arrays()
    layout = p3d.GeomVertexArrayFormat()
    layout.addColumn("vertex", 3, p3d.Geom.NTFloat32, p3d.Geom.CPoint)
    layout.addColumn("normal", 3, p3d.Geom.NTFloat32, p3d.Geom.COther)
    layout.addColumn("surface", 4, p3d.Geom.NTFloat32, p3d.Geom.COther, -1, 4)
    layout.addColumn("tint", 3, p3d.Geom.NTFloat32, p3d.Geom.COther)
    if layout.getStride() != 4 * FLOATS:
        raise RenderError(f"panda3d {p3d.PandaSystem.getVersionString()}: lays vertices out otherwise: use 1.10.16")
    form = p3d.GeomVertexFormat.registerFormat(p3d.GeomVertexFormat(layout))
    data = p3d.GeomVertexData("mesh", form, p3d.Geom.UHStatic)
    data.uncleanSetNumRows(len(vertices))
    data.modifyArrayHandle(0).copyDataFrom(np.ascontiguousarray(vertices, np.float32))
    faces = p3d.GeomTriangles(p3d.Geom.UHStatic)
    faces.setIndexType(p3d.Geom.NTUint32)
    indices = faces.modifyVertices()
    indices.uncleanSetNumRows(triangles.size)
    indices.modifyHandle().copyDataFrom(np.ascontiguousarray(triangles, np.uint32))
    geometry = p3d.Geom(data)
    geometry.addPrimitive(faces)
    node = p3d.GeomNode("mesh")
    node.addGeom(geometry)
    return node
