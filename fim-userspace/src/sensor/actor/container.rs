//! What the path of a control group tells: the container and the systemd unit.

/// The container's id, shortened to 12 digits as the tools print it, and the runtime where the path names it.
///
/// Docker, containerd, CRI-O and Podman all name the group after the container's 64 hexadecimal digits:
/// `/docker/ID`, `docker-ID.scope`, `cri-containerd-ID.scope`, `crio-ID.scope`, `libpod-ID.scope`, `/kubepods/…/ID`.
pub fn container(cgroup: &str) -> Option<(String, Option<&'static str>)> {
    let mut groups = cgroup.rsplit('/');
    while let Some(group) = groups.next() {
        let name = group.strip_suffix(".scope").unwrap_or(group);
        let id = name.rsplit(['-', ':']).next()?;
        let whole = id.len() == 64 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if whole {
            let prefix = &name[..name.len() - id.len()];
            let above = groups.next().unwrap_or("");
            return Some((id[..12].to_string(), runtime(prefix, above)));
        }
    }
    None
}

/// `prefix` is what stands before the id in the group's own name, `above` the name of the group that holds it.
fn runtime(prefix: &str, above: &str) -> Option<&'static str> {
    match prefix.trim_end_matches(['-', ':']).rsplit(':').next()? {
        "docker" => Some("docker"),
        "cri-containerd" => Some("containerd"),
        "crio" => Some("cri-o"),
        "libpod" => Some("podman"),
        "" => match above {
            "docker" => Some("docker"),
            "libpod_parent" => Some("podman"),
            // containerd names the group above after its name space.
            "default" | "moby" | "k8s.io" => Some("containerd"),
            _ => None,
        },
        _ => None,
    }
}

/// The innermost systemd unit: a service, or a scope such as that of a login session.
pub fn unit(cgroup: &str) -> Option<String> {
    let is_unit = |group: &&str| {
        group.rsplit_once('.').is_some_and(|(name, kind)| {
            !name.is_empty() && matches!(kind, "service" | "scope" | "socket" | "mount" | "swap")
        })
    };
    cgroup.rsplit('/').find(is_unit).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_runtime_is_recognised_and_nothing_else() {
        let id = "0123456789ab".to_string() + &"c".repeat(52);
        for (form, runtime) in [
            (format!("/docker/{id}"), Some("docker")),
            (format!("/system.slice/docker-{id}.scope"), Some("docker")),
            (format!("/kubepods.slice/kubepods-pod1.slice/cri-containerd-{id}.scope"), Some("containerd")),
            (format!("/kubepods/besteffort/pod1/{id}"), None),
            (format!("/default/{id}"), Some("containerd")),
            (format!("/machine.slice/libpod-{id}.scope/container"), Some("podman")),
            (format!("/kubepods.slice/crio-{id}.scope"), Some("cri-o")),
            (format!("/kubepods-burstable-pod1.slice:cri-containerd:{id}"), Some("containerd")),
        ] {
            assert_eq!(container(&form), Some(("0123456789ab".to_owned(), runtime)), "{form}");
        }
        for form in
            ["/", "/user.slice/user-1000.slice/session-3.scope", &format!("/x/{}", &id[..63]), "/init.scope"]
        {
            assert_eq!(container(form), None, "{form}");
        }
    }

    #[test]
    fn the_innermost_unit_is_named() {
        for (group, name) in [
            ("/system.slice/nginx.service", Some("nginx.service")),
            ("/user.slice/user-1000.slice/session-3.scope", Some("session-3.scope")),
            ("/user.slice/user-1000.slice/user@1000.service/app.slice/app-x.service", Some("app-x.service")),
            ("/system.slice/fim.service/helper", Some("fim.service")),
            ("/user.slice", None),
            ("/", None),
        ] {
            assert_eq!(unit(group).as_deref(), name, "{group}");
        }
    }
}
