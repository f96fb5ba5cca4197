"""A subscriber as a process of its own, to be stopped by signals: repeats the header of every forecast on "echo".

python -m tests.support.subscriber NAMESPACE
"""

import sys

import rclpy
from rclpy.qos import QoSProfile, ReliabilityPolicy
from re2pix_msgs.msg import FeatureMap, Forecast
from std_msgs.msg import Header


def main(namespace: str) -> None:
    rclpy.init()
    node = rclpy.create_node("subscriber", namespace=namespace)
    echo = node.create_publisher(Header, "echo", 10)
    # Reliable: the publisher must keep for it what it has not confirmed.
    qos = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
    outputs = f"{namespace}/re2pix_node/output"
    node.create_subscription(Forecast, f"{outputs}/forecast", lambda message: echo.publish(message.header), qos)
    for k in range(4):
        node.create_subscription(FeatureMap, f"{outputs}/h{k}/features", lambda message: None, qos)
    rclpy.spin(node)


main(sys.argv[1])
