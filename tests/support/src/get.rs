//! A plain HTTP request, for what is no gRPC.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::{Fault, Member};

/// How long an answer may take; profiles take as long as they are asked to.
const PATIENCE: Duration = Duration::from_secs(60);

impl Member {
    /// The status line and the body of what a GET of `path` at the client port answers.
    ///
    /// # Errors
    /// There is no answer, or it is no HTTP.
    pub fn get(&self, path: &str) -> Result<(String, Vec<u8>), Fault> {
        let mut stream = TcpStream::connect(self.address())?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply)?;
        let end = reply.windows(4).position(|part| part == b"\r\n\r\n").ok_or("the answer has no head")?;
        let status = String::from_utf8_lossy(&reply[..end]).lines().next().unwrap_or_default().to_owned();
        Ok((status, reply.split_off(end + 4)))
    }
}
