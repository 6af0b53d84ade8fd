//! Log files that are replaced when they have grown: `--enable-log-rotation`,
//! with the names and rules of lumberjack, which etcd uses.
//!
//! `etcd.log` becomes `etcd-2026-01-31T13-05-59.000.log` and a new `etcd.log`
//! begins. A thread of its own removes what is too old or too much, and
//! compresses the rest, so that no log line waits for it.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};

use chrono::{Local, NaiveDateTime, TimeDelta, Utc};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;

const MEGABYTE: u64 = 1 << 20;
/// Size of a file where none is configured, in megabytes.
const DEFAULT_MEGABYTES: u64 = 100;
/// How the time of a rotation stands in a name.
const TIME: &str = "%Y-%m-%dT%H-%M-%S%.3f";
const COMPRESSED: &str = ".gz";

/// The settings of `--log-rotation-config-json`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rotation {
    /// Size at which a file is replaced, in bytes.
    max_bytes: u64,
    /// Days after which a replaced file is removed; 0 for never.
    max_days: u32,
    /// Replaced files that are kept; 0 for all.
    max_backups: usize,
    /// The time in names is the machine's own, not UTC.
    local_time: bool,
    /// Replaced files are compressed.
    compress: bool,
}

impl Rotation {
    /// Reads the settings.
    pub(super) fn parse(json: &str) -> Result<Rotation, String> {
        let wrong = |problem: String| format!("invalid log rotation config: {problem}");
        let value: Value = serde_json::from_str(json)
            .map_err(|e| format!("improperly formatted log rotation config: {e}"))?;
        let fields = value.as_object().ok_or_else(|| wrong("it is not an object".to_owned()))?;
        // As Go's JSON: the case of names does not matter, unknown ones neither.
        let field =
            |name: &str| fields.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, v)| v);
        let number = |name: &str| match field(name) {
            None | Some(Value::Null) => Ok(0),
            Some(value) => value
                .as_u64()
                .and_then(|number| u32::try_from(number).ok())
                .ok_or_else(|| wrong(format!("{name} must be a number that is not negative, not {value}"))),
        };
        let truth = |name: &str| match field(name) {
            None | Some(Value::Null) => Ok(false),
            Some(value) => {
                value.as_bool().ok_or_else(|| wrong(format!("{name} must be true or false, not {value}")))
            }
        };
        let megabytes = match number("maxsize")? {
            0 => DEFAULT_MEGABYTES,
            size => u64::from(size),
        };
        Ok(Rotation {
            max_bytes: megabytes * MEGABYTE,
            max_days: number("maxage")?,
            max_backups: number("maxbackups")? as usize,
            local_time: truth("localtime")?,
            compress: truth("compress")?,
        })
    }

    fn now(&self) -> NaiveDateTime {
        if self.local_time { Local::now().naive_local() } else { Utc::now().naive_utc() }
    }
}

/// A file that is replaced when it has grown.
pub(super) struct Rotated {
    files: Files,
    /// `None` after a failure: opened again by the next line.
    open: Option<(File, u64)>,
    cleaner: SyncSender<()>,
}

impl Rotated {
    /// Opens the file, to append to it.
    ///
    /// # Errors
    /// It cannot be opened.
    pub(super) fn open(path: &Path, rotation: Rotation) -> io::Result<Rotated> {
        let files = Files { path: path.to_owned(), rotation };
        let (cleaner, work) = sync_channel(1);
        let cleaning = files.clone();
        std::thread::Builder::new().name("skiff-logs".to_owned()).spawn(move || {
            while work.recv().is_ok() {
                // There is nowhere to log it; the next rotation tries again.
                let _ = cleaning.clean(cleaning.rotation.now());
            }
        })?;
        let mut rotated = Rotated { files, open: None, cleaner };
        rotated.reopen()?;
        rotated.clean();
        Ok(rotated)
    }

    fn reopen(&mut self) -> io::Result<()> {
        let file = self.files.open()?;
        let size = file.metadata()?.len();
        self.open = Some((file, size));
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.open = None;
        self.files.set_aside(self.files.rotation.now())?;
        self.reopen()?;
        self.clean();
        Ok(())
    }

    fn clean(&self) {
        // One that waits will see this one's work too.
        let _ = self.cleaner.try_send(());
    }
}

impl Write for Rotated {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.open.is_none() {
            self.reopen()?;
        }
        let max = self.files.rotation.max_bytes;
        if self.open.as_ref().is_some_and(|(_, size)| *size > 0 && size + line.len() as u64 > max) {
            self.rotate()?;
        }
        let Some((file, size)) = &mut self.open else { return Err(io::ErrorKind::NotFound.into()) };
        let written = file.write(line)?;
        *size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(()) // nothing is kept back
    }
}

/// A log file and those that it replaced.
#[derive(Debug, Clone)]
struct Files {
    path: PathBuf,
    rotation: Rotation,
}

