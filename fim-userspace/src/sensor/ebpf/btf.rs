//! Reads the kernel's own description of its types: where a field lies, and what a function takes.
//!
//! aya's `Btf` does not show the members of structs. Format: Documentation/bpf/btf.rst.

use std::collections::HashMap;
use std::path::Path;

use fim_common::{ABSENT, Hook, Offsets, Slots};

pub const PATH: &str = "/sys/kernel/btf/vmlinux";

#[derive(Debug, thiserror::Error)]
pub enum BtfError {
    #[error(
        "{PATH} cannot be read ({0}); it needs a kernel built with CONFIG_DEBUG_INFO_BTF=y, as distributions' kernels are"
    )]
    Unreadable(#[source] std::io::Error),
    #[error(
        "{PATH} is damaged or of a form that fim does not know (at byte {0}); report this with the kernel's version"
    )]
    Malformed(usize),
}

/// One parameter of a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Param {
    pub name: String,
    /// The struct it points to.
    pub points_to: Option<String>,
}

/// A function's parameters and result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    pub params: Vec<Param>,
    /// It returns something: a void hook has no earlier verdict to hand on.
    pub gives_verdict: bool,
}

const KIND_PTR: u8 = 2;
const KIND_STRUCT: u8 = 4;
const KIND_UNION: u8 = 5;
const KIND_FUNC: u8 = 12;
const KIND_FUNC_PROTO: u8 = 13;

struct Type {
    kind: u8,
    name: u32,
    /// Number of members or parameters.
    count: usize,
    bitfields: bool,
    /// The type referred to, for kinds that refer to one.
    target: u32,
    /// Where members or parameters start.
    body: usize,
}

pub struct Btf {
    data: Vec<u8>,
    strings: usize,
    /// Index 0 is void.
    types: Vec<Type>,
    structs: HashMap<String, Vec<u32>>,
    functions: HashMap<String, u32>,
}

impl Btf {
    pub fn of_running_kernel() -> Result<Self, BtfError> {
        Self::parse(std::fs::read(Path::new(PATH)).map_err(BtfError::Unreadable)?)
    }

    pub fn parse(data: Vec<u8>) -> Result<Self, BtfError> {
        const MAGIC: u16 = 0xeb9f;
        let header = |at: usize| word(&data, at).ok_or(BtfError::Malformed(at));
        if header(0)? as u16 != MAGIC {
            return Err(BtfError::Malformed(0));
        }
        let length = header(4)? as usize;
        let (start, size) = (length + header(8)? as usize, header(12)? as usize);
        let strings = length + header(16)? as usize;
        let mut btf =
            Self { data, strings, types: Vec::new(), structs: HashMap::new(), functions: HashMap::new() };
        btf.types.push(Type { kind: 0, name: 0, count: 0, bitfields: false, target: 0, body: 0 });
        let mut at = start;
        while at < start + size {
            at = btf.read_type(at).ok_or(BtfError::Malformed(at))?;
        }
        btf.index();
        Ok(btf)
    }

    /// Reads the type at `at`; gives where the next one starts.
    fn read_type(&mut self, at: usize) -> Option<usize> {
        let (name, info, target) =
            (word(&self.data, at)?, word(&self.data, at + 4)?, word(&self.data, at + 8)?);
        let kind = (info >> 24 & 0x1f) as u8;
        let count = (info & 0xffff) as usize;
        let body = at + 12;
        let size = match kind {
            1 | 14 | 17 => 4,
            2 | 7..=12 | 16 | 18 => 0,
            3 => 12,
            KIND_STRUCT | KIND_UNION | 15 | 19 => 12 * count,
            6 | KIND_FUNC_PROTO => 8 * count,
            _ => return None,
        };
        self.types.push(Type { kind, name, count, bitfields: info >> 31 == 1, target, body });
        (body + size <= self.data.len()).then_some(body + size)
    }

