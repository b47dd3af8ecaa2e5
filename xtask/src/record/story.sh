#!/usr/bin/env bash
# What `cargo xtask record` records: a real fim on a demo tree, real commands, real output. Started as root in mount and host
# name spaces of its own, so that it shows no path and no name of the machine. $1: the fim program. $2: an empty folder.
set -eu

prepare() {
    hostname web1
    mount --make-rprivate /
    mount -t tmpfs -o mode=755 none "$2"
    mkdir "$2/upper" "$2/work"
    mount -t overlay -o "lowerdir=/etc,upperdir=$2/upper,workdir=$2/work" none /etc
    mount -t tmpfs -o mode=755 none /srv
    mkdir -p /etc/fim /srv/bin /srv/www/css
    ln -s "$1" /srv/bin/fim
    PATH=/srv/bin:/usr/sbin:/usr/bin:/sbin:/bin
    printf '[state]\ndir = "/srv/state"\n\n[[watch]]\npath = "/srv/www"\n' > /etc/fim/fim.toml
    echo '<h1>Welcome</h1>' > /srv/www/index.html
    echo 'h1 { color: teal }' > /srv/www/css/site.css
    echo 'body { margin: 2em }' > /srv/www/css/print.css
    chown -R www-data:www-data /srv/www
    cd /srv
}

# Shows a command as if it were typed, and runs it.
run() {
    local rest=$1
    printf '\e[1;32mweb1\e[0m:\e[1;34m/srv\e[0m# '
    sleep 0.7
    while [ -n "$rest" ]; do
        printf '%s' "${rest:0:4}"
        rest=${rest:4}
        sleep 0.06
    done
    sleep 0.4
    printf '\n'
    eval "$1" || true
}

# What happens by itself is given time to be read.
watch() {
    sleep "$1"
}

prepare "$@"
fim init > /dev/null
# Its messages come between the commands, as on a terminal.
run 'fim run 2> fim.log &'
until fim status > /dev/null; do sleep 0.1; done
watch 1.5
run 'cat www/index.html'
watch 1
run $'runuser -u www-data -- sh -c \'echo "<h1>Owned by eve</h1>" > www/index.html\''
watch 2.5
run 'cat www/index.html'
watch 1.5
run 'rm -r www/css'
watch 2.5
run 'ls www/css'
watch 1.5
run 'fim show 2 | tail -n 5'
watch 6
kill %1
wait
