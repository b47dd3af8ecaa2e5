if [ "$1" -eq 0 ] && [ -d /run/systemd/system ]; then
    systemctl disable --quiet --now fim.service fim-check.timer
    systemctl stop fim-check.service
fi
