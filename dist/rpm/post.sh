systemd-sysusers fim.conf
systemd-tmpfiles --create fim.conf
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload
    # The first argument counts the versions that are installed: more than one is an upgrade.
    if [ "$1" -gt 1 ]; then
        systemctl try-restart fim.service
    else
        echo "fim: look at /etc/fim/fim.toml, then: fim init && systemctl enable --now fim.service fim-check.timer"
    fi
fi
