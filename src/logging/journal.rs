//! Log lines to systemd's journal, by its own protocol: a datagram of fields.

use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;
use std::path::Path;

/// Where the journal listens.
pub(super) const SOCKET: &str = "/run/systemd/journal/socket";

/// Sends each line as an entry of the journal.
pub(super) struct Journal(UnixDatagram);

impl Journal {
    /// Connects to the journal.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn connect(socket: &Path) -> io::Result<Journal> {
        let datagrams = UnixDatagram::unbound()?;
        datagrams.connect(socket)?;
        // A journal that does not keep up costs lines, not time.
        datagrams.set_nonblocking(true)?;
        Ok(Journal(datagrams))
    }
}

impl Write for Journal {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        let message = text.trim_end().replace('\n', " ");
        let priority = priority(&message);
        let entry = format!("PRIORITY={priority}\nSYSLOG_IDENTIFIER=skiff\nMESSAGE={message}\n");
        self.0.send(entry.as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The syslog number of a line's level, in either format.
fn priority(line: &str) -> u8 {
    let is = |level: &str| {
        let shown = line.split('\t').nth(1);
        line.starts_with(&format!("{{\"level\":\"{level}\"")) || shown == Some(&level.to_ascii_uppercase())
    };
    [("error", 3), ("warn", 4), ("debug", 7)].into_iter().find(|(level, _)| is(level)).map_or(6, |(_, n)| n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_entries_with_their_level() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("socket");
        assert!(Journal::connect(&socket).is_err());
        let receiver = UnixDatagram::bind(&socket).unwrap();
        let mut journal = Journal::connect(&socket).unwrap();
        for (line, priority) in [
            ("{\"level\":\"warn\",\"msg\":\"a\"}\n", 4),
            ("{\"level\":\"info\",\"msg\":\"an \\\"error\\\"\"}\n", 6),
            ("2026-01-01T00:00:00Z\tERROR\ta.rs:1\tb\n", 3),
            ("2026-01-01T00:00:00Z\tDEBUG\ta.rs:1\tb\n", 7),
        ] {
            journal.write_all(line.as_bytes()).unwrap();
            let mut buffer = [0; 512];
            let length = receiver.recv(&mut buffer).unwrap();
            let want = format!("PRIORITY={priority}\nSYSLOG_IDENTIFIER=skiff\nMESSAGE={line}");
            assert_eq!(String::from_utf8_lossy(&buffer[..length]), want);
        }
    }
}