impl Files {
    fn open(&self) -> io::Result<File> {
        fs::create_dir_all(self.dir())?;
        OpenOptions::new().create(true).append(true).mode(0o600).open(&self.path)
    }

    fn dir(&self) -> &Path {
        match self.path.parent() {
            Some(dir) if dir != Path::new("") => dir,
            _ => Path::new("."),
        }
    }

    /// What the names of replaced files begin and end with.
    fn ends(&self) -> (String, String) {
        let text = |part: Option<&OsStr>| part.map(|part| part.to_string_lossy().into_owned());
        let extension = text(self.path.extension()).map(|extension| format!(".{extension}"));
        let stem = text(self.path.file_stem()).unwrap_or_default();
        (format!("{stem}-"), extension.unwrap_or_default())
    }

    /// Gives the file the name of the moment.
    fn set_aside(&self, mut now: NaiveDateTime) -> io::Result<()> {
        let (prefix, suffix) = self.ends();
        loop {
            let name = self.dir().join(format!("{prefix}{}{suffix}", now.format(TIME)));
            let compressed = PathBuf::from(format!("{}{COMPRESSED}", name.display()));
            if name.exists() || compressed.exists() {
                now += TimeDelta::milliseconds(1);
                continue;
            }
            return match fs::rename(&self.path, name) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            };
        }
    }

    /// The time of a replaced file, by its name.
    fn time_of(&self, name: &str) -> Option<NaiveDateTime> {
        let (prefix, suffix) = self.ends();
        let name = name.strip_suffix(COMPRESSED).unwrap_or(name);
        let time = name.strip_prefix(&prefix)?.strip_suffix(&suffix)?;
        NaiveDateTime::parse_from_str(time, TIME).ok()
    }

    /// Removes and compresses what the settings say.
    fn clean(&self, now: NaiveDateTime) -> io::Result<()> {
        let Rotation { max_days, max_backups, compress, .. } = self.rotation;
        if max_days == 0 && max_backups == 0 && !compress {
            return Ok(());
        }
        let mut old: Vec<(NaiveDateTime, String)> = fs::read_dir(self.dir())?
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter_map(|name| Some((self.time_of(&name)?, name)))
            .collect();
        old.sort_by(|a, b| b.cmp(a)); // the newest first
        let oldest = now - TimeDelta::days(i64::from(max_days));
        let mut kept = BTreeSet::new();
        for (time, name) in old {
            kept.insert(time);
            let path = self.dir().join(&name);
            if (max_backups > 0 && kept.len() > max_backups) || (max_days > 0 && time < oldest) {
                fs::remove_file(path)?;
            } else if compress && !name.ends_with(COMPRESSED) {
                compress_file(&path)?;
            }
        }
        Ok(())
    }
}

