#!/bin/bash
# The life of an installed fim, inside a virtual machine: a line for each step, each asserted.
export PATH=/usr/sbin:/usr/bin LC_ALL=C HOME=/root
passed=0 failed=0
cd /opt/fim-vm || exit 1

step() {
    local name=$1 said
    shift
    if said=$("$@" 2>&1); then
        echo "ok   systemd/$name (${SECONDS} s)"
        passed=$((passed + 1))
    else
        echo "FAIL systemd/$name: $(tail -c 1500 <<<"$said" | tr '\n' '|')"
        failed=$((failed + 1))
    fi
}
# Asks until it is so, for three minutes at most: the machine is emulated.
await() {
    local end=$((SECONDS + 180))
    until "$@"; do
        ((SECONDS < end)) || { echo "never came true: $*"; return 1; }
        sleep 0.5
    done
}
say_if_not() { "$@" || { echo "not so: $*"; return 1; }; }
head_seq() { fim log --json -n 1 | sed -n 's/^{"seq":\([0-9]*\),.*/\1/p'; }
# Records since a number that hold all these words.
records() {
    local since=$1 lines word
    shift
    lines=$(fim log --json -n $(($(head_seq) - since)))
    for word; do lines=$(grep -F -- "$word" <<<"$lines"); done
    echo "$lines"
}
recorded() { [ -n "$(records "$@")" ]; }
pid() { systemctl show -p MainPID --value fim; }
active() { [ "$(systemctl is-active fim)" = active ]; }
as_user() { setpriv --reuid=1234 --regid=2345 --clear-groups "$@"; }
holds() { [ "$(cat "$1")" = "$2" ]; }

