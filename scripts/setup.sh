#!/usr/bin/env bash
# Makes .venv and builds ros2_ws, once: existing parts stay unchanged.
# Usage: scripts/setup.sh [demo|test]      PYTHON=python3.12 chooses another interpreter
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

wanted=${1:-demo}
python=${PYTHON:-python3}

die() {
    echo "setup: $1" >&2
    exit 2
}

python_has() { "$python" -c "$1" 2>/dev/null; }

check_python_version() {
    python_has 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' ||
        die "$("$python" -V 2>&1) is not supported, 3.10 to 3.13 are: name another, as in make demo PYTHON=python3.12"
}

check_system() {
    # Name everything that is missing at once, with the one command that adds it.
    local missing=() packages=() name=python3
    add() {
        missing+=("$1")
        packages+=("$2")
    }
    command -v g++ >/dev/null || command -v clang++ >/dev/null || add "a C++ compiler" g++
    command -v make >/dev/null || add make make
    command -v git >/dev/null || add git git
    if command -v "$python" >/dev/null; then
        check_python_version
        # Debian has a venv and a dev package for each of its Pythons.
        python_has 'import sys; sys.exit(sys.base_prefix != "/usr")' &&
            name=python$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
        python_has 'import ensurepip, venv' || add "venv of $python" "$name-venv"
        python_has 'import os, sysconfig; os.stat(sysconfig.get_path("include") + "/Python.h")' ||
            add "headers of $python" "$name-dev"
    else
        add "$python" "python3 python3-venv python3-dev"
    fi
    if [ ${#missing[@]} -gt 0 ]; then
        local list
        printf -v list '%s, ' "${missing[@]}"
        die "missing: ${list%, }: sudo apt install ${packages[*]}"
    fi
    if [ -z "${ROS_DISTRO:-}" ] && [ "$(uname -m)" != x86_64 ]; then
        die "PyPI has ROS 2 for x86_64 only, this is $(uname -m): install a ROS 2 distribution and source its setup.bash"
    fi
}

sha() { sha256sum | cut -c1-16; }

make_venv() {
    # A venv belongs to one interpreter and one ROS 2; if either changes, it is made again.
    local identity
    identity="$("$python" -c 'import sys; print(sys.version, sys.base_prefix)') ROS=${ROS_DISTRO:-pypi}"
    if [ "$(cat .venv/identity 2>/dev/null)" != "$identity" ]; then
        rm -rf .venv ros2_ws/build ros2_ws/install ros2_ws/log
        echo "setup: making .venv with $("$python" -V) and ROS 2 ${ROS_DISTRO:-from PyPI (Jazzy)}"
        "$python" -m venv .venv
        echo "$identity" >.venv/identity
    fi
}

install_requirements() {
    local ros=requirements/ros-pypi.txt
    [ -z "${ROS_DISTRO:-}" ] || ros=requirements/ros-sourced.txt
    local lists=("$ros" requirements/runtime.txt requirements/build.txt requirements/export.txt)
    [ "$wanted" != test ] || lists+=(requirements/{train,simulate,evaluate,test}.txt)

    local stamp=.venv/installed-$wanted key
    key=$(cat "${lists[@]}" requirements/{constraints,tools,sha256}.txt | sha)
    # The packages for the tests include those for the demo.
    [ "$(cat "$stamp" 2>/dev/null)" != "$key" ] || return 0
    if [ "$wanted" = demo ] && [ "$(cat .venv/installed-test-as-demo 2>/dev/null)" = "$key" ]; then return 0; fi

    echo "setup: installing Python packages (a few minutes the first time)"
    unset _ROS_WHEELS_BOOTSTRAP_COMPLETE
    .venv/bin/python scripts/install.py "${lists[@]}" || exit 2
    [ -n "${ROS_DISTRO:-}" ] || point_wheels_here
    echo "$key" >"$stamp"
    [ "$wanted" != test ] || cat "${lists[@]:0:4}" requirements/{constraints,tools,sha256}.txt | sha >.venv/installed-test-as-demo
}

point_wheels_here() {
    # The CMake files in the ROS wheels name the headers of the machine that built the wheels.
    local include numpy tag
    include=$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("include"))')
    numpy=$(.venv/bin/python -c 'import numpy; print(numpy.get_include())')
    tag=$(.venv/bin/python -c 'import sys; print("cp%d%d" % sys.version_info[:2])')
    grep -rl "/opt/python/$tag-$tag" .venv/share | xargs -r sed -i \
        -e "s#/opt/python/$tag-$tag/lib/python3[.0-9]*/site-packages/numpy/_core/include#$numpy#g" \
        -e "s#/opt/python/$tag-$tag/include/python3[.0-9]*#$include#g" || true
}

build_workspace() {
    local key stamp=ros2_ws/install/built
    key=$(cat .venv/identity .venv/installed-* package.xml setup.py setup.cfg config/*.* config/train/* launch/* models/*/bundle.yaml \
        ros2_ws/src/re2pix_msgs/{package.xml,CMakeLists.txt} ros2_ws/src/re2pix_msgs/msg/* scripts/setup.sh | sha)
    [ "$(cat "$stamp" 2>/dev/null)" != "$key" ] || return 0
    echo "setup: building ros2_ws"
    local log=ros2_ws/build.log
    (
        set +u
        . .venv/bin/activate
        # Beside ROS from PyPI the venv is the ROS installation; beside a distribution, its paths are already set.
        [ -n "${ROS_DISTRO:-}" ] || export AMENT_PREFIX_PATH=$VIRTUAL_ENV CMAKE_PREFIX_PATH=$VIRTUAL_ENV
        cd ros2_ws
        python -m colcon build --symlink-install --event-handlers console_cohesion+ \
            --cmake-args -DBUILD_TESTING=OFF -DPython3_EXECUTABLE="$VIRTUAL_ENV/bin/python"
    ) >"$log" 2>&1 || {
        tail -40 "$log" >&2
        die "colcon could not build ros2_ws; the whole log is $log"
    }
    rm -f "$log"
    echo "$key" >"$stamp"
}

check_system
make_venv
install_requirements
build_workspace
