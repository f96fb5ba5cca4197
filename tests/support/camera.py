"""A camera as a process of its own: publishes the made-up drive over DDS, and prints the stamps it sent.

python -m tests.support.camera TOPIC [--width 1280 --height 720 --rate 30 --frames 120]
"""

import argparse
import json
import time

import cv2
import rclpy
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

from re2pix_node.ros.message_types import ros_types
from tests.support import drive


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("topic")
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int, default=720)
    parser.add_argument("--rate", type=float, default=30.0)
    parser.add_argument("--frames", type=int, default=120)
    options = parser.parse_args()

    rclpy.init()
    node = rclpy.create_node("camera")
    # As camera drivers do: an image that is lost is not sent again.
    qos = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    publisher = node.create_publisher(Image, options.topic, qos)
    pictures = [
        cv2.cvtColor(drive.frame(i / options.rate, options.width, options.height), cv2.COLOR_RGB2BGR)
        for i in range(min(options.frames, 60))
    ]
    payloads = [ros_types().array(picture.reshape(-1)) for picture in pictures]
    while not publisher.get_subscription_count():
        time.sleep(0.05)
    message = Image(height=options.height, width=options.width, encoding="bgr8", step=3 * options.width, is_bigendian=0)
    message.header.frame_id = "camera_front"
    stamps = []
    start = time.monotonic()
    for i in range(options.frames):
        time.sleep(max(0.0, start + i / options.rate - time.monotonic()))
        message.header.stamp = node.get_clock().now().to_msg()
        message.data = payloads[i % len(payloads)]
        publisher.publish(message)
        stamps.append(message.header.stamp.sec * 10**9 + message.header.stamp.nanosec)
    time.sleep(0.5)
    print(json.dumps(stamps))
    node.destroy_node()
    rclpy.shutdown()


main()
