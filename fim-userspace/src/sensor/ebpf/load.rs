//! Loads the object for one tier and attaches every hook that the kernel has.

use std::os::fd::{AsFd, OwnedFd};

use aya::maps::{HashMap, Map, MapData, RingBuf};
use aya::programs::{BtfTracePoint, FEntry, Iter, Lsm, Program, ProgramError, ProgramFd};
use aya::{Ebpf as Object, EbpfLoader};
use fim_common::{ABSENT, Hook, InodeKey, ProcessRecord, Settings, Slots, TaskKey, Watched};

use super::attach::{Attachment, HookState};
use super::btf::Btf;
use super::tally::Tally;
use crate::core::tier::Tier;

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/fim-ebpf"));

/// Fields that some kernel may lack, at the price of what they tell of a process.
const DISPENSABLE: [&str; 11] = [
    "task_struct.task_exec_id",
    "task_struct.task_pids",
    "task_struct.task_fs",
    "task_struct.task_cgroups",
    "signal_struct.signal_tty",
    "tty_struct.",
    "pid.",
    "fs_struct.",
    "css_set.",
    "cgroup.",
    "kernfs_node.",
];

/// Repetitions of one process on one file within this time are counted, not sent.
const COLLAPSE_NS: u64 = 100_000_000;

/// The loaded programs with their maps; dropping it detaches all of them.
pub struct Loaded {
    object: Object,
    hooks: Vec<HookState>,
    maps: Maps,
}

/// What programs and daemon share.
pub struct Maps {
    pub process: HashMap<MapData, TaskKey, ProcessRecord>,
    pub current: HashMap<MapData, u32, u64>,
    pub watched: HashMap<MapData, InodeKey, Watched>,
    pub tally: Tally,
    pub events: RingBuf<MapData>,
}

/// Loads and attaches for `tier`. The error says in a sentence why this tier cannot be had.
///
/// # Errors
/// When the kernel refuses the maps, the process table, or all hooks on files.
pub fn load(tier: Tier, kernel: &Btf, ring_bytes: u32) -> Result<Loaded, String> {
    let (offsets, missing) = kernel.offsets();
    let needed = |field: &&&str| {
        let dispensable = DISPENSABLE.iter().any(|name| field.starts_with(name));
        let of_processes = field.starts_with("task_struct") || field.starts_with("cred");
        !dispensable && (tier.hooks_files() || of_processes)
    };
    if let Some(field) = missing.iter().find(needed) {
        return Err(format!(
            "the kernel's types lack {field}, which this version of fim needs; a newer fim may know it"
        ));
    }
    let (settings, found) = settings(tier, kernel);
    let types = aya::Btf::from_sys_fs().map_err(|e| format!("the kernel's types cannot be read ({e})"))?;
    raise_memlock();
    let mut object = EbpfLoader::new()
        .btf(Some(&types))
        .override_global("OFFSETS", &offsets, true)
        .override_global("SETTINGS", &settings, true)
        .map_max_entries("EVENTS", ring_bytes)
        .load(OBJECT)
        .map_err(|error| refusal(&error))?;

    let (mut hooks, mut programs) = (Vec::new(), Vec::new());
    for hook in Hook::ALL.iter().copied().filter(|hook| hook.is_process()) {
        let refused = |error| format!("{}: {}", hook.name(), program_refusal(&error));
        let program = attach_tracepoint(&mut object, "tp", hook, &types).map_err(refused)?;
        attach_tracepoint(&mut object, "again", hook, &types).map_err(refused)?;
        programs.push((hook, program));
        hooks.push(HookState { hook, attachment: Attachment::Attached });
    }
    enter_older_processes(&mut object, &types)?;
    for (hook, found) in Hook::ALL.iter().copied().filter(|hook| !hook.is_process()).zip(found) {
        let attachment = match found {
            _ if !tier.hooks_files() => Attachment::Unused,
            Found::Absent => Attachment::Absent,
            Found::Strange(argument) => Attachment::Failed(format!("the kernel calls it without {argument}")),
            Found::Present => match attach_hook(&mut object, tier, hook, &types) {
                Ok(program) => {
                    programs.push((hook, program));
                    Attachment::Attached
                }
                Err(error) => Attachment::Failed(program_refusal(&error)),
            },
        };
        hooks.push(HookState { hook, attachment });
    }
    let loaded = with_maps(object, hooks, programs)?;
    if tier.hooks_files() { proved(loaded) } else { Ok(loaded) }
}

