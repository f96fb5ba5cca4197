# shellcheck shell=bash
# Source this (bash) to use what `make` built:   . scripts/env.sh   then   re2pix doctor
_re2pix_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
if [ ! -f "$_re2pix_root/ros2_ws/install/setup.bash" ]; then
    echo "env.sh: not built yet: run make demo or make test first" >&2
    return 2
fi
. "$_re2pix_root/.venv/bin/activate"
# A shell in which another venv's ROS wheels were active must set up its library path again.
unset _ROS_WHEELS_BOOTSTRAP_COMPLETE
[ -n "${ROS_DISTRO:-}" ] || export AMENT_PREFIX_PATH=$VIRTUAL_ENV
. "$_re2pix_root/ros2_ws/install/setup.bash"
export PATH=$_re2pix_root/ros2_ws/install/re2pix_node/lib/re2pix_node:$PATH
# Without this profile Fast DDS loses most camera images (config/fastdds.xml explains it). Your own setting is kept.
export FASTRTPS_DEFAULT_PROFILES_FILE=${FASTRTPS_DEFAULT_PROFILES_FILE:-$_re2pix_root/config/fastdds.xml}
# The same under its name since Fast DDS 3 (ROS 2 Kilted).
export FASTDDS_DEFAULT_PROFILES_FILE=${FASTDDS_DEFAULT_PROFILES_FILE:-$FASTRTPS_DEFAULT_PROFILES_FILE}
# Without this, each large message returns its memory to the system and gets it again with page faults.
export MALLOC_MMAP_THRESHOLD_=${MALLOC_MMAP_THRESHOLD_:-268435456} MALLOC_TRIM_THRESHOLD_=${MALLOC_TRIM_THRESHOLD_:-536870912}
unset _re2pix_root
