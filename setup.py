"""The ROS 2 package (ament_python); `make` builds it through ros2_ws with colcon."""

from collections.abc import Sequence
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.develop import develop


class DevelopWithEnvShebang(develop):  # type: ignore[misc]
    """`colcon build --symlink-install` runs develop, which ignores the shebang that setup.cfg asks for."""

    def write_script(self, script_name: str, contents: str, mode: str = "t", blockers: Sequence[str] = ()) -> None:
        body = contents.partition("\n")[2]
        super().write_script(script_name, f"#!/usr/bin/env python3\n{body}", mode, blockers)


package = "re2pix_node"
here = Path(__file__).resolve().parent  # colcon's symlink install runs a link to this file, elsewhere


def requirements(*lists: str) -> list[str]:
    """What requirements/*.txt name: the one place where that is written."""
    lines = [line for name in lists for line in (here / f"requirements/{name}.txt").read_text().splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


setup(
    name=package,
    version="0.3.0",
    description="Forecasts what a vehicle's camera is about to see, as features and segmentations, over ROS 2",
    author="re2pix_node maintainers",
    maintainer="re2pix_node maintainers",
    maintainer_email="maintainers@re2pix-node.example",
    license="Apache-2.0",
    packages=find_packages(include=[package, f"{package}.*"]),
    package_data={package: ["py.typed"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{package}"]),
        (f"share/{package}", ["package.xml"]),
        *(
            (f"share/{package}/{folder}", [str(path) for path in sorted(folder.iterdir())])
            for folder in sorted(
                [*Path("data").iterdir(), *(found.parent for found in Path("models").glob("*/*.yaml"))]
            )
        ),
        *(
            (f"share/{package}/{folder}", [str(path) for path in sorted(folder.glob("*.*"))])
            for folder in map(Path, ("config", "config/train", "launch", "ros2_ws/src/re2pix_msgs/msg"))
        ),
    ],
    python_requires=">=3.10",
    # The run-time list is not here: beside a ROS distribution rosdep brings those packages by Debian's names, and with
    # Ubuntu 22.04's setuptools a script can refuse to start when pip does not know one that is listed here.
    install_requires=["setuptools"],
    extras_require={
        **{extra: requirements("runtime", extra) for extra in ("train", "export", "evaluate", "simulate", "ray")},
        "test": requirements("test"),  # colcon test looks for pytest in it
    },
    zip_safe=False,
    cmdclass={"develop": DevelopWithEnvShebang},
    entry_points={
        "console_scripts": [
            "re2pix = re2pix_node.cli:main",
            "re2pix_node = re2pix_node.ros.entry:main",
            "corridor_watch = re2pix_node.examples.corridor_watch:main",
        ]
    },
)
