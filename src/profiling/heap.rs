//! Profiles of the heap, sampled by the allocator.
//!
//! jemalloc notes the stack of about one allocation in half a MiB, from the
//! moment it is told to. It writes what it noted as text into a file, here one
//! that lies in memory alone; `dump` reads the text, and the addresses in it get
//! their names from the program's own symbols.
//!
//! What RocksDB allocates is not seen: C++ has its own allocator.

use std::collections::HashMap;
use std::ffi::c_void;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use rustix::fs::{MemfdFlags, memfd_create};
use tikv_jemalloc_ctl::{Access, AsName};

use super::dump::{self, Dump};
use super::encode::{Frame, Profile, ValueType};

/// Most bytes of the allocator's text that are read; a stack takes some hundred.
const MAX_DUMP: u64 = 256 << 20;

/// What the names of the allocator's own functions look like; readers leave
/// them out, and what they call.
const OWN_FRAMES: &str =
    r"_rjem_.*|.*__rust_(alloc|realloc|alloc_zeroed)|.*tikv_jemallocator.*|<?alloc::(alloc|raw_vec)::.*";

const SAMPLE_TYPES: [ValueType; 4] = [
    ("alloc_objects", "count"),
    ("alloc_space", "bytes"),
    ("inuse_objects", "count"),
    ("inuse_space", "bytes"),
];

/// Where the allocator writes to; made by [`start`].
static TARGET: OnceLock<Result<Target, String>> = OnceLock::new();

/// A file in memory, and the path under which the allocator opens it.
struct Target {
    file: Mutex<File>,
    /// Ends with a zero byte. The allocator's interface wants one that lives for ever.
    path: &'static str,
    begun: SystemTime,
}

/// Which of a profile's values is looked at first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum First {
    /// What is allocated now.
    InUse,
    /// What was ever allocated since the start.
    Allocated,
}

/// Begins to sample, once for the process.
pub(super) fn start() {
    if let Err(problem) = TARGET.get_or_init(begin) {
        tracing::warn!(problem, "profiles of the heap are not served");
    }
}

fn begin() -> Result<Target, String> {
    let error = |what: &str, error: &dyn std::fmt::Display| format!("{what}: {error}");
    let able: bool =
        "opt.prof\0".name().read().map_err(|e| error("this build's allocator keeps no profiles", &e))?;
    if !able {
        return Err("the allocator was built without its settings (.cargo/config.toml in the sources); \
                    start with the environment variable _RJEM_MALLOC_CONF=prof:true,prof_accum:true"
            .to_owned());
    }
    let file = memfd_create("heap-profile", MemfdFlags::CLOEXEC)
        .map_err(|e| error("no file in memory can be made", &e))?;
    let path = format!("/proc/self/fd/{}\0", file.as_raw_fd());
    "prof.active\0".name().write(true).map_err(|e| error("the allocator does not begin to sample", &e))?;
    Ok(Target { file: Mutex::new(File::from(file)), path: path.leak(), begun: SystemTime::now() })
}

/// The profile of this moment, compressed.
///
/// # Errors
/// The allocator keeps none, or what it wrote cannot be read.
pub(super) fn profile(first: First) -> Result<Vec<u8>, String> {
    let target = TARGET.get().ok_or("profiles of the heap were not begun")?.as_ref().map_err(Clone::clone)?;
    let text = target.dump()?;
    let encoded = encode(&dump::parse(&text)?, first, target.begun);
    // It would be the largest thing on the next profile.
    backtrace::clear_symbol_cache();
    encoded.map_err(|error| error.to_string())
}

impl Target {
    fn dump(&self) -> Result<String, String> {
        let mut file = self.file.lock();
        "prof.dump\0".name().write(self.path).map_err(|e| format!("the allocator writes no profile: {e}"))?;
        let mut text = Vec::new();
        file.seek(SeekFrom::Start(0))
            .and_then(|_| Read::by_ref(&mut *file).take(MAX_DUMP).read_to_end(&mut text))
            .and_then(|_| file.set_len(0))
            .map_err(|e| format!("the allocator's profile cannot be read: {e}"))?;
        // Only the paths of mapped files may be no text.
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}

fn encode(dump: &Dump, first: First, begun: SystemTime) -> std::io::Result<Vec<u8>> {
    let time = begun.elapsed().unwrap_or(Duration::ZERO);
    let period = i64::try_from(dump.interval).unwrap_or(i64::MAX);
    let mut profile = Profile::new(SystemTime::now(), time, &SAMPLE_TYPES, (("space", "bytes"), period));
    profile.leave_out(OWN_FRAMES);
    profile.look_first_at(match first {
        First::InUse => "inuse_space",
        First::Allocated => "alloc_space",
    });
    let mut names: HashMap<u64, Vec<Frame>> = HashMap::new();
    for stack in &dump.stacks {
        for address in &stack.addresses {
            names.entry(*address).or_insert_with(|| frames(*address));
        }
        let frames = stack.addresses.iter().flat_map(|address| names[address].iter().cloned());
        let (ever, now) = (stack.ever.scaled(dump.interval), stack.now.scaled(dump.interval));
        profile.add(frames, vec![ever.count, ever.bytes, now.count, now.bytes], None);
    }
    profile.finish()
}

/// The functions at an address that a call returns to, the innermost first.
fn frames(address: u64) -> Vec<Frame> {
    let mut frames = Vec::new();
    // The call lies before where it returns to.
    let at = address.saturating_sub(1) as usize as *mut c_void;
    backtrace::resolve(at, |symbol| {
        let file = symbol.filename().map(|path| path.display().to_string());
        frames.push(Frame {
            function: symbol.name().map_or_else(|| format!("{address:#x}"), |name| format!("{name:#}")),
            file: file.unwrap_or_default(),
            line: symbol.lineno().unwrap_or(0),
        });
    });
    if frames.is_empty() {
        frames.push(Frame { function: format!("{address:#x}"), file: String::new(), line: 0 });
    }
    frames
}
