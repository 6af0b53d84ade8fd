//! The real etcd and its tools, fetched by `tests/oracle.sh`.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::Fault;

/// Paths of the real etcd and its tools.
#[derive(Debug, Clone)]
pub struct Oracle {
    /// The server.
    pub etcd: PathBuf,
    /// The client.
    pub etcdctl: PathBuf,
    /// The tool for files of a stopped member.
    pub etcdutl: PathBuf,
}

/// The build folder: `SKIFF_BUILD_DIR`, by default `$HOME/.cache/skiff`.
pub fn build_dir() -> PathBuf {
    std::env::var_os("SKIFF_BUILD_DIR").map(PathBuf::from).unwrap_or_else(|| {
        let home = std::env::var_os("HOME").map_or_else(|| PathBuf::from("/root"), PathBuf::from);
        home.join(".cache").join("skiff")
    })
}

/// Finds the oracle, fetching it first when it is missing.
///
/// # Panics
/// When it cannot be fetched; the message says why.
pub fn oracle() -> Oracle {
    let bin = build_dir().join("oracle").join("bin");
    let oracle =
        Oracle { etcd: bin.join("etcd"), etcdctl: bin.join("etcdctl"), etcdutl: bin.join("etcdutl") };
    if !(oracle.etcd.exists() && oracle.etcdctl.exists() && oracle.etcdutl.exists()) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join("oracle.sh");
        let status = Command::new("sh").arg(&script).status();
        assert!(
            status.is_ok_and(|status| status.success()),
            "{} could not get a real etcd to compare with",
            script.display()
        );
    }
    oracle
}

/// The result of a finished command.
#[derive(Debug, Clone)]
pub struct Finished {
    /// Exit code; -1 when a signal ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Finished {
    /// The standard output of a command that succeeded.
    ///
    /// # Panics
    /// When the command failed.
    pub fn ok(self) -> String {
        assert!(self.code == 0, "exit code {}\n{}\n{}", self.code, self.stdout, self.stderr);
        self.stdout
    }
}

impl From<Output> for Finished {
    fn from(output: Output) -> Self {
        Finished {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// Runs etcdctl with `args` against `endpoints`, with `input` on its standard input.
///
/// # Errors
/// When it cannot be started or does not end in a minute.
pub async fn etcdctl(
    program: &Path,
    endpoints: &str,
    args: &[&str],
    input: Option<&str>,
) -> Result<Finished, Fault> {
    use std::process::Stdio;
    let mut command = Command::new(program);
    command.env("ETCDCTL_API", "3").arg("--endpoints").arg(endpoints).args(args);
    let input = input.map(str::to_owned);
    command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let pid = child.id();
    let waiter = tokio::task::spawn_blocking(move || {
        if let (Some(text), Some(mut stdin)) = (input, child.stdin.take()) {
            use std::io::Write;
            // A command that ends early has read what it wanted.
            let _ = stdin.write_all(text.as_bytes());
        }
        child.wait_with_output()
    });
    match tokio::time::timeout(std::time::Duration::from_secs(60), waiter).await {
        Ok(output) => Ok(output??.into()),
        Err(_) => {
            crate::member::signal(pid, "KILL");
            Err(format!("etcdctl {} did not end in a minute", args.join(" ")).into())
        }
    }
}
