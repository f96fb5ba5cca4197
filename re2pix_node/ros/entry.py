"""The command re2pix_node: runs the node, or prints one line that names the missing module."""

import sys
from collections.abc import Sequence

from re2pix_node.common.address_space import require_address_space
from re2pix_node.common.ending import report
from re2pix_node.errors import BAD_INPUT, Re2pixError

_MENDS = {
    "re2pix_msgs": "link re2pix_node/ros2_ws/src/re2pix_msgs into src, build again and source install/setup.bash",
}


def main(arguments: Sequence[str] | None = None) -> int:
    try:
        require_address_space()
        from re2pix_node.ros import node
    except ModuleNotFoundError as absent:
        missing = (absent.name or "").partition(".")[0]
        if missing in ("", "re2pix_node"):
            raise  # our own fault, not a fault of the installation
        mend = _MENDS.get(missing, "re2pix doctor has the command that adds it")
        print(f"re2pix_node: the module {missing} is missing: {mend}", file=sys.stderr)
        return BAD_INPUT
    except Re2pixError as error:
        print(f"re2pix_node: {error}", file=sys.stderr)
        return BAD_INPUT
    except Exception as error:
        return report("re2pix_node", error)
    return node.main(arguments)


if __name__ == "__main__":
    sys.exit(main())
