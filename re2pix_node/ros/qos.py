"""Quality of service: the node's own, the users' overrides, and warnings about incompatible sides."""

from collections.abc import Callable
from typing import Any

from rclpy.clock import Clock, ClockType
from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSPolicyKind, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions

from re2pix_node.common.quiet import Quiet

# Best effort, because a resent frame would come too late. The queue is longer than one, although only the newest frame
# is used: with a queue of one, a frame that comes while Python is busy for a moment would be lost uncounted.
CAMERA = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
# A reliable publisher also serves subscribers that request best effort, but not the other way round.
OUTPUT = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
# For late subscribers.
LATCHED = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)

NAMELESS = "_NODE_NAME_UNKNOWN_"  # the name in ROS of a node whose name is not known yet
NAME_TRIES = 20  # tries, ten a second


def subscribe(node: Node, kind: type, topic: str, callback: Callable[[Any], None], profile: QoSProfile) -> Any:
    """Create a subscription whose QoS users may override; it warns about an incompatible publisher."""
    profile, quiet = _copy(profile), Quiet()

    def told(event: Any) -> None:
        name = subscription.topic_name

        def others() -> list[Any]:
            return [info for info in node.get_publishers_info_by_topic(name) if not _match(info.qos_profile, profile)]

        way = f"qos_overrides.{name}.subscription.reliability"
        _warn(node, name, others, "publishes", f"subscribes {_words(profile)}", event.last_policy_kind, way, quiet)

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
    """Create a publisher whose QoS users may override; it warns about an incompatible subscriber."""
    profile, quiet = _copy(profile), Quiet()

    def told(event: Any) -> None:
        name = publisher.topic_name

        def others() -> list[Any]:
            return [
                info for info in node.get_subscriptions_info_by_topic(name) if not _match(profile, info.qos_profile)
            ]

        way = f"qos_overrides.{name}.publisher.reliability"
        _warn(node, name, others, "subscribes", f"publishes {_words(profile)}", event.last_policy_kind, way, quiet)

    publisher = node.create_publisher(
        kind,
        topic,
        profile,
        event_callbacks=PublisherEventCallbacks(incompatible_qos=told),
        qos_overriding_options=QoSOverridingOptions.with_default_policies(),
    )
    return publisher


def _match(publisher: QoSProfile, subscriber: QoSProfile) -> bool:
    """Compare the policies that are set here. rclpy's qos_check_compatible treats an unset deadline as zero."""
    reliable = publisher.reliability != ReliabilityPolicy.BEST_EFFORT
    latched = publisher.durability == DurabilityPolicy.TRANSIENT_LOCAL
    wants_reliable = subscriber.reliability != ReliabilityPolicy.BEST_EFFORT
    wants_latched = subscriber.durability == DurabilityPolicy.TRANSIENT_LOCAL
    return bool((reliable or not wants_reliable) and (latched or not wants_latched))


def _warn(
    node: Node,
    topic: str,
    others: Callable[[], list[Any]],
    they_do: str,
    we_do: str,
    policy: int,
    way: str,
    quiet: Quiet,
) -> None:
    """Warn and name both sides. A topic is discovered before the name of its node, so wait a little for that."""
    tries = 0

    def look() -> None:
        nonlocal tries
        tries += 1
        found = others()
        if any(info.node_name == NAMELESS for info in found) and tries < NAME_TRIES:
            return
        node.destroy_timer(timer)
        names = ", ".join(
            f"{info.node_namespace.rstrip('/')}/{info.node_name} {they_do} {_words(info.qos_profile)}"
            for info in found
            if info.node_name != NAMELESS
        )
        if quiet(topic, names):
            return
        unnamed = f"another node {they_do} with another {QoSPolicyKind(policy).name.lower()}"
        # Of the two policies only reliability can be overridden.
        mend = f"change one side, this one with the parameter {way}" if policy == QoSPolicyKind.RELIABILITY else ""
        node.get_logger().warning(
            f"{topic}: {names or unnamed}, but this node {we_do}: incompatible QoS, no messages will arrive; "
            f"{mend or 'change the other side'}"
        )

    timer = node.create_timer(0.1, look, clock=Clock(clock_type=ClockType.STEADY_TIME))


def _words(profile: QoSProfile) -> str:
    words = f"{profile.reliability.name}, {profile.durability.name}"
    return words.lower().replace("_", " ")


def _copy(profile: QoSProfile) -> QoSProfile:
    # Overrides are written into the given profile.
    return QoSProfile(depth=profile.depth, reliability=profile.reliability, durability=profile.durability)