install() {
    dpkg -i fim.deb
    say_if_not getent group fim && say_if_not [ -s /usr/share/man/man8/fim.8.gz ] || return 1
    say_if_not [ "$(systemctl is-active fim)" = inactive ]
}
configure() {
    # A minimal Debian has none; the story alters it.
    [ -s /etc/hosts ] || echo "127.0.0.1 localhost" >/etc/hosts
    mkdir -p /srv/www /srv/new && chmod 777 /srv/www && echo approved >/srv/www/index.html
    chmod 666 /srv/www/index.html
    printf '\n[[watch]]\npath = "/srv/www"\n' >>/etc/fim/fim.toml
    fim config show >/dev/null
}
start() {
    systemctl start fim || { journalctl -u fim --no-pager -o cat; return 1; }
    say_if_not active && fim status --json | grep -q '"ready":true'
}
by_user() {
    local since
    since=$(head_seq)
    as_user sh -c 'echo evil >/srv/www/index.html'
    await recorded "$since" /srv/www/index.html '"uid":1234' '"response":"restored"' || return 1
    say_if_not holds /srv/www/index.html approved
    await sh -c 'journalctl -u fim --no-pager -o cat | grep -q "modified /srv/www/index.html by.*1234.*restored"'
}
by_root() {
    local since
    since=$(head_seq)
    echo "127.0.0.9 evil.test" >>/etc/hosts
    await recorded "$since" '"kind":"modified"' '"path":"/etc/hosts"' '"uid":0' '"verdict":"unauthorised"' '"response":"none"' || return 1
    await sh -c 'journalctl FIM_PATH=/etc/hosts FIM_KIND=modified --no-pager -o cat | grep -q .'
}
few_capabilities() {
    grep Cap "/proc/$(pid)/status"
    say_if_not grep -q 'CapEff:[[:space:]]*000000c0892802ff' "/proc/$(pid)/status" || return 1
    local task
    for task in /proc/"$(pid)"/task/*; do
        local effective
        effective=$(sed -n 's/^CapEff:[[:space:]]*//p' "$task/status")
        say_if_not [ $((0x$effective & ~0xc0892802ff)) -eq 0 ] || return 1
    done
}
watched_by_systemd() {
    say_if_not [ "$(systemctl show -p WatchdogUSec --value fim)" = 3min ]
    await sh -c '[ -n "$(systemctl show -p WatchdogTimestamp --value fim)" ]'
}
while_down() {
    local since
    since=$(head_seq)
    systemctl stop fim
    echo "127.0.0.8 down.test" >>/etc/hosts
    systemctl start fim
    await recorded "$since" '"path":"/etc/hosts"' '"kind":"modified"'
}
reload() {
    local since before
    since=$(head_seq) before=$(pid)
    printf '\n[[watch]]\npath = "/srv/new"\n' >>/etc/fim/fim.toml
    systemctl reload fim
    await recorded "$since" '"kind":"reloaded"' || { journalctl -u fim -n 20 --no-pager -o cat; return 1; }
    say_if_not [ "$(pid)" = "$before" ]
    echo intruder >/srv/new/intruder
    await recorded "$since" /srv/new/intruder '"response":"quarantined"'
}
bad_reload() {
    cp -p /etc/fim/fim.toml good.toml
    echo 'on_modifed = 1' >>/etc/fim/fim.toml
    systemctl reload fim
    await sh -c 'journalctl -u fim --no-pager -o cat | grep -q "old one stays in force.*on_modifed"' || return 1
    cp -p good.toml /etc/fim/fim.toml
    say_if_not active
    echo "evil again" >/srv/www/index.html
    await holds /srv/www/index.html approved
}
killed() {
    local since before
    since=$(head_seq) before=$(pid)
    kill -9 "$before"
    echo "while nobody looked" >/srv/www/index.html
    await sh -c "[ \"\$(systemctl show -p MainPID --value fim)\" != $before ] && systemctl is-active -q fim" || return 1
    await recorded "$since" /srv/www/index.html '"response":"restored"' || return 1
    say_if_not holds /srv/www/index.html approved
    say_if_not [ "$(systemctl show -p NRestarts --value fim)" -ge 1 ]
}
full_check() {
    ! systemctl start fim-check || { echo "differences were not told"; return 1; }
    say_if_not [ "$(systemctl show -p ExecMainStatus --value fim-check)" = 1 ] ||
        { journalctl -u fim-check --no-pager -o cat -n 5; return 1; }
    # What was altered and only told of, and nothing else: the service sees what everybody sees.
    local named
    named=$(journalctl -u fim-check --no-pager -o cat | sed -nE 's/^[a-z]+ +(\/[^ ]+).*/\1/p' | sort -u | tr '\n' ' ')
    say_if_not [ "$named" = "/etc/fim/fim.toml /etc/hosts " ] || { journalctl -u fim-check --no-pager -o cat; return 1; }
}
upgrade() {
    local since before told
    since=$(head_seq) before=$(pid)
    dpkg -i fim-later.deb
    await sh -c "[ \"\$(systemctl show -p MainPID --value fim)\" != $before ] && systemctl is-active -q fim" || return 1
    await recorded "$since" '"kind":"started"' || return 1
    await sh -c 'fim status --json | grep -q "\"waiting\":0,"' || return 1
    say_if_not recorded "$since" '"path":"/usr/bin/fim"' '"verdict":"authorised"' || { records "$since"; return 1; }
    told=$(records "$since" '"verdict":"unauthorised"')
    [ -z "$told" ] || { echo "an alert about itself: $told"; return 1; }
}
remove() {
    dpkg -r fim
    say_if_not [ ! -e /usr/bin/fim ] && say_if_not [ -s /var/lib/fim/fim.db ] || return 1
    ! pgrep -x fim || return 1
    [ -z "$(systemctl list-unit-files --no-legend 'fim.*' 'fim-check.*')" ]
}
purge() {
    dpkg -P fim
    ! getent group fim || return 1
    local left
    left=$(find /etc /usr /var -xdev \( -name 'fim' -o -name 'fim.*' -o -name 'fim-check*' \) ! -path '/var/log/*')
    [ -z "$left" ] || { echo "left: $left"; return 1; }
}

echo "FIM-VM-BEGIN systemd"
for name in install configure start by_user by_root few_capabilities watched_by_systemd while_down reload bad_reload killed \
    full_check upgrade remove purge; do
    step "$name" "$name"
done
if [ "$failed" -gt 0 ]; then journalctl -u fim --no-pager -o cat -n 60 | sed 's/^/journal: /'; fi
echo "FIM-VM-RUN systemd: $passed passed, $failed failed in $SECONDS s"
echo "FIM-VM-RESULT passed=$passed failed=$failed"
sync
