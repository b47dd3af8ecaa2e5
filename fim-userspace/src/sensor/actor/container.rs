//! The container a control group belongs to.

/// The container's id in the path of a control group, shortened to 12 digits as the tools print it.
///
/// Docker, containerd, CRI-O and Podman all name the group after the container's 64 hexadecimal digits:
/// `/docker/ID`, `docker-ID.scope`, `cri-containerd-ID.scope`, `crio-ID.scope`, `libpod-ID.scope`, `/kubepods/…/ID`.
pub fn container(cgroup: &str) -> Option<String> {
    cgroup.rsplit('/').find_map(|group| {
        let group = group.strip_suffix(".scope").unwrap_or(group);
        let id = group.rsplit(['-', ':']).next()?;
        let whole = id.len() == 64 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        whole.then(|| id[..12].to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_runtime_is_recognised_and_nothing_else() {
        let id = "0123456789ab".to_string() + &"c".repeat(52);
        for form in [
            format!("/docker/{id}"),
            format!("/system.slice/docker-{id}.scope"),
            format!("/kubepods.slice/kubepods-pod1.slice/cri-containerd-{id}.scope"),
            format!("/kubepods/besteffort/pod1/{id}"),
            format!("/machine.slice/libpod-{id}.scope/container"),
            format!("/kubepods.slice/crio-{id}.scope"),
            format!("/kubepods-burstable-pod1.slice:cri-containerd:{id}"),
        ] {
            assert_eq!(container(&form).as_deref(), Some("0123456789ab"), "{form}");
        }
        for form in
            ["/", "/user.slice/user-1000.slice/session-3.scope", &format!("/x/{}", &id[..63]), "/init.scope"]
        {
            assert_eq!(container(form), None, "{form}");
        }
    }
}
