//! Debian's kernels: found, downloaded, checked and unpacked by the machine's own apt, through the machine's own mirror.
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::mirror::Mirror;
use crate::sh;

/// Series and the suites that have it.
const SERIES: [(&str, &[&str]); 4] = [
    ("5.10", &["bullseye-security"]),
    ("6.1", &["bookworm", "bookworm-security"]),
    ("6.12", &["trixie", "trixie-security"]),
    ("7.3", &["trixie-backports"]),
];

#[derive(Clone, Debug)]
pub struct Kernel {
    /// "6.1", or the folder's name for a user's own kernel.
    pub name: String,
    pub vmlinuz: PathBuf,
    /// The contents of /lib/modules/RELEASE.
    pub modules: PathBuf,
}

/// The wanted kernels (all when `names` is empty), from the user's folder or from Debian.
pub fn kernels(names: &[String], folder: Option<&Path>) -> Result<Vec<Kernel>> {
    match folder {
        Some(folder) => from_folder(folder, names),
        None => {
            let all = SERIES.map(|(series, _)| series.to_owned()).to_vec();
            let names = if names.is_empty() { &all } else { names };
            names.iter().map(|name| debian(name)).collect()
        }
    }
}

fn from_folder(folder: &Path, names: &[String]) -> Result<Vec<Kernel>> {
    let listing = fs::read_dir(folder)
        .with_context(|| format!("cannot read the kernels' folder {}", folder.display()))?;
    let mut found: Vec<Kernel> = listing.filter_map(|entry| open(&entry.ok()?.path())).collect();
    found.sort_by_key(|kernel| version_key(&kernel.name));
    if !names.is_empty() {
        if let Some(name) = names.iter().find(|name| found.iter().all(|kernel| kernel.name != **name)) {
            bail!("{} has no kernel {name}: expected {name}/vmlinuz and {name}/modules/", folder.display());
        }
        found.retain(|kernel| names.contains(&kernel.name));
    }
    if found.is_empty() {
        bail!("no kernels in {}: each needs a folder NAME with vmlinuz and modules/ in it", folder.display());
    }
    Ok(found)
}

fn open(dir: &Path) -> Option<Kernel> {
    let kernel = Kernel {
        name: dir.file_name()?.to_str()?.to_owned(),
        vmlinuz: dir.join("vmlinuz"),
        modules: dir.join("modules"),
    };
    (kernel.vmlinuz.is_file() && kernel.modules.is_dir()).then_some(kernel)
}

/// Where what was downloaded stays.
pub fn cache(what: &str) -> Result<PathBuf> {
    let base = match std::env::var_os("XDG_CACHE_HOME").filter(|dir| Path::new(dir).is_absolute()) {
        Some(dir) => PathBuf::from(dir),
        None => PathBuf::from(std::env::var_os("HOME").context("neither XDG_CACHE_HOME nor HOME is set")?)
            .join(".cache"),
    };
    Ok(base.join("fim").join(what))
}

fn debian(series: &str) -> Result<Kernel> {
    let dir = cache("kernels")?.join(series);
    if let Some(kernel) = open(&dir) {
        return Ok(kernel);
    }
    let Some((_, suites)) = SERIES.iter().find(|(known, _)| *known == series) else {
        let known = SERIES.map(|(series, _)| series).join(", ");
        bail!("kernel {series} is not one of {known}; for others use --kernels DIR");
    };
    let work = cache("kernels")?.join(format!(".{series}.{}", std::process::id()));
    let result = download(series, suites, &work, &dir);
    // Only a helper's leftovers; the kernel itself was moved away.
    let _ = fs::remove_dir_all(&work);
    result.with_context(|| {
        format!("cannot get Debian's kernel {series}; a folder of your own kernels works too: --kernels DIR")
    })?;
    open(&dir).with_context(|| format!("{} lacks vmlinuz or modules/", dir.display()))
}

fn download(series: &str, suites: &[&str], work: &Path, dir: &Path) -> Result<()> {
    let apt = Apt::new(work, &Mirror::of_this_machine()?, suites)?;
    sh::quiet(apt.command("apt-get").args(["update", "-qq"]))?;
    let packages = newest(
        &sh::output(apt.command("apt-cache").args(["search", "--names-only", "^linux-.*cloud-amd64$"]))?,
        series,
    )
    .with_context(|| format!("no kernel {series} in {}", suites.join(", ")))?;
    println!("kernel {series}: downloading {}", packages.join(" "));
    sh::quiet(apt.command("apt-get").current_dir(work).args(["download", "-qq"]).args(&packages))?;
    let tree = work.join("tree");
    for entry in fs::read_dir(work)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            sh::quiet(Command::new("dpkg-deb").arg("-x").arg(&path).arg(&tree))?;
        }
    }
    arrange(&tree, work, dir)
}

