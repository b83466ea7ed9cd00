#!/bin/sh
# Installs Magpie's agent as a system service, from this checkout. Run it again after a `git pull`: it changes only what
# differs. What each file is for stands in systemd/README.md.
set -eu

usage() {
    cat <<'TEXT'
usage: sudo systemd/install.sh [OPTION]...
  --dry-run      say every step and do none; needs no root
  --uninstall    remove units and program; queue, answers, ledger, verdicts, claims and key stay
  --purge        with --uninstall: remove those too, and the account
  --prefix DIR   where the program goes (default: /opt/magpie)
  --python EXE   the Python to make its environment from (default: python3)
  --no-program   install everything but the Python environment
  --help         this text
$DESTDIR, if set, stands before every path; then nothing is started and no account is made (for packages and tests).
TEXT
}

source=$(cd "$(dirname "$0")/.." && pwd)
root=${DESTDIR:-}
prefix=/opt/magpie
python=python3
dry=''
uninstall=''
purge=''
program=yes

fail() {
    echo "error: $1" >&2
    [ -z "${2:-}" ] || echo "  hint: $2" >&2
    [ -n "$dry" ] || exit "${3:-1}"
}

while [ $# -gt 0 ]; do
    case $1 in
    --dry-run) dry=yes ;;
    --uninstall) uninstall=yes ;;
    --purge) purge=yes ;;
    --no-program) program= ;;
    --prefix | --python)
        option=${1#--}
        [ $# -ge 2 ] || { echo "error: $1 wants a value" >&2; exit 2; }
        if [ "$option" = prefix ]; then prefix=$2; else python=$2; fi
        shift
        ;;
    --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
    esac
    shift
done
case $prefix in
/*[!A-Za-z0-9/._-]* | [!/]* | / | '') echo "error: --prefix must be an absolute path of plain characters" >&2; exit 2 ;;
esac
[ -z "$purge" ] || [ -n "$uninstall" ] || { echo "error: --purge goes with --uninstall" >&2; exit 2; }

units=$root/etc/systemd/system
state=$root/var/lib/private/pi-agent
unit_names='pi-agent-collect.service pi-agent-collect.timer pi-agent-verify@.service pi-agent-verify@.path
pi-agent-failure@.service'

run() {
    echo "+ $*"
    [ -n "$dry" ] || "$@"
}

# On the running system only: never while another root is being filled.
live() {
    [ -n "$root" ] || run "$@"
}

# folder MODE PATH
folder() {
    if [ ! -d "$2" ] || [ "$(stat -c %a "$2")" != "${1#0}" ]; then
        run install -d -m "$1" "$2"
    fi
}

# put MODE NAME PATH: a file of this folder, with the prefix written into it; nothing is done if it is there already.
put() {
    new=$(mktemp)
    sed "s#@PREFIX@#$prefix#g" "$source/systemd/$2" >"$new"
    if ! cmp -s "$new" "$3" || [ "$(stat -c %a "$3")" != "${1#0}" ]; then
        echo "+ install -m $1 systemd/$2 $3"
        [ -n "$dry" ] || install -D -m "$1" "$new" "$3"
    fi
    rm -f "$new"
}

check() {
    [ -n "$root" ] || [ "$(id -u)" -eq 0 ] || fail "this needs root" "sudo systemd/install.sh" 77
    if [ -z "$root" ]; then
        version=$(systemctl --version 2>/dev/null | sed -n '1s/^systemd \([0-9]*\).*/\1/p')
        [ "${version:-0}" -ge 252 ] || fail "systemd 252 or newer is needed, here is ${version:-none}" \
            "use Raspberry Pi OS Bookworm or later, or start pi-agent from cron" 69
        [ -d /run/systemd/system ] || fail "systemd is not what runs this system" "run it on the Pi itself" 69
    fi
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
        fail "$python is not Python 3.11 or newer" "apt install python3, or give --python" 69
    "$python" -c 'import sys; sys.exit(sys.maxsize < 2**32)' 2>/dev/null ||
        fail "this is a 32-bit system: there is no ONNX Runtime for it" "install the 64-bit Raspberry Pi OS" 69
    [ -z "$program" ] || "$python" -c 'import venv, ensurepip' 2>/dev/null ||
        fail "this Python cannot make environments" "apt install python3-venv" 69
}

install_program() {
    venv=$root$prefix/.venv
    folder 0755 "$root$prefix"
    [ -x "$venv/bin/python" ] || run "$python" -m venv "$venv"
    # Built from a copy, so that root leaves nothing in your checkout.
    copy=${dry:+/tmp/magpie-copy}
    copy=${copy:-$(mktemp -d)}
    run cp -R "$source/setup.py" "$source/pyproject.toml" "$source/README.md" "$source/LICENSE" \
        "$source/constraints.txt" "$source/pi_agent" "$source/training_host" "$copy"
    # Only the agent's own needs: no PyTorch.
    run "$venv/bin/python" -m pip --disable-pip-version-check install --quiet --constraint "$copy/constraints.txt" "$copy"
    run rm -rf "$copy"
}

install_all() {
    check
    umask 022
    [ -z "$program" ] || install_program
    put 0755 pi-agent-failure "$root$prefix/libexec/pi-agent-failure"
    put 0644 README.md "$root$prefix/share/README.md"
    put 0755 pi-agent-service "$root/usr/local/bin/pi-agent-service"
    put 0644 pi-agent.sysusers "$root/etc/sysusers.d/pi-agent.conf"
    for unit in $unit_names; do
        put 0644 "$unit" "$units/$unit"
    done

    folder 0700 "$root/etc/pi-agent"
    key=$root/etc/pi-agent/api-key
    if [ ! -e "$key" ]; then
        run install -m 0600 /dev/null "$key"
    elif [ "$(stat -c %a "$key")" != 600 ]; then
        run chmod 0600 "$key"
    fi
    folder 0755 "$root/etc/pi-agent/claims"
    folder 0755 "$root/var/spool/pi-agent"
    # As systemd itself would make it at the first start; now, so that `init` and `add` can come before that.
    folder 0700 "$root/var/lib/private"
    folder 0700 "$state"
    [ -L "$root/var/lib/pi-agent" ] || run ln -sT private/pi-agent "$root/var/lib/pi-agent"

    live systemd-sysusers /etc/sysusers.d/pi-agent.conf
    live chown pi-agent:pi-agent "$state"
    live systemctl daemon-reload
    # Without it time-sync.target does not wait, and a Pi has no clock of its own. It may take minutes: no --now.
    live systemctl enable systemd-time-wait-sync.service
    live systemctl start --no-block systemd-time-wait-sync.service
    live systemctl enable --now pi-agent-collect.timer
    if [ -z "$root" ] && ! grep -qw memory /sys/fs/cgroup/cgroup.controllers 2>/dev/null; then
        echo "note: this kernel ignores MemoryMax=. Add cgroup_enable=memory to the line in /boot/firmware/cmdline.txt"
    fi
    [ -z "$dry" ] || return 0
    echo "done; next: put the key into /etc/pi-agent/api-key, then: pi-agent-service init --url URL --daily-quota N"
}

# gone PATH...: removes what is there
gone() {
    for path in "$@"; do
        if [ -e "$path" ] || [ -L "$path" ]; then
            run rm -rf "$path"
        fi
    done
}

# empty PATH...: removes folders that nothing is in any more
empty() {
    for path in "$@"; do
        [ ! -d "$path" ] || [ -n "$(ls -A "$path")" ] || run rmdir "$path"
    done
}

uninstall_all() {
    [ -n "$root" ] || [ "$(id -u)" -eq 0 ] || fail "this needs root" "sudo systemd/install.sh --uninstall" 77
    [ ! -e "$units/pi-agent-collect.timer" ] || live systemctl disable --now pi-agent-collect.timer || true
    if [ -z "$root" ]; then
        for path in /etc/systemd/system/*.wants/pi-agent-verify@*; do
            [ ! -L "$path" ] || run systemctl disable --now "${path##*/}"
        done
        run systemctl stop 'pi-agent-*' || true
    fi
    for unit in $unit_names; do
        gone "$units/$unit"
    done
    gone "$root$prefix/.venv" "$root$prefix/libexec/pi-agent-failure" "$root$prefix/share/README.md"
    gone "$root/usr/local/bin/pi-agent-service" "$root/var/lib/pi-agent-failure"
    empty "$root$prefix/libexec" "$root$prefix/share" "$root$prefix"
    live systemctl daemon-reload
    if [ -z "$purge" ]; then
        echo "kept: /var/lib/private/pi-agent, /var/lib/private/pi-agent-verify, /var/spool/pi-agent, /etc/pi-agent and" \
            "the account pi-agent; --purge removes them"
        return
    fi
    gone "$root/etc/pi-agent" "$state" "$root/var/lib/private/pi-agent-verify" "$root/var/spool/pi-agent"
    gone "$root/var/lib/pi-agent" "$root/var/lib/pi-agent-verify" "$root/etc/sysusers.d/pi-agent.conf"
    gone "$root/var/lib/systemd/timers/stamp-pi-agent-collect.timer"
    # systemctl edit leaves these
    gone "$units/pi-agent-collect.service.d" "$units/pi-agent-collect.timer.d" "$units/pi-agent-verify@.service.d"
    if [ -z "$root" ] && id pi-agent >/dev/null 2>&1; then
        run userdel pi-agent
    fi
    echo "nothing is left; systemd-time-wait-sync.service stays enabled, others may want it"
}

if [ -n "$uninstall" ]; then
    uninstall_all
else
    install_all
fi
