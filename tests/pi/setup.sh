#!/bin/sh
# Prepare an emulated Raspberry Pi: Debian's arm64 Python and the agent's real arm64 wheels, run by qemu-user.
#
#   tests/pi/setup.sh          then: tests/pi/run -m pi_agent --help
#
# Everything goes into $MAGPIE_PI_ROOT (default: ~/.cache/magpie-pi). The host is not changed and root is not needed:
# apt-get works on an index of its own, packages are unpacked and not installed. Run again it does what is missing.
# Exit 69 with one line on stderr: something is missing on this machine or in its network. Exit 1: a defect.
set -eu

code=$(cd "$(dirname "$0")/../.." && pwd)
root=${MAGPIE_PI_ROOT:-${XDG_CACHE_HOME:-$HOME/.cache}/magpie-pi}
python=${MAGPIE_HOST_PYTHON:-$code/.venv/bin/python}
log=$root/setup.log

stop() { # STATUS REASON
    echo "$2" >&2
    exit "$1"
}

apt() { apt-get -q -y -c "$root/apt/apt.conf" "$@" >>"$log" 2>&1; }

index() {
    mkdir -p "$root/apt/state/lists/partial" "$root/apt/cache/archives/partial"
    : >"$root/apt/status" # nothing is installed: every dependency is fetched
    cat >"$root/apt/apt.conf" <<CONF
APT::Architecture "arm64";
APT::Architectures { "arm64"; "$(dpkg --print-architecture)"; };
APT::Install-Recommends "false";
APT::Sandbox::User "";
Acquire::Languages "none";
Acquire::Retries "2";
Dir::State "$root/apt/state";
Dir::State::status "$root/apt/status";
Dir::Cache "$root/apt/cache";
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
CONF
    apt update || stop 69 "apt-get cannot read this machine's package sources (see $log)"
}

unpack() { # the packages that PATTERN... name, into FOLDER
    into=$1 && shift
    for pattern; do
        for package in "$root"/apt/cache/archives/$pattern; do dpkg -x "$package" "$into"; done
    done
}

emulator() {
    mkdir -p "$root/bin"
    if found=$(command -v qemu-aarch64-static); then
        ln -sf "$found" "$root/bin/qemu-aarch64"
        return
    fi
    (cd "$root/apt/cache/archives" && apt download "qemu-user-static:$(dpkg --print-architecture)") ||
        stop 69 "there is no qemu-aarch64-static here, and apt-get cannot fetch qemu-user-static (see $log)"
    dpkg --fsys-tarfile "$root"/apt/cache/archives/qemu-user-static_*.deb |
        tar -x -O ./usr/bin/qemu-aarch64-static >"$root/bin/qemu-aarch64.new"
    chmod +x "$root/bin/qemu-aarch64.new"
    mv "$root/bin/qemu-aarch64.new" "$root/bin/qemu-aarch64"
}

debian() {
    apt install --download-only python3-minimal libpython3-stdlib libstdc++6 ||
        stop 69 "apt-get cannot fetch Debian's arm64 packages of Python (see $log)"
    unpack "$root/debian" 'lib*_*.deb' 'python3*_*.deb' 'zlib1g_*.deb' 'media-types_*.deb'
    # qemu's -L puts this folder over the real root: whoever opens /proc/cpuinfo reads this one. ONNX Runtime crashes
    # on the host's. A Raspberry Pi 4 has four of these.
    mkdir -p "$root/debian/proc"
    for core in 0 1 2 3; do
        printf 'processor\t: %s\nBogoMIPS\t: 108.00\nFeatures\t: fp asimd evtstrm crc32 cpuid\n' $core
        printf 'CPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: 0xd08\nCPU revision\t: 3\n\n'
    done >"$root/debian/proc/cpuinfo"
}