/// Replaces a file by itself, compressed.
fn compress_file(path: &Path) -> io::Result<()> {
    let target = PathBuf::from(format!("{}{COMPRESSED}", path.display()));
    let copy = || {
        let mut source = File::open(path)?;
        let file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&target)?;
        let mut encoder = GzEncoder::new(file, Compression::default());
        io::copy(&mut source, &mut encoder)?;
        encoder.finish().map(drop)
    };
    match copy() {
        Ok(()) => fs::remove_file(path),
        Err(error) => {
            // Half a file is worse than none: the whole one is still there.
            let _ = fs::remove_file(&target);
            Err(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::time::{Duration, Instant};

    use super::*;

    fn rotation() -> Rotation {
        Rotation { max_bytes: 100, max_days: 0, max_backups: 0, local_time: false, compress: false }
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn settings_are_those_of_etcd() {
        let default =
            r#"{"maxsize": 100, "maxage": 0, "maxbackups": 0, "localtime": false, "compress": false}"#;
        assert_eq!(Rotation::parse(default).unwrap(), Rotation { max_bytes: 100 << 20, ..rotation() });
        assert_eq!(Rotation::parse("{}"), Rotation::parse(default));
        let all =
            r#"{"MaxSize": 1, "maxage": 2, "maxbackups": 3, "localtime": true, "compress": true, "x": 1}"#;
        assert_eq!(
            Rotation::parse(all).unwrap(),
            Rotation { max_bytes: 1 << 20, max_days: 2, max_backups: 3, local_time: true, compress: true }
        );
        for (json, want) in [
            (r#"{"maxsize": 1"#, "improperly formatted log rotation config"),
            (r#"{"maxsize": "x"}"#, "invalid log rotation config: maxsize"),
            (r#"{"maxage": -1}"#, "invalid log rotation config: maxage"),
            (r#"{"compress": 1}"#, "invalid log rotation config: compress"),
            ("[]", "invalid log rotation config"),
        ] {
            let error = Rotation::parse(json).unwrap_err();
            assert!(error.contains(want), "{json}: {error}");
        }
    }

    #[test]
    fn no_line_is_lost_and_no_file_grows_too_large() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("logs/etcd.log");
        let mut log = Rotated::open(&path, rotation()).unwrap();
        for number in 0..40 {
            log.write_all(format!("a line of some length {number:03}\n").as_bytes()).unwrap();
        }
        drop(log);
        // Opened again it goes on where it was.
        let mut log = Rotated::open(&path, rotation()).unwrap();
        log.write_all(b"a line of some length 040\n").unwrap();
        let names = names(path.parent().unwrap());
        assert_eq!(names.len(), 14, "three lines a file: {names:?}");
        assert_eq!(names.last().unwrap(), "etcd.log");
        let files = Files { path: path.clone(), rotation: rotation() };
        let mut all = String::new();
        for name in &names {
            let text = fs::read_to_string(path.with_file_name(name)).unwrap();
            assert!(text.len() <= 100, "{name}");
            assert!(name == "etcd.log" || files.time_of(name).is_some(), "{name}");
            all += &text;
        }
        let want: String = (0..=40).map(|n| format!("a line of some length {n:03}\n")).collect();
        assert_eq!(all, want);
    }

    #[test]
    fn names_are_those_of_lumberjack() {
        let files = Files { path: "/var/log/foo/server.log".into(), rotation: rotation() };
        let time = files.time_of("server-2016-11-04T18-30-00.000.log").unwrap();
        assert_eq!(time.format(TIME).to_string(), "2016-11-04T18-30-00.000");
        assert_eq!(files.time_of("server-2016-11-04T18-30-00.000.log.gz"), Some(time));
        for other in [
            "server.log",
            "server-x.log",
            "serverx-2016-11-04T18-30-00.000.log",
            "server-2016-11-04T18-30-00.000",
        ] {
            assert_eq!(files.time_of(other), None, "{other}");
        }
        let bare = Files { path: "server".into(), rotation: rotation() };
        assert_eq!(bare.time_of("server-2016-11-04T18-30-00.000"), Some(time));
    }

    #[test]
    fn what_is_old_or_too_much_goes_and_the_rest_is_compressed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("etcd.log");
        let write = |name: &str| fs::write(dir.path().join(name), name).unwrap();
        for name in [
            "etcd.log",
            "other.txt",
            "etcd-2020-01-01T00-00-00.000.log",
            "etcd-2020-01-02T00-00-00.000.log.gz",
        ] {
            write(name);
        }
        for name in ["etcd-2020-01-03T00-00-00.000.log", "etcd-2020-01-04T00-00-00.000.log"] {
            write(name);
        }
        let now = NaiveDateTime::parse_from_str("2020-01-05T00-00-00.000", TIME).unwrap();
        let mut files = Files { path, rotation: Rotation { max_backups: 3, ..rotation() } };
        files.clean(now).unwrap();
        assert_eq!(names(dir.path()).len(), 5, "{:?}", names(dir.path()));
        files.rotation = Rotation { max_days: 2, compress: true, ..rotation() };
        files.clean(now).unwrap();
        let left = [
            "etcd-2020-01-03T00-00-00.000.log.gz",
            "etcd-2020-01-04T00-00-00.000.log.gz",
            "etcd.log",
            "other.txt",
        ];
        assert_eq!(names(dir.path()), left);
        let mut text = String::new();
        let compressed = File::open(dir.path().join(left[0])).unwrap();
        flate2::read::GzDecoder::new(compressed).read_to_string(&mut text).unwrap();
        assert_eq!(text, "etcd-2020-01-03T00-00-00.000.log");
    }

    #[test]
    fn cleaning_follows_a_rotation() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("etcd.log");
        let mut log = Rotated::open(&path, Rotation { max_backups: 1, ..rotation() }).unwrap();
        for _ in 0..10 {
            log.write_all(&[b'x'; 90]).unwrap();
        }
        let deadline = Instant::now() + Duration::from_secs(60);
        while names(dir.path()).len() != 2 {
            assert!(Instant::now() < deadline, "{:?}", names(dir.path()));
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn a_folder_that_is_gone_costs_lines_and_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("logs/etcd.log");
        let mut log = Rotated::open(&path, rotation()).unwrap();
        log.write_all(&[b'x'; 90]).unwrap();
        fs::remove_dir_all(dir.path().join("logs")).unwrap();
        fs::write(dir.path().join("logs"), "a file is in the way").unwrap();
        assert!(log.write_all(&[b'y'; 90]).is_err());
        assert!(log.write_all(&[b'y'; 90]).is_err());
        fs::remove_file(dir.path().join("logs")).unwrap();
        log.write_all(&[b'z'; 90]).unwrap();
        assert_eq!(fs::read(&path).unwrap(), [b'z'; 90]);
    }
}
