"""The process that draws, at the priority of any other: at idle priority, as it really is, it may wait for minutes on a
busy machine. That priority has tests of its own."""

from re2pix_node.render import child


def main() -> int:
    child._give_way = lambda: None
    return child.main()