/// Moves the two things needed out of the unpacked packages; the final rename makes them visible at once.
fn arrange(tree: &Path, work: &Path, dir: &Path) -> Result<()> {
    let ready = work.join("ready");
    fs::create_dir_all(&ready)?;
    let modules = ["lib/modules", "usr/lib/modules"]
        .iter()
        .filter_map(|sub| fs::read_dir(tree.join(sub)).ok()?.next()?.ok())
        .map(|entry| entry.path())
        .find(|path| path.join("kernel").is_dir())
        .context("the packages hold no modules")?;
    let release = modules.file_name().context("no release")?.to_string_lossy().into_owned();
    let places = [tree.join("boot").join(format!("vmlinuz-{release}")), modules.join("vmlinuz")];
    let vmlinuz = places.iter().find(|path| path.is_file()).context("the packages hold no vmlinuz")?;
    fs::rename(vmlinuz, ready.join("vmlinuz"))?;
    fs::rename(&modules, ready.join("modules"))?;
    fs::write(ready.join("release"), &release)?;
    if dir.exists() {
        fs::remove_dir_all(dir).with_context(|| format!("cannot replace {}", dir.display()))?;
    }
    fs::rename(&ready, dir).with_context(|| format!("cannot create {}", dir.display()))
}

/// The packages of a series' newest kernel: linux-image alone, or linux-image with linux-binary and linux-modules.
fn newest(search: &str, series: &str) -> Option<Vec<String>> {
    let names = search.lines().filter_map(|line| line.split_whitespace().next());
    let parsed: Vec<(&str, &str)> = names
        .filter_map(|name| {
            let (_, version) = ["linux-image-", "linux-binary-", "linux-modules-"]
                .iter()
                .find_map(|prefix| Some((prefix, name.strip_prefix(prefix)?)))?;
            let version = version.strip_suffix("-cloud-amd64")?;
            // "linux-image-6.1-cloud-amd64" is only a name for the newest one.
            (version.starts_with(&format!("{series}."))).then_some((name, version))
        })
        .collect();
    let best = parsed.iter().map(|(_, version)| *version).max_by_key(|version| version_key(version))?;
    Some(parsed.iter().filter(|(_, version)| *version == best).map(|(name, _)| (*name).to_owned()).collect())
}

/// Orders "6.1.0-9" before "6.1.0-56".
fn version_key(version: &str) -> Vec<(u64, String)> {
    let mut key = Vec::new();
    let mut rest = version;
    while !rest.is_empty() {
        let text_len = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let (text, tail) = rest.split_at(text_len);
        let digits = tail.find(|c: char| !c.is_ascii_digit()).unwrap_or(tail.len());
        let (number, tail) = tail.split_at(digits);
        key.push((u64::MAX, text.to_owned()));
        key.push((number.parse().unwrap_or(0), String::new()));
        rest = tail;
    }
    key
}

/// apt with a configuration of its own: it never touches the machine's lists and needs no root.
struct Apt {
    config: PathBuf,
}

impl Apt {
    fn new(work: &Path, mirror: &Mirror, suites: &[&str]) -> Result<Apt> {
        let (lists, cache) = (work.join("lists"), work.join("cache"));
        fs::create_dir_all(lists.join("partial"))?;
        fs::create_dir_all(cache.join("archives/partial"))?;
        let list = work.join("sources.list");
        let mut sources = String::new();
        for suite in suites {
            sources.push_str(&mirror.source_line(suite)?);
        }
        fs::write(&list, sources)?;
        let user =
            nix::unistd::User::from_uid(nix::unistd::geteuid())?.map_or("root".to_owned(), |user| user.name);
        let config = work.join("apt.conf");
        // An old suite is not refreshed any more, so its lists may be past their date.
        let text = format!(
            "Dir::Etc::SourceList \"{}\";\nDir::Etc::SourceParts \"/dev/null\";\nDir::State::Lists \"{}\";\n\
             Dir::Cache \"{}\";\nAPT::Sandbox::User \"{user}\";\nAPT::Architecture \"amd64\";\n\
             Acquire::Languages \"none\";\nAcquire::Retries \"3\";\nAcquire::Check-Valid-Until \"false\";\n",
            list.display(),
            lists.display(),
            cache.display(),
        );
        fs::write(&config, text)?;
        Ok(Apt { config })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("APT_CONFIG", &self.config);
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_newest_kernel_of_a_series() {
        let search = "linux-image-6.1-cloud-amd64 - meta\nlinux-image-6.1.0-9-cloud-amd64 - x\n\
                      linux-image-6.1.0-56-cloud-amd64 - x\nlinux-image-6.12.1+deb13-cloud-amd64 - x\n\
                      linux-image-6.1.0-0.deb11.52-cloud-amd64 - x\nlinux-image-6.1.0-57-cloud-amd64-dbg - x";
        assert_eq!(newest(search, "6.1"), Some(vec!["linux-image-6.1.0-56-cloud-amd64".to_owned()]));
        assert_eq!(newest(search, "6.12"), Some(vec!["linux-image-6.12.1+deb13-cloud-amd64".to_owned()]));
        assert_eq!(newest(search, "7.3"), None);
    }

    #[test]
    fn takes_image_and_modules_of_the_same_version() {
        let search = "linux-binary-7.3.4+deb13-cloud-amd64 - x\nlinux-binary-unsigned-7.3.9+deb13-cloud-amd64 - x\n\
                      linux-modules-7.3.4+deb13-cloud-amd64 - x\nlinux-modules-7.3.2+deb13-cloud-amd64 - x";
        assert_eq!(
            newest(search, "7.3"),
            Some(vec![
                "linux-binary-7.3.4+deb13-cloud-amd64".to_owned(),
                "linux-modules-7.3.4+deb13-cloud-amd64".to_owned()
            ])
        );
    }
}