    fn index(&mut self) {
        for id in 0..self.types.len() {
            let Type { kind, name, .. } = self.types[id];
            let name = self.string(name);
            match kind {
                KIND_STRUCT if !name.is_empty() => self.structs.entry(name).or_default().push(id as u32),
                KIND_FUNC => {
                    self.functions.entry(name).or_insert(id as u32);
                }
                _ => {}
            }
        }
    }

    fn string(&self, offset: u32) -> String {
        let bytes = self.data.get(self.strings + offset as usize..).unwrap_or_default();
        let end = bytes.iter().position(|b| *b == 0).unwrap_or(0);
        String::from_utf8_lossy(&bytes[..end]).into_owned()
    }

    /// Byte offset of a member, also inside structs and unions without a name. `None`: no such member, or a bit field.
    pub fn member(&self, strukt: &str, member: &str) -> Option<u32> {
        self.structs.get(strukt)?.iter().find_map(|id| self.member_of(*id, member, 0))
    }

    fn member_of(&self, id: u32, wanted: &str, depth: u32) -> Option<u32> {
        let strukt = self.types.get(id as usize)?;
        if depth > 8 || !matches!(strukt.kind, KIND_STRUCT | KIND_UNION) {
            return None;
        }
        (0..strukt.count).find_map(|n| {
            let at = strukt.body + 12 * n;
            let (name, target, place) =
                (word(&self.data, at)?, word(&self.data, at + 4)?, word(&self.data, at + 8)?);
            let (bits, width) = if strukt.bitfields { (place & 0xff_ffff, place >> 24) } else { (place, 0) };
            let name = self.string(name);
            if name == wanted {
                return (width == 0 && bits % 8 == 0).then_some(bits / 8);
            }
            let inner = name.is_empty().then(|| self.member_of(self.bare(target), wanted, depth + 1))??;
            Some(bits / 8 + inner)
        })
    }

    /// The type without typedefs and qualifiers.
    fn bare(&self, mut id: u32) -> u32 {
        while let Some(Type { kind: 8..=11 | 18, target, .. }) = self.types.get(id as usize) {
            id = *target;
        }
        id
    }

    /// What a function takes; `None` when the kernel has none of this name.
    pub fn signature(&self, function: &str) -> Option<Signature> {
        let function = &self.types[*self.functions.get(function)? as usize];
        let proto = self.types.get(function.target as usize).filter(|t| t.kind == KIND_FUNC_PROTO)?;
        let params: Option<Vec<Param>> = (0..proto.count)
            .map(|n| {
                let at = proto.body + 8 * n;
                let name = self.string(word(&self.data, at)?);
                Some(Param { name, points_to: self.pointee(word(&self.data, at + 4)?) })
            })
            .collect();
        Some(Signature { params: params?, gives_verdict: proto.target != 0 })
    }

    fn pointee(&self, id: u32) -> Option<String> {
        let pointer = self.types.get(self.bare(id) as usize).filter(|t| t.kind == KIND_PTR)?;
        let target = self.types.get(self.bare(pointer.target) as usize)?;
        (target.kind == KIND_STRUCT).then(|| self.string(target.name))
    }

    /// Offsets of everything the programs read, and the names of what this kernel does not have.
    pub fn offsets(&self) -> (Offsets, Vec<&'static str>) {
        let mut missing = Vec::new();
        let offsets = Offsets::resolve(
            |strukt, spellings| spellings.iter().find_map(|member| self.member(strukt, member)),
            |field| missing.push(field),
        );
        (offsets, missing)
    }

    /// Positions of the arguments that `hook` reads from `function`. `Err` names an argument that is not there.
    pub fn slots(&self, hook: Hook, signature: &Signature) -> Result<Slots, &'static str> {
        let params = &signature.params;
        let mut slots = Slots {
            of: [ABSENT; 4],
            verdict: if signature.gives_verdict { params.len() as u32 } else { ABSENT },
        };
        for (n, wanted) in hook.wanted().iter().enumerate() {
            let found = params.iter().position(|param| match wanted.strip_prefix("struct ") {
                Some(strukt) => param.points_to.as_deref() == Some(strukt),
                None => param.name == *wanted,
            });
            match found {
                Some(position) => slots.of[n] = position as u32,
                // Only security_inode_rename has them, not the LSM hook.
                None if hook == Hook::InodeRename && *wanted == "flags" => {}
                None => return Err(wanted),
            }
        }
        Ok(slots)
    }
}

