"""Quality of service: what the node asks for, how users override it, and what is said when two sides do not match."""

from collections.abc import Callable
from typing import Any

from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSCompatibility, QoSProfile, ReliabilityPolicy, qos_check_compatible
from rclpy.qos_overriding_options import QoSOverridingOptions

# Frames are old by the time they can be used: best effort, and only the newest.
CAMERA = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
# Subscribers that want best effort can have it from a reliable publisher, not the other way round.
OUTPUT = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
# For those who come later.
LATCHED = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def subscribe(node: Node, kind: type, topic: str, callback: Callable[[Any], None], profile: QoSProfile) -> Any:
    """A subscription whose QoS users may override, and that says so when a publisher does not match it."""
    profile = _copy(profile)

    def told(_: Any) -> None:
        name = subscription.topic_name
        others = [
            info
            for info in node.get_publishers_info_by_topic(name)
            if qos_check_compatible(info.qos_profile, profile)[0] == QoSCompatibility.ERROR
        ]
        _warn(node, name, "publishes", others, "subscribes", profile, "subscription")

    subscription = node.create_subscription(
        kind,
        topic,
        callback,
        profile,
        event_callbacks=SubscriptionEventCallbacks(incompatible_qos=told),
        qos_overriding_options=QoSOverridingOptions.with_default_policies(),
    )
    return subscription


def advertise(node: Node, kind: type, topic: str, profile: QoSProfile) -> Any:
    """A publisher whose QoS users may override, and that says so when a subscriber does not match it."""
    profile = _copy(profile)

    def told(_: Any) -> None:
        name = publisher.topic_name
        others = [
            info
            for info in node.get_subscriptions_info_by_topic(name)
            if qos_check_compatible(profile, info.qos_profile)[0] == QoSCompatibility.ERROR
        ]
        _warn(node, name, "subscribes", others, "publishes", profile, "publisher")

    publisher = node.create_publisher(
        kind,
        topic,
        profile,
        event_callbacks=PublisherEventCallbacks(incompatible_qos=told),
        qos_overriding_options=QoSOverridingOptions.with_default_policies(),
    )
    return publisher


def _warn(node: Node, topic: str, they_do: str, others: list[Any], we_do: str, profile: QoSProfile, kind: str) -> None:
    names = ", ".join(
        f"{info.node_namespace.rstrip('/')}/{info.node_name} {they_do} {_words(info.qos_profile)}" for info in others
    )
    node.get_logger().warning(
        f"{topic}: {names or f'another node {they_do} with a QoS that does not match'}, but this node {we_do} "
        f"{_words(profile)}: they do not hear each other; change one side, this one with the parameter "
        f"qos_overrides.{topic}.{kind}.reliability"
    )


def _words(profile: QoSProfile) -> str:
    words = f"{profile.reliability.name}, {profile.durability.name}"
    return words.lower().replace("_", " ")


def _copy(profile: QoSProfile) -> QoSProfile:
    # Overrides are written into the profile that is given.
    return QoSProfile(depth=profile.depth, reliability=profile.reliability, durability=profile.durability)