/// Whether the kernel has a hook, and in the form expected.
enum Found {
    Present,
    Absent,
    Strange(&'static str),
}

/// The settings of a run, and for each hook on files what the kernel has.
fn settings(tier: Tier, kernel: &Btf) -> (Settings, Vec<Found>) {
    let mut settings = Settings {
        own_tgid: std::process::id(),
        pad: 0,
        collapse_ns: COLLAPSE_NS,
        slots: [Slots { of: [ABSENT; 4], verdict: ABSENT }; Hook::COUNT],
    };
    let prefix = if tier == Tier::Lsm { "bpf_lsm_" } else { "security_" };
    let found = Hook::ALL.iter().filter(|hook| !hook.is_process()).map(|hook| {
        let Some(signature) = kernel.signature(&format!("{prefix}{}", hook.name())) else {
            return Found::Absent;
        };
        match kernel.slots(*hook, &signature) {
            Ok(slots) => {
                settings.slots[*hook as usize] = slots;
                Found::Present
            }
            Err(argument) => Found::Strange(argument),
        }
    });
    let found = found.collect();
    (settings, found)
}

fn attach_tracepoint(
    object: &mut Object,
    prefix: &str,
    hook: Hook,
    types: &aya::Btf,
) -> Result<OwnedFd, ProgramError> {
    let program: &mut BtfTracePoint = program(object, &format!("{prefix}_{}", hook.name()))?.try_into()?;
    program.load(hook.name(), types)?;
    program.attach()?;
    descriptor(program.fd()?)
}

fn descriptor(program: &ProgramFd) -> Result<OwnedFd, ProgramError> {
    program.as_fd().try_clone_to_owned().map_err(ProgramError::IOError)
}

fn attach_hook(
    object: &mut Object,
    tier: Tier,
    hook: Hook,
    types: &aya::Btf,
) -> Result<OwnedFd, ProgramError> {
    let name = hook.name();
    if tier == Tier::Lsm {
        let program: &mut Lsm = program(object, &format!("lsm_{name}"))?.try_into()?;
        program.load(name, types)?;
        program.attach()?;
        descriptor(program.fd()?)
    } else {
        let program: &mut FEntry = program(object, &format!("fentry_{name}"))?.try_into()?;
        program.load(&format!("security_{name}"), types)?;
        program.attach()?;
        descriptor(program.fd()?)
    }
}

fn program<'a>(object: &'a mut Object, name: &str) -> Result<&'a mut Program, ProgramError> {
    object.program_mut(name).ok_or(ProgramError::UnexpectedProgramType)
}

/// Enters every process that is older than the tracepoints, with the kernel's own start times, which /proc rounds.
fn enter_older_processes(object: &mut Object, types: &aya::Btf) -> Result<(), String> {
    let mut walk = || -> Result<(), Box<dyn std::error::Error>> {
        let program: &mut Iter = program(object, "iter_task")?.try_into()?;
        program.load("task", types)?;
        let link = program.attach()?;
        let mut file = program.take_link(link)?.into_file()?;
        std::io::copy(&mut file, &mut std::io::sink())?;
        Ok(())
    };
    walk().map_err(|error| format!("the processes already running cannot be walked ({error})"))
}

