//! What the systemd units must not say.

/// Each mounts something, so that fim would see other files than everybody (systemd.exec(5)).
const MOUNTING: [&str; 21] = [
    "BindPaths",
    "BindReadOnlyPaths",
    "DynamicUser",
    "InaccessiblePaths",
    "PrivateDevices",
    "PrivateMounts",
    "PrivateNetwork",
    "PrivateTmp",
    "PrivateUsers",
    "ProtectControlGroups",
    "ProtectHome",
    "ProtectKernelLogs",
    "ProtectKernelModules",
    "ProtectKernelTunables",
    "ProtectProc",
    "ProtectSystem",
    "ReadOnlyPaths",
    "ReadWritePaths",
    "RootDirectory",
    "RootImage",
    "TemporaryFileSystem",
];

#[test]
fn no_unit_gives_fim_a_view_of_its_own_or_refuses_openat2() {
    let units =
        [include_str!("../../dist/fim.service"), include_str!("../../dist/fim-check.service")].into_iter();
    for (key, line) in
        units.flat_map(str::lines).filter_map(|line| line.split_once('=').map(|(k, _)| (k, line)))
    {
        assert!(!MOUNTING.contains(&key), "{line}");
        // Its filter cannot look into the arguments of openat2, so it lets none pass.
        assert_ne!(key, "RestrictSUIDSGID", "{line}");
    }
}
