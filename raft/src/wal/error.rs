use std::io;
use std::path::PathBuf;

/// Why the log could not be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk failed; opening or reading may be tried again.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// What was being done, as a verb ("open", "read").
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },

    /// Something that was durable is damaged or gone. The member's data cannot
    /// be trusted and is refused as a whole: restore it from a snapshot, or
    /// replace the member.
    #[error("write-ahead log is corrupt: {} at offset {offset}: {reason}", path.display())]
    Corruption {
        /// The damaged file, or the missing one.
        path: PathBuf,
        /// Where in the file, in bytes.
        offset: u64,
        /// What is wrong there.
        reason: String,
    },

    /// The log was written by a newer release whose format this one does not know.
    #[error(
        "{} was written by a newer skiff: format {found}; this binary reads up to {supported}",
        path.display()
    )]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format this binary reads.
        supported: u32,
    },

    /// An entry does not fit into a batch.
    #[error("log entry {index} takes {bytes} bytes; at most {limit} fit")]
    EntryTooLarge {
        /// Its index.
        index: u64,
        /// Bytes it takes in the log.
        bytes: usize,
        /// Bytes that fit.
        limit: usize,
    },

    /// An entry does not follow the last one; the log may not have holes.
    #[error("log entry {index} does not follow the last one: expected {expected}")]
    Gap {
        /// The index appended.
        index: u64,
        /// The index that would follow.
        expected: u64,
    },

    /// The options contradict each other.
    #[error("write-ahead log options: {0}")]
    Options(String),

    /// The log is shut down.
    #[error("the write-ahead log is closed")]
    Closed,
}

impl Error {
    pub(super) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }

    pub(super) fn corruption(path: impl Into<PathBuf>, offset: u64, reason: impl Into<String>) -> Self {
        Self::Corruption { path: path.into(), offset, reason: reason.into() }
    }

    /// Whether this is damage, which no retry mends.
    pub fn is_corruption(&self) -> bool {
        matches!(self, Self::Corruption { .. })
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::Io { source, .. } => source.kind(),
            Error::Corruption { .. } | Error::NewerFormat { .. } => io::ErrorKind::InvalidData,
            Error::EntryTooLarge { .. } | Error::Gap { .. } | Error::Options(_) => {
                io::ErrorKind::InvalidInput
            }
            Error::Closed => io::ErrorKind::BrokenPipe,
        };
        io::Error::new(kind, error)
    }
}