fn with_maps(
    mut object: Object,
    hooks: Vec<HookState>,
    programs: Vec<(Hook, OwnedFd)>,
) -> Result<Loaded, String> {
    fn take<T: TryFrom<Map>>(object: &mut Object, name: &str) -> Result<T, String>
    where
        T::Error: std::fmt::Display,
    {
        let map = object
            .take_map(name)
            .ok_or_else(|| format!("the object has no map {name}; fim was built wrongly"))?;
        T::try_from(map).map_err(|error| format!("the map {name} cannot be used ({error})"))
    }
    let maps = Maps {
        process: take(&mut object, "PROCESS")?,
        current: take(&mut object, "CURRENT")?,
        watched: take(&mut object, "WATCHED")?,
        tally: Tally { counters: take(&mut object, "COUNTERS")?, programs },
        events: take(&mut object, "EVENTS")?,
    };
    Ok(Loaded { object, hooks, maps })
}

/// Attaching is not enough: where `bpf` is not an active LSM, the kernel attaches and never calls. So one operation
/// is made and must be counted.
fn proved(loaded: Loaded) -> Result<Loaded, String> {
    let of_files = || loaded.hooks.iter().filter(|state| !state.hook.is_process());
    if let Some(HookState { attachment: Attachment::Failed(reason), hook }) =
        of_files().find(|state| state.hook == Hook::FileOpen && state.attachment != Attachment::Attached)
    {
        return Err(format!("{}: {reason}", hook.name()));
    }
    let before = loaded.maps.tally.counted(Hook::FileOpen).seen;
    let opened = std::fs::OpenOptions::new().write(true).open("/dev/null");
    opened.map_err(|error| format!("/dev/null cannot be opened for the trial ({error})"))?;
    if loaded.maps.tally.counted(Hook::FileOpen).seen > before {
        return Ok(loaded);
    }
    Err(never_called())
}

fn never_called() -> String {
    let active = std::fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_default();
    let active = active.trim();
    if active.is_empty() {
        return "the kernel attaches the programs but never calls them: bpf is not an active security module; add \
                `bpf` to the lsm= parameter of the kernel's command line and boot again"
            .into();
    }
    format!(
        "bpf is not among the kernel's active security modules ({active}); boot with lsm={active},bpf on the kernel's \
         command line"
    )
}

/// Before 5.11 maps count against the limit of locked memory. Where it may not be raised, loading tells.
fn raise_memlock() {
    use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};
    if let Err(error) = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY) {
        tracing::debug!(%error, "the limit of locked memory stays");
    }
}

fn refusal(error: &aya::EbpfError) -> String {
    use std::error::Error as _;
    let cause = error.source().map(|source| format!(": {source}")).unwrap_or_default();
    format!("the kernel refuses the programs' maps ({error}{cause}); {}", advice(&format!("{error}{cause}")))
}

fn program_refusal(error: &ProgramError) -> String {
    if let ProgramError::LoadError { io_error, verifier_log } = error {
        let log = verifier_log.to_string();
        tracing::debug!(%log, "verifier");
        let mut last: Vec<&str> =
            log.lines().rev().filter(|line| !line.starts_with("processed")).take(3).collect();
        last.reverse();
        let last = last.join("; ");
        let said =
            if last.trim().is_empty() { String::new() } else { format!(", the verifier says: {last}") };
        return format!(
            "the kernel refuses the program ({io_error}{said}); {}",
            advice(&io_error.to_string())
        );
    }
    let text = match error {
        ProgramError::SyscallError(call) => format!("{}: {}", call.call, call.io_error),
        other => other.to_string(),
    };
    format!("the kernel refuses the program ({text}); {}", advice(&text))
}

/// What would change it.
fn advice(text: &str) -> &'static str {
    if text.contains("not permitted") || text.contains("ermission denied") {
        "run fim as root with CAP_BPF, CAP_PERFMON and CAP_SYS_ADMIN; where it has them already, the host or a kernel \
         lockdown forbids it"
    } else {
        "a kernel of a current distribution has what is needed (CONFIG_BPF_LSM, CONFIG_DEBUG_INFO_BTF, ftrace)"
    }
}

impl Loaded {
    pub fn split(self) -> (Object, Vec<HookState>, Maps) {
        (self.object, self.hooks, self.maps)
    }
}