# A virtual environment whose python is a script: the kernel can run it, so sys.executable starts emulated children.
# It needs nothing from its surroundings, because a suspect's worker is started with an empty environment.
environment() {
    mkdir -p "$root/venv/bin"
    printf 'home = %s\ninclude-system-site-packages = false\n' "$root/debian/usr/bin" >"$root/venv/pyvenv.cfg"
    cat >"$root/venv/bin/python" <<RUN
#!/bin/sh
exec "$root/bin/qemu-aarch64" -cpu cortex-a72 -L "$root/debian" -0 "$root/venv/bin/python" \\
    "$root/debian/usr/bin/$version" "\$@"
RUN
    chmod +x "$root/venv/bin/python"
}

wheels() { # names and versions on standard input
    set --
    for tag in 2_34 2_31 2_28 2_27 2_26 2_24 2_17 2014; do set -- "$@" --platform "manylinux_${tag}_aarch64"; done
    if ! "$python" -m pip install --only-binary=:all: --implementation cp --python-version "${version#python}" \
        --platform manylinux2014_aarch64 "$@" --target "$root/venv/lib/$version/site-packages" --no-compile \
        --requirement /dev/stdin >>"$log" 2>&1; then
        if grep -qiE 'retrying|connection|resolution|proxy|timed out' "$log"; then
            stop 69 "pip cannot reach a package index (see $log)"
        fi
        stop 1 "pip cannot install the arm64 wheels (see $log)"
    fi
}

compile() { # emulated imports are slow enough without compiling
    "$root/venv/bin/python" -c pass || stop 1 "the emulated Python does not start"
    compiler=$python
    "$python" -c "import sys; sys.exit('python%d.%d' % sys.version_info[:2] != '$version')" ||
        compiler=$root/venv/bin/python
    "$compiler" -m compileall -q -j 2 "$root/debian/usr/lib/$version" "$root/venv/lib" >>"$log" 2>&1 || true
}

# --- One step after the other; each has a stamp with a hash of what it was made from ---

[ "$(uname -m)" != aarch64 ] || stop 69 "this machine is no emulation, it is arm64 itself: use make test"
for tool in apt-get dpkg flock sha256sum tar; do
    command -v $tool >/dev/null || stop 69 "$tool is missing (a Debian system is needed)"
done
[ -x "$python" ] || stop 1 "$python is missing: run make .venv/installed first"
mkdir -p "$root"
exec 9>"$root/lock"
flock 9

base=$(sha256sum <"$0")
agent=$("$python" -c 'import ast, sys
for line in ast.parse(open(sys.argv[1]).read()).body:
    if isinstance(line, ast.Assign) and line.targets[0].id == "AGENT":
        print(*ast.literal_eval(line.value), sep="\n")' "$code/setup.py")
[ -n "$agent" ] || stop 1 "setup.py names no packages for the agent"
wanted=$(echo "$agent" && cat "$code/tests/pi/requirements.txt")
full=$(printf '%s\n' "$base" "$wanted" | cat - "$code/constraints.txt" | sha256sum)

if [ "$(cat "$root/base.stamp" 2>/dev/null)" != "$base" ]; then
    echo "fetching the emulator and Debian's arm64 Python into $root"
    rm -rf "$root/apt" "$root/bin" "$root/debian" "$root/venv" "$root"/*.stamp
    : >"$log"
    index
    emulator
    debian
    rm -rf "$root/apt"
    echo "$base" >"$root/base.stamp"
fi
version=$(basename "$(ls "$root"/debian/usr/bin/python3.[0-9]*)")
if [ "$(cat "$root/full.stamp" 2>/dev/null)" != "$full" ]; then
    echo "fetching the arm64 wheels"
    rm -rf "$root/venv" "$root/full.stamp"
    : >"$log"
    environment
    echo "$wanted" | (cd "$code" && PIP_CONSTRAINT=constraints.txt && export PIP_CONSTRAINT && wheels)
    compile
    echo "$full" >"$root/full.stamp"
fi