fn word(data: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(data.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Builds BTF of a few types: `struct outer { int a; struct { int b; int c; }; int bit:1; }` and
    /// `void hook(const struct outer *o, int prot)`.
    fn sample() -> Vec<u8> {
        let strings = b"\0outer\0a\0b\0c\0bit\0hook\0o\0prot\0int\0";
        let at = |text: &str| {
            let whole = format!("\0{text}\0");
            strings.windows(whole.len()).position(|w| w == whole.as_bytes()).expect("in the table") as u32 + 1
        };
        let info = |kind: u32, count: u32, flag: u32| flag << 31 | kind << 24 | count;
        let types: Vec<u32> = [
            vec![at("int"), info(1, 0, 0), 4, 32],                    // 1
            vec![0, info(4, 2, 0), 8, at("b"), 1, 0, at("c"), 1, 32], // 2
            vec![at("outer"), info(4, 3, 1), 16, at("a"), 1, 0, 0, 2, 32, at("bit"), 1, 1 << 24 | 96], // 3
            vec![0, info(10, 0, 0), 3],                               // 4 const
            vec![0, info(2, 0, 0), 4],                                // 5 pointer
            vec![0, info(13, 2, 0), 0, at("o"), 5, at("prot"), 1],    // 6
            vec![at("hook"), info(12, 0, 0), 6],                      // 7
        ]
        .concat();
        let mut data = vec![0x9f, 0xeb, 1, 0];
        for word in [24, 0, types.len() as u32 * 4, types.len() as u32 * 4, strings.len() as u32] {
            data.extend(word.to_ne_bytes());
        }
        types.iter().for_each(|word| data.extend(word.to_ne_bytes()));
        data.extend(strings);
        data
    }

    #[test]
    fn finds_members_also_in_structs_without_a_name() {
        let btf = Btf::parse(sample()).expect("sound");
        assert_eq!(btf.member("outer", "a"), Some(0));
        assert_eq!(btf.member("outer", "b"), Some(4));
        assert_eq!(btf.member("outer", "c"), Some(8));
        assert_eq!(btf.member("outer", "bit"), None);
        assert_eq!(btf.member("outer", "d"), None);
        assert_eq!(btf.member("inner", "a"), None);
    }

    #[test]
    fn tells_what_a_function_takes() {
        let btf = Btf::parse(sample()).expect("sound");
        let Signature { params, gives_verdict } = btf.signature("hook").expect("there");
        assert!(!gives_verdict);
        assert_eq!(params[0], Param { name: "o".into(), points_to: Some("outer".into()) });
        assert_eq!(params[1], Param { name: "prot".into(), points_to: None });
        assert_eq!(btf.signature("other"), None);
    }

    #[test]
    fn damaged_data_is_refused() {
        let whole = sample();
        assert!(matches!(Btf::parse(vec![0; 24]), Err(BtfError::Malformed(0))));
        assert!(Btf::parse(whole[..40].to_vec()).is_err());
    }

    #[test]
    fn this_kernel_has_every_field_and_argument() {
        let btf = Btf::of_running_kernel().expect("the machine's kernel has BTF");
        assert_eq!(btf.offsets().1, Vec::<&str>::new());
        for hook in Hook::ALL.iter().filter(|hook| !hook.is_process()) {
            for prefix in ["bpf_lsm_", "security_"] {
                if let Some(found) = btf.signature(&format!("{prefix}{}", hook.name())) {
                    assert!(btf.slots(*hook, &found).is_ok(), "{prefix}{}: {found:?}", hook.name());
                }
            }
        }
    }
}
